"""Permutations of hidden channels, which leave what a network computes as it was.

Where the symmetry lies is data (`Symmetry`): for each array the name of the permutation that acts
on each of its axes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from jaxinit import checks, trees
from jaxinit.models import resnet
from jaxinit.signatures import Symmetry

#: For the name of each permutation, which old channel comes in each place: new = old[permutation].
Permutations = Mapping[str, Int[Array | np.ndarray, " channels"]]


def resnet18(*, residual_first_stage: bool = True) -> Symmetry:
    """The symmetry of `jaxinit.ResNet18`: see `models.resnet.symmetry`.

    Args:
        residual_first_stage: As of the network. Static.
    """
    return resnet.symmetry(resnet.ResNet18(1, residual_first_stage))


def permute(variables: Any, symmetry: Symmetry, permutations: Permutations) -> Any:
    """Permutes the channels of a network, which leaves its function as it was.

    Args:
        variables: {"params": …, "batch_stats": …}, one of them alone, or another kind of network's
            tree: that which the symmetry is of.
        symmetry: Of this kind of network.
        permutations: Those to apply; names that are missing stand for no change.

    Raises:
        ValueError: A permutation of another length than the axis it acts on, or one that lacks a
            channel.
    """
    check_symmetry(symmetry)
    checks.mapping("permutations", permutations, "permutations by name, as match finds them")
    permutations = {
        name: own if hasattr(own, "shape") else np.asarray(own)
        for name, own in permutations.items()
    }
    for name, own in permutations.items():
        checks.array(f"permutation {name!r}", own, 1, jnp.integer)
        if not isinstance(own, Tracer) and not np.array_equal(np.sort(own), np.arange(len(own))):
            raise ValueError(
                f"permutation {name!r} must have each of the channels 0 to {len(own) - 1} once, or "
                "some are lost: find it by match, or draw it by jax.random.permutation"
            )

    def change(path: tuple[Any, ...], leaf: Any) -> Any:
        for axis, name in enumerate(symmetry.get(join(path), ())):
            if name is None or name not in permutations:
                continue
            if not trees.is_array(leaf) or len(leaf.shape) <= axis:
                raise ValueError(f"{join(path)} has no axis {axis}: it is of another network")
            if leaf.shape[axis] != len(permutations[name]):
                raise ValueError(
                    f"permutation {name!r} has {len(permutations[name])} places, but axis {axis} "
                    f"of {join(path)} has {leaf.shape[axis]}: it is of another network"
                )
            leaf = jnp.take(leaf, jnp.asarray(permutations[name]), axis=axis)
        return leaf

    return jax.tree_util.tree_map_with_path(change, variables)


def join(path: tuple[Any, ...]) -> str:
    """Joins the keys of a leaf of any tree: "params/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flat(variables: Any) -> dict[str, Any]:
    """Lists a tree's leaves by their joined paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {join(path): leaf for path, leaf in leaves}


def is_parameter(path: str, symmetry: Symmetry) -> bool:
    """Whether an array is one: of "params", or any where nothing is called so."""
    flax = any(other.startswith("params/") for other in symmetry)
    return path.startswith("params/") or not flax


def sizes(variables: Any, symmetry: Symmetry) -> dict[str, int]:
    """The number of channels that each permutation acts on.

    Raises:
        ValueError: The network is another than the symmetry's.
    """
    check_symmetry(symmetry)
    arrays, found = flat(variables), {}
    for path, axes in symmetry.items():
        if path not in arrays and not is_parameter(path, symmetry):
            continue  # parameters without their batch statistics
        if path not in arrays or len(axes) != np.ndim(arrays[path]):
            raise ValueError(
                f"the network has no {path} with {len(axes)} axes: the symmetry is of another one"
            )
        for axis, name in enumerate(axes):
            size = arrays[path].shape[axis]
            if name is not None and found.setdefault(name, size) != size:
                raise ValueError(
                    f"permutation {name!r} acts on {found[name]} channels, but on {size} in {path}"
                )
    return found


def check_symmetry(symmetry: Symmetry) -> None:
    """Refuses what is no symmetry. Raises ValueError."""
    what = "the permutation of each axis of each array, as jaxinit.symmetry.derive finds it"
    checks.mapping("symmetry", symmetry, what)
    for path, axes in symmetry.items():
        if not isinstance(path, str) or not isinstance(axes, tuple):
            raise ValueError(f"symmetry must be {what}: {checks.shown(path)} has none")


def average(networks: Sequence[Any]) -> Any:
    """The mean of networks that are in one order already, array by array.

    Raises:
        ValueError: No networks, or such as differ in structure or shapes.
    """
    checks.kind("networks", networks, list | tuple, "a list of networks")
    if not networks:
        raise ValueError("an average needs at least one network")
    first = {path: np.shape(leaf) for path, leaf in flat(networks[0]).items()}
    for number, network in enumerate(networks):
        for path, leaf in flat(network).items():
            array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
            checks.array(f"{path} of network {number}", array, None, jnp.number)
        shapes = {path: np.shape(leaf) for path, leaf in flat(network).items()}
        differing = sorted(p for p in first.keys() | shapes if first.get(p) != shapes.get(p))
        if differing or jax.tree.structure(network) != jax.tree.structure(networks[0]):
            raise ValueError(
                f"network {number} differs from the first in "
                f"{differing[0] if differing else 'the kind of its tree'}: average equal ones"
            )
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *networks)
