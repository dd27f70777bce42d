"""Starts that need no source: Gabor filters, and Gaussians by depth."""

from jaxtyping import Array

from jaxinit import layers as network_layers
from jaxinit.initializers.composition import fill_layers, per_layer
from jaxinit.kernel_init import correlated, gabor_filters
from jaxinit.layers import Layer, Layers, Network
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey


def gabor(layers: Layers = None) -> ParamsInitializer:
    """Fills some layers with Gabor filters (`gabor_kernel`); None means all main layers."""
    return per_layer(gabor_filters.gabor_kernel, layers)


def closed_form(
    layers: Layers = None,
    *,
    relative_norm: float = 1.0,
    start: float = 1.0,
    slope: float = 3.0,
    curvature: float = 0.0,
) -> ParamsInitializer:
    """Fills some layers with Gaussian slices whose covariance goes by the layer's depth.

    See `jaxinit.kernel_init.closed_form_covariance`. Number i of the network's n main layers, from
    0 in the order of calls, is at depth i/(n − 1), an only one at 0, whichever layers are chosen;
    other layers are where the next main layer is, or the last.

    Args:
        layers: Which convolutions (see `Network.select`); None means all main layers.
        relative_norm: Of each kernel, as a multiple of what He's initialisation with fan-out has on
            average: ‖w‖² = relative_norm² · 2·i.
        start: σ of the first layer, in squared pixels for a kernel of 7 taps a side.
        slope: How fast σ grows with depth, in the same units.
        curvature: How fast that grows, likewise.

    Raises:
        ValueError: σ is not above 0 in one of the layers (when applied).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> closed_form()(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        known = network_layers.of(params, network)

        def make(layer_key: PRNGKey, layer: Layer, kernel: Array) -> Array:
            initializer = correlated.closed_form_covariance(
                _relative_depth(known, layer),
                relative_norm,
                start=start,
                slope=slope,
                curvature=curvature,
            )
            return initializer(layer_key, kernel.shape, kernel.dtype)

        return fill_layers(make, layers)(key, params, network=known)

    return init


def _relative_depth(network: Network, layer: Layer) -> float:
    before = network.layers[: network.layers.index(layer)]
    last = len(network.main) - 1
    return min(sum(other.is_main for other in before), last) / last if last > 0 else 0.0
