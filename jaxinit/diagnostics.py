"""What became of each layer: its norm, and the angle by which it turned."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinit import kernels, point_blocks, relative_norms
from jaxinit import layers as network_layers
from jaxinit.layers import Layers, LiveTaps, Network
from jaxinit.models.modules import at_least_float32
from jaxinit.signatures import Params


def kernel_norms(
    params: Params,
    layers: Layers = None,
    live: LiveTaps | None = None,
    *,
    network: Network | None = None,
) -> dict[str, Float[Array, ""]]:
    """Returns the Frobenius norm of each convolution's kernel.

    Batch norm hides it from the network's function, but a step of SGD turns a filter the further
    the smaller its norm: the norm sets the layer's own learning rate.

    Args:
        params: A tree of parameters.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        live: The taps to count (`Network.live_taps`); where not given, all.
        network: Its convolutions (`jaxinit.trace`); `jaxinit.ResNet18`'s does without.

    Example:
        >>> params = {"conv1": {"kernel": jnp.ones((2, 2, 1, 4))}}
        >>> {name: float(norm) for name, norm in kernel_norms(params).items()}
        {'conv1': 4.0}
    """
    chosen = network_layers.of(params, network, shapes=False).select(layers)
    found = zip(chosen, kernels.get_all(params, chosen), strict=True)
    parts = {layer.name: network_layers.live_part(kernel, layer, live) for layer, kernel in found}
    return {name: relative_norms.length(part).reshape(()) for name, part in parts.items()}


def _direction(kernel: Array) -> Float[Array, " n"]:
    """As a vector in no less than float32, brought near 1 by a power of two."""
    vector = jnp.abs(kernel.ravel()) if jnp.iscomplexobj(kernel) else kernel.ravel()
    vector = at_least_float32(vector)
    return vector * point_blocks.scale(vector)


def kernel_angles(
    before: Params,
    after: Params,
    layers: Layers = None,
    live: LiveTaps | None = None,
    *,
    network: Network | None = None,
) -> dict[str, Float[Array, ""]]:
    """Returns the angle between each convolution's kernel in two trees, in degrees, 0 to 180.

    What is left of a kernel's change when its norm, which batch norm hides, is taken away. Kernels
    are taken as vectors; to one of zeros the angle is 0. Computed from sum and difference of
    vectors of one length, as the cosine has no digits left for small angles (Kahan, *How Futile
    are Mindless Assessments of Roundoff in Floating-Point Computation?*, 2006, §12).

    Args:
        before: A tree of parameters.
        after: Another one, with kernels of the same shapes.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        live: The taps to count (`Network.live_taps`); where not given, all.
        network: Its convolutions (`jaxinit.trace`); `jaxinit.ResNet18`'s does without.

    Example:
        >>> before = {"conv1": {"kernel": jnp.array([1.0, 0.0]).reshape(2, 1, 1, 1)}}
        >>> after = {"conv1": {"kernel": jnp.array([0.0, 3.0]).reshape(2, 1, 1, 1)}}
        >>> {name: round(float(a), 3) for name, a in kernel_angles(before, after).items()}
        {'conv1': 90.0}
    """
    chosen = network_layers.of(before, network, shapes=False).select(layers)

    def angle(layer: network_layers.Layer) -> Float[Array, ""]:
        one, other = (
            _direction(network_layers.live_part(kernels.get(tree, layer), layer, live))
            for tree in (before, after)
        )
        one, other = one * jnp.linalg.norm(other), other * jnp.linalg.norm(one)
        half = jnp.arctan2(jnp.linalg.norm(one - other), jnp.linalg.norm(one + other))
        return jnp.degrees(2 * half)

    return {layer.name: angle(layer) for layer in chosen}
