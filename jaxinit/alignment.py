"""Permutation symmetry: networks that compute the same, and bringing several into one order.

Hidden channels have no order: permuting those that a layer makes, and those that the next layers
read, changes nothing. Where the symmetry lies is data (`Symmetry`): for each array the name of the
permutation that acts on each of its axes; `jaxinit.symmetry` finds it for any network. `match`
finds, for several trained networks, permutations that make them alike (Ainsworth, Hayase and
Srinivasa, "Git Re-Basin", 2023); `group_filters` is the paper's own greedy grouping of whole
filters, layer by layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxinit import kernels
from jaxinit import layers as network_layers
from jaxinit.layers import Layers
from jaxinit.models import modules, resnet
from jaxinit.signatures import Params, PRNGKey, Symmetry

# For the name of each permutation, which old channel comes in each place: new = old[permutation].
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
    for name, own in permutations.items():
        if not isinstance(own, Tracer) and not np.array_equal(np.sort(own), np.arange(len(own))):
            raise ValueError(
                f"permutation {name!r} must have each of the channels 0 to {len(own) - 1} once, or "
                "some are lost: find it by match, or draw it by jax.random.permutation"
            )

    def change(path: tuple[Any, ...], leaf: Any) -> Any:
        for axis, name in enumerate(symmetry.get(join(path), ())):
            if name is None or name not in permutations:
                continue
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


def _flat(variables: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {join(path): leaf for path, leaf in leaves}


def _counts(path: str, symmetry: Symmetry) -> bool:
    """Whether an array is a parameter: one of "params", or any where nothing is called so."""
    flax = any(other.startswith("params/") for other in symmetry)
    return path.startswith("params/") or not flax


def sizes(variables: Any, symmetry: Symmetry) -> dict[str, int]:
    """The number of channels that each permutation acts on.

    Raises:
        ValueError: The network is another than the symmetry's.
    """
    arrays, found = _flat(variables), {}
    for path, axes in symmetry.items():
        if path not in arrays and not _counts(path, symmetry):
            continue  # parameters without their batch statistics
        if path not in arrays or len(axes) != arrays[path].ndim:
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


def match(
    key: PRNGKey,
    reference: Any,
    variables: Any,
    symmetry: Symmetry,
    *,
    max_sweeps: int = 100,
) -> dict[str, np.ndarray]:
    """Finds permutations of one network that bring its weights near another's.

    Maximises Σ over arrays of ⟨reference, permuted⟩, one permutation after the other, each exactly
    (a linear assignment) with the others held, until a whole sweep gains nothing: weight matching
    of Ainsworth et al., algorithm 1. Where one permutation acts on two axes of an array, as on a
    recurrent layer's, no assignment is exact: that of the gradient is taken where it gains. Only
    arrays of "params" count, or all of a tree that has nothing called so.

    Args:
        key: Orders the sweeps.
        reference: Whose order of channels to take: {"params": …}, or another tree.
        variables: Whose channels are to be permuted; of the same shapes.
        symmetry: Of both.
        max_sweeps: Give up after so many; each one gains, so that what is found is good anyway.

    Returns:
        A permutation for each name; `permute` applies them.

    Raises:
        ValueError: The networks differ in shape, or have another symmetry.
    """
    channels = sizes(reference, symmetry)
    if channels != sizes(variables, symmetry):
        raise ValueError("the networks differ in their numbers of channels: match equal ones")
    target = {path: np.asarray(leaf) for path, leaf in _flat(reference).items() if path in symmetry}
    moving = {path: np.asarray(leaf) for path, leaf in _flat(variables).items() if path in symmetry}
    weights = [path for path in symmetry if _counts(path, symmetry)]
    found = {name: np.arange(size) for name, size in channels.items()}
    names = sorted(channels)
    for sweep in range(max_sweeps):
        order = jax.random.permutation(jax.random.fold_in(key, sweep), len(names))
        gained = False
        for number in np.asarray(order):
            name = names[int(number)]
            acted = [(target[p], moving[p], symmetry[p]) for p in weights if name in symmetry[p]]
            better = _improve(acted, name, found)
            if better is not None:
                found[name], gained = better, True
        if not gained:
            break
    return found


def _improve(
    arrays: Sequence[tuple[np.ndarray, np.ndarray, tuple[str | None, ...]]],
    name: str,
    found: Mapping[str, np.ndarray],
) -> np.ndarray | None:
    """A permutation that gains with the others held, or None; of the arrays that it acts on."""
    rows = np.arange(len(found[name]))
    linear, gradient = np.zeros((2, len(rows), len(rows)))
    for target, moving, axes in arrays:
        gain = _gain(target, moving, axes, name, found)
        gradient += gain
        if axes.count(name) == 1:
            linear += gain
    best = _assignment(gradient, maximize=True)[1]
    rise = linear[rows, best].sum() - linear[rows, found[name]].sum()
    for target, moving, axes in arrays:
        if axes.count(name) > 1:
            change = _permuted(moving, axes, {**found, name: best}).astype(np.float64)
            rise += np.vdot(target, change - _permuted(moving, axes, found))
    return best if rise > 1e-6 * np.abs(gradient).max() else None


def _gain(
    target: np.ndarray,
    moving: np.ndarray,
    axes: tuple[str | None, ...],
    name: str,
    found: Mapping[str, np.ndarray],
) -> Float[np.ndarray, "channels channels"]:
    """What each pairing of channels of one permutation adds to ⟨target, permuted⟩.

    Where the permutation acts on several axes, one of them is paired and the others held, each in
    turn: the sum is the gradient.
    """
    gain = np.zeros((len(found[name]), len(found[name])))
    for own in (axis for axis, other in enumerate(axes) if other == name):
        held = (*axes[:own], None, *axes[own + 1 :])
        pair = (target, _permuted(moving, held, found))
        rows, columns = (np.moveaxis(a, own, 0).reshape(target.shape[own], -1) for a in pair)
        gain += rows @ columns.T
    return gain


def _permuted(
    array: np.ndarray, axes: tuple[str | None, ...], found: Mapping[str, np.ndarray]
) -> np.ndarray:
    for axis, name in enumerate(axes):
        if name is not None:
            array = np.take(array, found[name], axis=axis)
    return array


def activations(
    network: Any, variables: Params, images: Float[Array, "n h w c"], symmetry: Symmetry
) -> dict[str, Float[Array, "rows channels"]]:
    """Records what the channels of each permutation do: the outputs of their batch norms.

    Args:
        network: A Flax module called as `network.apply(variables, images, train=False)`, whose
            batch norms are `jaxinit.models.modules.BatchNorm`.
        variables: {"params": …, "batch_stats": …}.
        images: Normalised.
        symmetry: Of the network.

    Returns:
        For each permutation the outputs at all positions, of several batch norms on one residual
        stream one below the other.
    """
    _, recorded = network.apply(
        variables,
        images,
        train=False,
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: isinstance(module, modules.BatchNorm),
    )
    rows: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(recorded["intermediates"])[0]:
        norm = "/".join(str(key.key) for key in path[:-2])  # without "__call__" and the tuple's 0
        (name,) = symmetry.get(f"params/{norm}/scale", (None,))
        if name is not None:
            rows.setdefault(name, []).append(leaf.reshape(-1, leaf.shape[-1]))
    return {name: jnp.concatenate(parts) for name, parts in rows.items()}


def _assignment(
    values: Float[np.ndarray, "n n"], *, maximize: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs rows with columns so that the sum of their values is least, or greatest."""
    import scipy.optimize  # only here, as it is slow to import and most callers never need it

    return scipy.optimize.linear_sum_assignment(values, maximize=maximize)


