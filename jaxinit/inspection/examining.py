"""Measures each layer of a start: how large, how varied, how sparse, and how far from another."""

import itertools
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxinit import diagnostics, kernels, relative_norms
from jaxinit import layers as network_layers
from jaxinit.banks import FilterBank
from jaxinit.inspection import slice_statistics
from jaxinit.inspection.layer_rows import Inspection, LayerRow
from jaxinit.layers import Layer, Layers, LiveTaps, Network
from jaxinit.signatures import Params

_SAMPLES = 24  # slices of each layer that are kept to be drawn
_FILTERS = 64  # likewise of the first layer
_ROOM = 8  # to a power from 2 on: how many rows slices are filled up to
_SEED = 0  # chooses them: the same of equal starts


def examine(
    start: Params | FilterBank,
    *,
    network: Network | None = None,
    reference: Params | None = None,
    live: LiveTaps | None = None,
    layers: Layers = None,
) -> Inspection:
    """Looks at a start, layer by layer: a table by `print`, a figure by `figure()`.

    Under batch norm the loss does not depend on the norm of a filter. Its gradient goes as 1/‖w‖,
    and the direction w/‖w‖ moves by η/‖w‖² times the gradient at norm 1 (van Laarhoven, *L2
    Regularization versus Batch and Weight Normalization*, 2017; Hoffer, Banner, Golan and Soudry,
    *Norm matters*, 2018). `effective_step` is 1/‖w‖² over what it is at the default's norm.

    A bank has slices and no kernels. Its numbers are those that kernels drawn from it have in
    expectation: mean squares and variances over clusters by their sizes, and the share of slices
    that are drawn sparse. A kernel of o output channels has E‖w‖² = i·o·E‖slice‖² where the
    default's is 2·i, so that the relative norm is known for a network only: give it as `network`.

    Args:
        start: A tree of parameters of any framework, or a bank.
        network: The convolutions of the tree (`jaxinit.trace`); `jaxinit.ResNet18`'s does without.
            Of a bank, the network that is to be filled; its layers are found by their names.
        reference: Another tree of the same network; not with a bank.
        live: The taps to measure (`Network.live_taps`). Where not given, those of the network if it
            was traced, else all; {} for all in any case.
        layers: Which convolutions (see `Network.select`); None means all main layers.

    Raises:
        ValueError: A tree whose layers are not known or that are not of floating point, a reference
            that is not of the same network, a network that has no layer of the bank, or a call
            under `jax.jit`.

    Example:
        >>> params = {"conv1": {"kernel": jnp.full((3, 3, 2, 4), 0.5)}}
        >>> found = examine(params)
        >>> row = found.rows[0]
        >>> round(row.relative_norm, 3), round(row.effective_step, 3), row.variance_entropy
        (2.121, 0.222, 0.0)
    """
    if isinstance(start, str):
        raise ValueError(
            f"{start!r} is a text: give parameters, or a bank, such as by jaxinit.banks.named"
        )
    if isinstance(start, FilterBank):
        if reference is not None:
            raise ValueError(
                "a bank has slices but no kernels to turn: give reference= with a tree of "
                "parameters, such as one drawn from the bank"
            )
        return _of_bank(start, network, live, layers)
    if isinstance(reference, FilterBank):
        raise ValueError("reference must be a tree of parameters, not a bank: draw one from it")
    return _of_params(start, network, reference, live, layers)


def _of_params(
    params: Params,
    network: Network | None,
    reference: Params | None,
    live: LiveTaps | None,
    layers: Layers,
) -> Inspection:
    known = network_layers.of(params, network, shapes=False)
    if not (chosen := known.select(layers)):
        raise ValueError("layers= chooses none: there is nothing to look at")
    own_live = known.live_taps() if live is None else live
    angles: Mapping[str, Array] = {}
    if reference is not None:
        _check_reference(params, reference, chosen)
        angles = diagnostics.kernel_angles(reference, params, chosen, own_live, network=known)
    rows, samples, filters = [], {}, None
    for layer, kernel in zip(chosen, kernels.get_all(params, chosen), strict=True):
        kernel = _numbers(kernel, layer.name)
        slices = _slices(network_layers.live_part(kernel, layer, own_live))
        found = _measured(slices, np.ones(len(slices), np.float32))
        count = _live_count(layer, live, own_live)
        angle = float(angles[layer.name]) if layer.name in angles else None
        rows.append(_row(layer.name, tuple(kernel.shape), len(layer.size), count, found, angle))
        samples[layer.name] = _sampled(kernel)
        if layer is chosen[0]:
            filters = _first_filters(kernel)
    return Inspection(tuple(rows), False, _counted(len(rows), "layer"), samples, filters)


def _check_reference(params: Params, reference: Params, chosen: tuple[Layer, ...]) -> None:
    for layer in chosen:
        own = kernels.get(params, layer)
        try:
            theirs = kernels.get(reference, layer)
        except ValueError:
            theirs = None
        if theirs is None or own.shape != theirs.shape:
            other = "" if theirs is None else f" of the shape {own.shape}, but {theirs.shape}"
            raise ValueError(
                f"the reference has no layer {layer.name}{other}: give a tree of the same network"
            )
        _numbers(theirs, f"{layer.name} of the reference")


def _numbers(kernel: Array, name: str) -> np.ndarray:
    if isinstance(kernel, Tracer):
        raise ValueError("a start has no numbers yet under jax.jit: call examine outside of it")
    kernels.check_floating(kernel, (name,))
    return np.asarray(kernel)


