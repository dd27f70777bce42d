"""Controls: initialisers that have one property of learned filters and lack the others.

Is it a filter's length that helps, its covariance, or its arrangement of taps? With the same key
each draws what the initialiser that it controls draws, so that the two differ in nothing else. They
compose as those of `jaxinit.initializers` do.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinit import (
    banks,
    checks,
    diagnostics,
    initializers,
    kernels,
    normal_slices,
    relative_norms,
    transfer,
)
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Layers, LiveTaps, Network
from jaxinit.signatures import Params, ParamsInitializer, PlainInitializer, PRNGKey

_SHUFFLE = 1  # what a layer's key is folded with, so that its draws are left as they are


def at_norms_of(
    initializer: ParamsInitializer | PlainInitializer,
    reference: ParamsInitializer | PlainInitializer,
    layers: Layers = None,
    live: LiveTaps | None = None,
) -> ParamsInitializer:
    """Draws filters one way, and scales each layer to the norm that another way gives it.

    w ← w · ‖reference‖ / ‖w‖ for each layer, both drawn with the same key; a layer of zeros stays
    so. The norms of single output channels keep their ratios.

    Args:
        initializer: Draws the filters.
        reference: Draws the network whose norms are taken, from the same tree.
        layers: Which convolutions are scaled (see `Network.select`); None means all main layers.
        live: The taps whose norm is made equal (`Network.live_taps`): the others, which never
            meet data, are scaled along. All where not given.

    Example:
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 8))}}
        >>> init = at_norms_of(initializers.gabor(), initializers.unchanged())
        >>> gabor = init(jax.random.key(0), params)
        >>> bool(jnp.isclose(jnp.sum(gabor["conv1"]["kernel"] ** 2), 7 * 7 * 3 * 8))
        True
    """

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        known = network_layers.of(params, network)
        drawn = initializers.run(initializer, key, params, network)
        wanted = initializers.run(reference, key, params, network)
        wanted = diagnostics.kernel_norms(wanted, layers, live, network=known)
        chosen = known.select(layers)
        new = {}
        for layer, kernel in zip(chosen, kernels.get_all(drawn, chosen), strict=True):
            counted = network_layers.live_part(kernel, layer, live)
            new[layer] = relative_norms.with_norm(kernel, wanted[layer.name], counted)
        return kernels.put(drawn, new)

    return init


def shuffled(
    bank: banks.FilterBank,
    layers: Layers = None,
    live: LiveTaps | None = None,
    *,
    match: transfer.Match = "name",
    missing: transfer.Missing = "error",
) -> ParamsInitializer:
    """Draws from a bank's clusters, each of whose filters has its taps in another order.

    There are as many different filters as in the bank, of the same values, drawn as often; their
    shapes are lost.

    Args:
        bank: Clusters of filters.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        match: Which layer of the bank fills which (see `clustered`).
        missing: What is done where the bank has none of the kernel's size, likewise.
        live: The taps that change places (`Network.live_taps`); all where not given.

    Raises:
        ValueError: A layer that the bank does not hold, or with another kernel size (when applied).
    """
    checks.live(live)

    def make(key: PRNGKey, bank: banks.FilterBank, name: str, layer: Layer, kernel: Array) -> Array:
        banks.check_layer(bank, name, kernel.shape)
        moving = np.zeros(kernel.shape[:-2], bool)
        moving[(live or {}).get(layer.name, ...)] = True
        places = np.flatnonzero(moving)
        own = bank.filters[name]
        lots = jax.random.permutation(
            jax.random.fold_in(key, _SHUFFLE), own[..., places], axis=2, independent=True
        )
        mixed = dataclasses.replace(bank, filters={name: own.at[..., places].set(lots)})
        return banks.draw(key, mixed, name, kernel.shape, kernel.dtype)

    return initializers.from_bank(bank, make, layers, match=match, missing=missing)


def gaussian(
    bank: banks.FilterBank,
    layers: Layers = None,
    *,
    match: transfer.Match = "name",
    missing: transfer.Missing = "error",
) -> ParamsInitializer:
    """Draws every 2-D slice from the normal distribution with a bank's mean and covariance.

    N(Σ p·f, Σ p·(f − mean)(f − mean)ᵀ) over the filters f of the layer's clusters, p being the
    probability that `banks.draw` gives them: what the filters have beyond their first two moments
    is lost.

    Args:
        bank: Clusters of filters.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        match: Which layer of the bank fills which (see `clustered`).
        missing: What is done where the bank has none of the kernel's size, likewise.

    Raises:
        ValueError: A layer that the bank does not hold, or with another kernel size (when applied).
    """

    def make(key: PRNGKey, bank: banks.FilterBank, name: str, layer: Layer, kernel: Array) -> Array:
        del layer
        banks.check_layer(bank, name, kernel.shape)
        slices, share = _candidates(bank.filters[name], bank.sizes[name])
        return normal_slices.draw(key, slices, share, kernel.shape, kernel.dtype)

    return initializers.from_bank(bank, make, layers, match=match, missing=missing)


def _candidates(
    filters: Float[Array, "k m d"], sizes: Float[Array, " k"]
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """The filters of a layer's clusters, and the probability that each is drawn with."""
    count, per_cluster, taps = filters.shape
    share = jnp.repeat(sizes / jnp.sum(sizes), per_cluster) / per_cluster
    return filters.reshape(count * per_cluster, taps), share