def match_activations(
    reference: Mapping[str, Float[Array, "..."]],
    other: Mapping[str, Float[Array, "..."]],
) -> dict[str, np.ndarray]:
    """Finds permutations of one network that make its channels fire with another's.

    Maximises the summed correlation of paired channels, each permutation by itself: activation
    matching of Ainsworth et al., section 3.1.

    Args:
        reference: For each permutation's name, what the channels it acts on did on n inputs; rows
            of several arrays on one residual stream, one below the other, count alike.
        other: The same of the network to be permuted, on the same inputs.

    Returns:
        A permutation for each name; `permute` applies them.

    Raises:
        ValueError: Names or shapes differ.
    """
    if reference.keys() != other.keys():
        raise ValueError("the activations are of different permutations: record the same of both")
    found = {}
    for name, target in reference.items():
        if target.shape != other[name].shape:
            raise ValueError(
                f"the activations {name!r} have shapes {target.shape} and {other[name].shape}: "
                "record both on the same inputs"
            )
        correlation = _standardized(target).T @ _standardized(other[name])
        found[name] = _assignment(correlation, maximize=True)[1]
    return found


def _standardized(values: Float[Array, "n channels"]) -> Float[np.ndarray, "n channels"]:
    rows = np.asarray(values, np.float64)
    rows = rows - rows.mean(axis=0)
    spread = np.sqrt(np.square(rows).sum(axis=0))
    return rows / np.where(spread > 0, spread, 1)