def _slices(kernel: np.ndarray) -> Float[np.ndarray, "n d"]:
    """As `kernels.to_slices`, which XLA would compile for each shape."""
    taps = math.prod(kernel.shape[:-2])
    return np.moveaxis(kernel, (-1, -2), (0, 1)).reshape(-1, taps)


def _measured(
    slices: Float[np.ndarray, "n d"], shares: Float[np.ndarray, " n"]
) -> slice_statistics.SliceStatistics:
    """Measures slices among others that do not count, so that all layers need few programs."""
    room = next(rows for power in itertools.count(2) if (rows := _ROOM**power) >= len(slices))
    filling = (0, room - len(slices))
    return slice_statistics.statistics(
        jnp.asarray(np.pad(slices, (filling, (0, 0)))), jnp.asarray(np.pad(shares, filling))
    )


def _of_bank(
    bank: FilterBank, network: Network | None, live: LiveTaps | None, layers: Layers
) -> Inspection:
    sizes = {name: tuple(size) for name, size in bank.kernel_sizes.items()}
    filled = {} if network is None else _filled(bank, network)
    stand_ins = (filled.get(name) or Layer(name, None, (), (*sizes[name], 1, 1)) for name in sizes)
    chosen = Network(tuple(stand_ins)).select(layers)
    theirs = {} if network is None else network.live_taps()
    own_live = theirs if live is None else live
    rows, samples = [], {}
    for layer in chosen:
        candidates = _numbers(bank.filters[layer.name], layer.name)
        members = np.asarray(bank.sizes[layer.name])
        # As a kernel of one input channel.
        kernel = candidates.reshape(-1, 1, candidates.shape[-1]).T.reshape(*layer.size, 1, -1)
        slices = _slices(network_layers.live_part(kernel, layer, own_live))
        found = _measured(slices, np.repeat(members, candidates.shape[1]))
        shape = layer.shape if layer.name in filled else layer.size
        count = _live_count(layer, live, own_live)
        rows.append(_row(layer.name, shape, len(layer.size), count, found, None))
        samples[layer.name] = _largest(candidates, members, layer.size)
    made = bank.provenance
    about = (
        f"{made.clusters} clusters a layer ({made.distance}, {made.representative}), of "
        f"{_counted(made.models, 'model')}"
    )
    return Inspection(tuple(rows), True, about, samples, None)


def _filled(bank: FilterBank, network: Network) -> dict[str, Layer]:
    """The network's layers that the bank has, too, by their names."""
    found = {
        layer.name: layer
        for layer in network.layers
        if layer.name in bank.kernel_sizes and layer.size == tuple(bank.kernel_sizes[layer.name])
    }
    if not found:
        raise ValueError(
            f"the network has none of the bank's layers, {', '.join(bank.kernel_sizes)}: leave it "
            "out, or give one that has"
        )
    return found


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _live_count(layer: Layer, given: LiveTaps | None, live: LiveTaps) -> int | None:
    """How many taps are measured; None where nobody said which meet data."""
    if given is None and layer.live is None:
        return None
    own = live.get(layer.name, (slice(None),) * len(layer.size))
    sides = zip(own, layer.size, strict=True)
    return math.prod(len(range(*part.indices(side))) for part, side in sides)


def _row(
    name: str,
    shape: tuple[int, ...],
    axes: int,
    live_taps: int | None,
    found: slice_statistics.SliceStatistics,
    angle: float | None,
) -> LayerRow:
    """Puts a row together; `shape` has channels beyond its `axes` spatial sides, or has not."""
    taps = math.prod(shape[:axes])
    measured = taps if live_taps is None else live_taps
    norm, relative, slices = float(found.norm), None, math.inf
    if len(shape) > axes:
        slices = math.prod(shape[axes:])
        default = relative_norms.default_norm(shape, measured / taps)
        relative = norm * math.sqrt(slices) / default if default else math.nan
    return LayerRow(
        name=name,
        shape=shape,
        taps=taps,
        live_taps=live_taps,
        slice_norm=norm,
        relative_norm=relative,
        effective_step=None if relative is None else _inverse_square(relative),
        angle=angle,
        variance_entropy=float(found.variance_entropy),
        random_entropy=slice_statistics.random_entropy(slices, measured),
        sparsity=float(found.sparsity),
    )


def _inverse_square(norm: float) -> float:
    return math.inf if norm**2 == 0 else norm**-2


def _sampled(kernel: np.ndarray) -> Float[np.ndarray, "n h w"]:
    """Some slices of a kernel, in their order."""
    slices = _slices(kernel.astype(np.float32))
    kept = np.random.default_rng(_SEED).permutation(len(slices))[:_SAMPLES]
    return _pictures(slices[np.sort(kept)], kernel.shape[:-2])


def _largest(
    candidates: Float[np.ndarray, "k m d"],
    members: Float[np.ndarray, " k"],
    size: tuple[int, ...],
) -> Float[np.ndarray, "n h w"]:
    """Slices of a layer of a bank: one of each cluster, the largest first, then another."""
    order = np.argsort(-members, kind="stable")
    slices = candidates[order].astype(np.float32).swapaxes(0, 1)
    return _pictures(slices.reshape(-1, slices.shape[-1])[:_SAMPLES], size)


def _pictures(
    slices: Float[np.ndarray, "n d"], size: tuple[int, ...]
) -> Float[np.ndarray, "n h w"]:
    return slices.reshape(len(slices), -1, size[-1])


def _first_filters(kernel: np.ndarray) -> Float[np.ndarray, "n h w c"] | None:
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
        return None
    filters = kernel.astype(np.float32).transpose(3, 0, 1, 2)
    kept = np.linspace(0, len(filters) - 1, min(_FILTERS, len(filters))).round().astype(int)
    return filters[kept]
