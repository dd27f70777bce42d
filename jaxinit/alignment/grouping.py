"""Whole filters of several networks in groups of one each: the paper's greedy alignment."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinit import checks, kernels, relative_norms
from jaxinit import layers as network_layers
from jaxinit.alignment.matching import assignment
from jaxinit.alignment.permutations import check_symmetry, permute
from jaxinit.layers import Layers
from jaxinit.signatures import Params, Symmetry


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

    Raises:
        ValueError: No filters, or no array of five axes and floating point numbers.
    """
    checks.array("kernels", kernels, 5)
    checks.kind("optimal", optimal, bool, "True or False")
    if not math.prod(kernels.shape):
        raise ValueError(f"kernels of shape {kernels.shape} hold no filters")
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
    unit = relative_norms.unit(kernels.transpose(0, 4, 3, 1, 2).reshape(models, outputs, -1), 2)
    # Re F(x) is F of (x(t) + x(−t))/2, and F is √d times as long as what it transforms.
    length = unit.shape[2]
    even = (unit + jnp.roll(unit[..., ::-1], 1, axis=2)) * (length**0.5 / 2)

    def to_all(one: Array) -> Array:
        return jax.lax.map(lambda other: _distances(one, other), even)

    return jax.lax.map(to_all, even)


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
        filters_of_model, groups = assignment(cost)
        members[model, groups] = filters_of_model
    return members


def _distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """By sums of squared differences, as the difference of two nearly equal sums has no digits."""
    others = b.T
    return jax.lax.map(lambda own: jnp.sqrt(jnp.square(others - own[:, None]).sum(0)), a)


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
    checks.kind("networks", networks, list | tuple, "a list of networks")
    check_symmetry(symmetry)
    for network in networks:
        if not isinstance(network, Mapping) or "params" not in network:
            raise ValueError('each of networks must be {"params": …}, maybe with "batch_stats"')
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
