"""Permutations that make one trained network like another: Git Re-Basin.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin: Merging Models modulo Permutation Symmetries", 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinit import checks
from jaxinit.alignment.permutations import flat, is_parameter, sizes
from jaxinit.models import modules
from jaxinit.signatures import Params, PRNGKey, Symmetry


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
        ValueError: The networks differ in shape, have another symmetry, or are not finite.
    """
    checks.key(key)
    checks.whole(max_sweeps=max_sweeps)
    channels = sizes(reference, symmetry)
    if channels != sizes(variables, symmetry):
        raise ValueError("the networks differ in their numbers of channels: match equal ones")
    weights = [path for path in symmetry if is_parameter(path, symmetry)]
    target, moving = (_numbers(tree, weights) for tree in (reference, variables))
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


def _numbers(tree: Any, paths: Sequence[str]) -> dict[str, Float[np.ndarray, "..."]]:
    """Some arrays of a tree, in float64."""
    leaves = flat(tree)
    for path in paths:
        checks.array(path, leaves[path], None)
    found = {path: np.asarray(leaves[path], np.float64) for path in paths}
    for path, values in found.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{path} is not finite (NaN or ∞): a network like it cannot be found")
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
    best = assignment(gradient, maximize=True)[1]
    rise = linear[rows, best].sum() - linear[rows, found[name]].sum()
    for target, moving, axes in arrays:
        if axes.count(name) > 1:
            change = _permuted(moving, axes, {**found, name: best})
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


def assignment(
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
    for name, own in (("reference", reference), ("other", other)):
        checks.mapping(name, own, "activations by the name of each permutation")
    if reference.keys() != other.keys():
        raise ValueError("the activations are of different permutations: record the same of both")
    found = {}
    for name, target in reference.items():
        for own in (target, other[name]):
            checks.array(f"the activations {name!r}", own, 2)
        if target.shape != other[name].shape:
            raise ValueError(
                f"the activations {name!r} have shapes {target.shape} and {other[name].shape}: "
                "record both on the same inputs"
            )
        if not (np.isfinite(target).all() and np.isfinite(other[name]).all()):
            raise ValueError(f"the activations {name!r} are not finite (NaN or ∞)")
        correlation = _standardized(target).T @ _standardized(other[name])
        found[name] = assignment(correlation, maximize=True)[1]
    return found


def _standardized(values: Float[Array, "n channels"]) -> Float[np.ndarray, "n channels"]:
    rows = np.asarray(values, np.float64)
    rows = rows - rows.mean(axis=0)
    spread = np.sqrt(np.square(rows).sum(axis=0))
    return rows / np.where(spread > 0, spread, 1)