def average(networks: Sequence[Any]) -> Any:
    """The mean of networks that are in one order already, array by array.

    Raises:
        ValueError: No networks, or such as differ in structure or shapes.
    """
    if not networks:
        raise ValueError("an average needs at least one network")
    first = {path: leaf.shape for path, leaf in _flat(networks[0]).items()}
    for number, network in enumerate(networks):
        shapes = {path: leaf.shape for path, leaf in _flat(network).items()}
        differing = sorted(p for p in first.keys() | shapes if first.get(p) != shapes.get(p))
        if differing or jax.tree.structure(network) != jax.tree.structure(networks[0]):
            raise ValueError(
                f"network {number} differs from the first in "
                f"{differing[0] if differing else 'the kind of its tree'}: average equal ones"
            )
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *networks)


class Groups(NamedTuple):
    """What `group_filters` found in one layer.

    Attributes:
        members: For each model, which of its filters each group has: a permutation.
        means: The kernel (h, w, i, o) made of the groups' means.
    """

    members: Int[Array, "models o"]
    means: Float[Array, "h w i o"]


def group_filters(kernels: Float[Array, "models h w i o"], *, optimal: bool = False) -> Groups:
    """Groups the whole filters of one layer of several models: one of each model in each group.

    The distance of two filters is the Euclidean distance between the real parts of the
    one-dimensional Fourier transforms of the filters, flattened over (i, h, w) and scaled to unit
    length (paper, "full-filter clustering with alignment").

    Greedily, as in the paper, group after group: it begins with the first model's next filter, and
    each further model in turn gives that one of its filters left whose summed distance to the
    group's members so far is least (the paper leaves the order open). Optimally, model after model:
    its filters are given to the groups so that the sum of all these distances is least.

    Args:
        kernels: The same layer of each model, their input channels in one order already.
        optimal: Which of the two. Static.

    Returns:
        The groups, and the means of the members as they are, not scaled.
    """
    between = _between(kernels)
    members = (
        jnp.asarray(_assign_all(np.asarray(between))) if optimal else _assign_greedily(between)
    )
    ordered = jax.vmap(lambda kernel, own: jnp.take(kernel, own, axis=-1))(kernels, members)
    return Groups(members, ordered.mean(0))


