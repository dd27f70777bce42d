"""From a bank of one network into another: which layer stands for which, and slices of other sizes.

The rule of "depth": the i-th of a network's n layers of one kernel size is drawn from the bank's
layer number round(i·(m − 1)/(n − 1)) of the m that have this size, both counted from 0 in the order
of calls; the only one of its size, from the first. Where that layer's filters are zero at taps that
meet data in the network, as those of sources with smaller maps, the nearest layer without such taps
is taken, if there is one. `by_depth` shows it before it is applied.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinit import banks, checks, choices, kernels
from jaxinit.banks.filter_bank import check_bank, check_known
from jaxinit.kernel_init import cosine_basis
from jaxinit.layers import Layer, Layers, Network

#: Which layer of a bank fills which layer of a network: by name or by relative depth.
Rule = Literal["name", "depth"]
#: The same, or as told: a mapping from the network's names to the bank's.
Match = Rule | Mapping[str, str]
#: What is done where the bank has no layer of the kernel's size.
Missing = Literal["error", "keep", "resample"]


def by_depth(
    bank: banks.FilterBank, network: Network, layers: Layers = None, *, missing: Missing = "error"
) -> dict[str, str | None]:
    """Tells which layer of a bank fills which layer of a network, by relative depth.

    Args:
        bank: Clusters of filters; its layers stand in the order of their network's calls.
        network: Traced (`jaxinit.trace`).
        layers: Which of its convolutions (see `Network.select`); None means all main layers.
        missing: What is done where the bank has no layer of the kernel's size. With "resample" the
            relative depth is that among all layers.

    Returns:
        For each chosen layer's name that of the bank's layer, or None where it is kept.

    Raises:
        ValueError: The bank has no layer of a size, and `missing` is "error".
    """
    return pairs(bank, network, layers, match="depth", missing=missing)


def pairs(
    bank: banks.FilterBank,
    network: Network,
    layers: Layers = None,
    *,
    match: Match = "name",
    missing: Missing = "error",
) -> dict[str, str | None]:
    """Tells which layer of a bank fills which layer of a network (as of `by_depth`).

    Raises:
        ValueError: A layer that the bank lacks, or an unknown `match` or `missing`.
    """
    check_bank(bank)
    checks.kind("network", network, Network, "what jaxinit.trace returns")
    if not isinstance(missing, str) or missing not in get_args(Missing):
        raise choices.unknown(f"missing={missing!r}", get_args(Missing))
    named = isinstance(match, str) and match in get_args(Rule)
    if not isinstance(match, Mapping) and not named:
        more = ", or give a mapping from the network's layers to the bank's"
        raise choices.unknown(f"match={match!r}", get_args(Rule), more)
    if isinstance(match, Mapping):
        for name, own in match.items():
            network[name]
            check_known(bank, own)
    found = {}
    for layer in network.select(layers):
        if match == "depth":
            found[layer.name] = _at_relative_depth(bank, network, layer, missing)
        else:
            wanted = match.get(layer.name) if isinstance(match, Mapping) else layer.name
            found[layer.name] = _of_name(bank, layer, wanted, missing)
    return found


def _of_name(
    bank: banks.FilterBank, layer: Layer, wanted: str | None, missing: Missing
) -> str | None:
    if wanted is None or wanted not in bank.kernel_sizes:
        if missing == "keep":
            return None
        if wanted is None:
            raise ValueError(
                f"match= says nothing of layer {layer.name!r}: name a layer of the bank, choose "
                'layers=, or leave it with missing="keep"'
            )
        check_known(
            bank,
            wanted,
            '; match="depth" takes layers by their relative depth, missing="keep" leaves this one',
        )
    size: tuple[int, ...] = tuple(bank.kernel_sizes[wanted])
    if size == layer.size or (missing == "resample" and len(size) == len(layer.size)):
        return wanted
    if missing == "keep":
        return None
    raise ValueError(_wrong_size(layer, f"layer {wanted!r}", size))


def _wrong_size(layer: Layer, what: str, size: Sequence[int] | None) -> str:
    have = "" if size is None else f", whose slices are {kernels.sides(size)}"
    return (
        f"{layer.name} has a kernel of {kernels.sides(layer.size)}, and the bank has {what}{have}: "
        'missing="keep" leaves it as it is, missing="resample" takes slices of another size'
    )


def _at_relative_depth(
    bank: banks.FilterBank, network: Network, layer: Layer, missing: Missing
) -> str | None:
    same = [name for name, size in bank.kernel_sizes.items() if tuple(size) == layer.size]
    beside = [other for other in network.layers if other.size == layer.size]
    if not same and missing == "resample":
        same = [n for n, size in bank.kernel_sizes.items() if len(size) == len(layer.size)]
        beside = [other for other in network.layers if other.is_main or other == layer]
    if not same:
        if missing == "keep":
            return None
        raise ValueError(_wrong_size(layer, "none of this size", None))
    place = _nearest(beside.index(layer), len(beside), len(same))
    nearest_first = sorted(same, key=lambda name: abs(same.index(name) - place))
    fit = (name for name in nearest_first if not _lacks_taps(bank, name, layer))
    return next(fit, same[place])


def _lacks_taps(bank: banks.FilterBank, name: str, layer: Layer) -> bool:
    """Whether all filters of the bank's layer are zero at a tap that meets data in the network.

    Not known, and so no, where the bank is traced, or how the network's layer is applied. Of slices
    that are brought to another size any such tap counts, unless the network has them as well.
    """
    filters, size = bank.filters[name], tuple(bank.kernel_sizes[name])
    if layer.live is None or not checks.known(filters):
        return False
    used = np.any(np.asarray(filters), axis=(0, 1)).reshape(size)
    if size != layer.size:
        return not used.all() and not layer.dead_taps
    return not used[tuple(slice(*own) for own in layer.live)].all()


def _nearest(number: int, of: int, to: int) -> int:
    return round(number * (to - 1) / (of - 1)) if of > 1 else 0


def at_depth(
    bank: banks.FilterBank, size: tuple[int, ...], layer: int | float | np.number | None
) -> tuple[banks.FilterBank, str]:
    """Finds the layer of a bank that has a kernel size at a depth (see `clustered_kernel`).

    Returns:
        The bank, or one that has all layers of this size as one, and the layer's name.

    Raises:
        ValueError: There is no such layer.
    """
    check_bank(bank)
    same = [name for name, own in bank.kernel_sizes.items() if tuple(own) == tuple(size)]
    if not same:
        sizes = sorted({kernels.sides(own) for own in bank.kernel_sizes.values()})
        raise ValueError(
            f"the bank has no layer whose slices are {kernels.sides(size)}: it has "
            f"{', '.join(sizes)}"
        )
    if layer is None:
        return _together(bank, same), same[0]
    checks.numbers(layer=layer)
    if isinstance(layer, float | np.floating):
        if not 0 <= layer <= 1:
            raise ValueError(f"depth {layer} is out of range: say 0.0 (first) to 1.0 (last)")
        return bank, same[round(layer * (len(same) - 1))]
    if not -len(same) <= layer < len(same):
        raise ValueError(
            f"layer {layer} is out of range: {len(same)} layers of the bank have slices of "
            f"{kernels.sides(size)}, so say {-len(same)} to {len(same) - 1}"
        )
    return bank, same[int(layer)]


def _together(bank: banks.FilterBank, names: Sequence[str]) -> banks.FilterBank:
    """A bank that has several layers of one kernel size as one, under the first name."""
    most = max(bank.filters[name].shape[1] for name in names)

    def repeated(slices: Float[Array, "k m d"]) -> Float[Array, "k most d"]:
        if most % slices.shape[1]:
            raise ValueError("layers with different numbers of members cannot be drawn together")
        return jnp.repeat(slices, most // slices.shape[1], axis=1)

    first = names[0]
    return dataclasses.replace(
        bank,
        filters={first: jnp.concatenate([repeated(bank.filters[name]) for name in names])},
        sizes={first: jnp.concatenate([bank.sizes[name] for name in names])},
        inertia={first: sum((bank.inertia[name] for name in names), jnp.zeros(()))},
        kernel_sizes=flax.core.FrozenDict({first: bank.kernel_sizes[first]}),
    )


def resized(bank: banks.FilterBank, name: str, size: tuple[int, ...]) -> banks.FilterBank:
    """Returns a bank with one layer alone, its slices of another size (see `resample`)."""
    own = tuple(bank.kernel_sizes[name])
    if own == tuple(size):
        return bank
    return dataclasses.replace(
        bank,
        filters={name: resample(bank.filters[name], own, size)},
        sizes={name: bank.sizes[name]},
        inertia={name: bank.inertia[name]},
        kernel_sizes=flax.core.FrozenDict({name: tuple(size)}),
    )


def resample(
    slices: Float[Array, "... d"], size: tuple[int, ...], new: tuple[int, ...]
) -> Float[Array, "... e"]:
    """Brings slices to another size by their cosine transform: frequencies are left out, or zero.

    The orthonormal DCT-II along each axis (`jaxinit.kernel_init.dct`), and back: what is centred
    stays so, and the norm of a slice with none but low frequencies stays.

    Args:
        slices: Rows of taps, d of them in all.
        size: (h, w) of the slices.
        new: (h, w) of the result.
    """
    checks.array("slices", slices, None)
    for own in (size, new):
        checks.shape(own)
    if not slices.shape or len(size) != len(new) or math.prod(size) != slices.shape[-1]:
        raise ValueError(
            f"slices of shape {slices.shape} are not of the size {tuple(size)}, or cannot be "
            f"brought to {tuple(new)}"
        )
    taps = slices.reshape(*slices.shape[:-1], *size)
    for axis, (before, after) in enumerate(zip(size, new, strict=True)):
        if before != after:
            place = taps.ndim - len(size) + axis
            matrix = jnp.asarray(_resampling(before, after), slices.dtype)
            moved = jnp.moveaxis(taps, place, -1)
            moved = jnp.matmul(moved, matrix.T, precision=jax.lax.Precision.HIGHEST)
            taps = jnp.moveaxis(moved, -1, place)
    return taps.reshape(*slices.shape[:-1], -1)


def _resampling(before: int, after: int) -> Float[np.ndarray, "after before"]:
    common = min(before, after)
    return cosine_basis.basis([after])[:common].T @ cosine_basis.basis([before])[:common]
