"""Starts drawn from a bank of clustered filters, slice by slice."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from jaxinit import banks, checks, kernels, transfer
from jaxinit import layers as network_layers
from jaxinit.banks.filter_bank import check_bank
from jaxinit.initializers.composition import fill_layers
from jaxinit.layers import Layer, Layers, Network
from jaxinit.signatures import Initializer, Params, ParamsInitializer, PRNGKey


def clustered_kernel(
    bank: banks.FilterBank, layer: str | int | float | np.number | None = None
) -> Initializer:
    """Makes kernels of slices drawn from a bank; fits `kernel_init=`.

    Args:
        bank: Clusters of filters (`jaxinit.banks`).
        layer: Which of its layers to draw from: a name; a number, which counts the layers whose
            slices have the kernel's size, in the order of calls (from the end below 0); a fraction,
            0.0 for the first of these to 1.0 for the last; or all of these together (None).

    Raises:
        ValueError: The bank has no such layer, or none of the kernel's size (when called).
    """
    check_bank(bank)

    def init(key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        checks.kernel(key, shape, dtype)
        if isinstance(layer, str):
            return banks.draw(key, bank, layer, tuple(shape), dtype)
        kernels.check_channels_last(shape, rank=None)
        own, name = transfer.at_depth(bank, tuple(shape[:-2]), layer)
        return banks.draw(key, own, name, tuple(shape), dtype)

    return init


def clustered(
    bank: banks.FilterBank,
    layers: Layers = None,
    *,
    match: transfer.Match = "name",
    missing: transfer.Missing = "error",
) -> ParamsInitializer:
    """Single-filter clustering: draws each spatial slice of each layer from a bank's clusters.

    Each slice is drawn independently: a cluster with probability proportional to its size, then
    that cluster's filter (paper, "single-filter clustering").

    Args:
        bank: Clusters of filters.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        match: Which layer of the bank fills which: the one of its "name"; the one at its relative
            "depth" among layers of its kernel size (`transfer.by_depth` shows it beforehand); or a
            mapping from the network's names to the bank's.
        missing: What is done where the bank has no layer of the kernel's size: an "error"; "keep"
            leaves the layer as it is, to the next initialiser; "resample" takes slices of another
            size, brought to this one by the cosine transform.

    Raises:
        ValueError: A layer that the bank does not hold, or with another kernel size (when applied).
    """
    return from_bank(
        bank,
        lambda key, own, name, layer, kernel: banks.draw(
            key, own, name, kernel.shape, kernel.dtype
        ),
        layers,
        match=match,
        missing=missing,
    )


def from_bank(
    bank: banks.FilterBank,
    draw: Callable[[PRNGKey, banks.FilterBank, str, Layer, Array], Array],
    layers: Layers = None,
    *,
    match: transfer.Match = "name",
    missing: transfer.Missing = "error",
) -> ParamsInitializer:
    """Fills layers from those of a bank that stand for them.

    Args:
        bank: Clusters of filters.
        draw: Makes a kernel from one layer of a bank, given a key, the bank, the name of its layer,
            the network's layer and the kernel that it is to replace.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        match: Which layer of the bank fills which, as of `clustered`.
        missing: What is done where the bank has no layer of the kernel's size, as of `clustered`.
    """

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        known = network_layers.of(params, network)
        pairs = transfer.pairs(bank, known, layers, match=match, missing=missing)

        def make(layer_key: PRNGKey, layer: Layer, kernel: Array) -> Array | None:
            if (name := pairs[layer.name]) is None:
                return None
            own = transfer.resized(bank, name, layer.size) if missing == "resample" else bank
            return draw(layer_key, own, name, layer, kernel)

        return fill_layers(make, tuple(pairs))(key, params, network=known)

    return init