@jax.jit
def _between(kernels: Float[Array, "models h w i o"]) -> Float[Array, "models models o o"]:
    """The distances between the filters of each model and those of each other."""
    models, *_, outputs = kernels.shape
    flat = kernels.transpose(0, 4, 3, 1, 2).reshape(models, outputs, -1)
    norms = jnp.linalg.norm(flat, axis=2, keepdims=True)
    features = jnp.fft.fft(flat / jnp.where(norms > 0, norms, 1), axis=2).real
    return jax.vmap(jax.vmap(_distances, (None, 0)), (0, None))(features, features)


@jax.jit
def _assign_greedily(between: Float[Array, "models models o o"]) -> Int[Array, "models o"]:
    models, outputs = between.shape[0], between.shape[2]

    def add(group: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        members, taken = state
        for model in range(1, models):
            # (models so far, filters of this model): how far from the group's member of each.
            seen = jnp.stack([between[model, m, :, members[m, group]] for m in range(model)])
            cost = jnp.where(taken[model], jnp.inf, seen.sum(0))
            best = jnp.argmin(cost).astype(members.dtype)
            members = members.at[model, group].set(best)
            taken = taken.at[model, best].set(True)
        return members, taken

    start = jnp.zeros((models, outputs), jnp.int32).at[0].set(jnp.arange(outputs, dtype=jnp.int32))
    return jax.lax.fori_loop(0, outputs, add, (start, jnp.zeros((models, outputs), bool)))[0]


def _assign_all(between: Float[np.ndarray, "models models o o"]) -> Int[np.ndarray, "models o"]:
    models, outputs = between.shape[0], between.shape[2]
    members = np.zeros((models, outputs), np.int32)
    members[0] = np.arange(outputs)
    for model in range(1, models):
        cost = np.sum([between[model, m][:, members[m]] for m in range(model)], axis=0)
        filters_of_model, groups = _assignment(cost)
        members[model, groups] = filters_of_model
    return members


def _distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(a).sum(1)[:, None] + jnp.square(b).sum(1)[None] - 2 * products
    return jnp.sqrt(jnp.maximum(squares, 0))


def align_layers(
    networks: Sequence[Params],
    symmetry: Symmetry,
    layers: Layers,
    *,
    optimal: bool = False,
) -> tuple[list[Params], dict[str, Array]]:
    """Groups the filters of several layers in turn, each after the one before is in order.

    After each layer every model is permuted so that its filters are in the groups' order: the
    layer's output channels, its batch norm, and the input channels of what reads it.

    Args:
        networks: {"params": …, "batch_stats": …} or {"params": …} of each model.
        symmetry: Of all. Every chosen layer must have a permutation of its own, as those of the
            custom network's first stage have.
        layers: Which convolutions, in forward order (see `Network.select`).
        optimal: As of `group_filters`. Static.

    Returns:
        The networks, permuted, and for each layer the kernel of the groups' means.

    Raises:
        ValueError: No networks, a layer they lack, or one whose channels keep their order or are
            added to others'.
    """
    if not networks:
        raise ValueError("alignment needs at least one network")
    makers: dict[str, list[str]] = {}
    for path, axes in symmetry.items():
        if len(axes) == 4 and axes[3] is not None:
            makers.setdefault(axes[3], []).append(path)
    aligned, means = list(networks), {}
    for layer in network_layers.of(networks[0]["params"]).select(layers):
        name = layer.name
        permutation = symmetry.get(f"params/{name}/kernel", (None,) * 4)[3]
        if permutation is None:
            raise ValueError(f"the channels of layer {name} keep their order: leave it out")
        if len(makers[permutation]) > 1:
            raise ValueError(
                f"layer {name} shares its channels with a residual stream: group layers of a "
                "network without residuals there, or use match"
            )
        stacked = jnp.stack([kernels.get(network["params"], layer) for network in aligned])
        groups = group_filters(stacked, optimal=optimal)
        aligned = [
            permute(network, symmetry, {permutation: own})
            for network, own in zip(aligned, groups.members, strict=True)
        ]
        means[name] = groups.means
    return aligned, means
