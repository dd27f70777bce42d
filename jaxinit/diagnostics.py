"""What became of each layer: its norm, and the angle by which it turned."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinit import filters
from jaxinit.types import Params


def kernel_norms(
    params: Params, layers: filters.Layers = None, live: filters.LiveTaps | None = None
) -> dict[str, Float[Array, ""]]:
    """Returns the Frobenius norm of each convolution's kernel.

    Batch norm hides it from the network's function, but a step of SGD turns a filter the further
    the shorter it is: the norm sets the layer's own learning rate.

    Args:
        params: A tree of parameters.
        layers: Which convolutions (see `filters.select_layers`); None means all.
        live: The taps to count (`models.resnet.live_taps`); where not given, all.

    Example:
        >>> params = {"conv1": {"kernel": jnp.ones((2, 2, 1, 4))}}
        >>> {name: float(norm) for name, norm in kernel_norms(params).items()}
        {'conv1': 4.0}
    """
    names = filters.select_layers(params, layers)
    kernels = {name: filters.live_part(params, name, live) for name in names}
    return {name: jnp.linalg.norm(kernel.ravel()) for name, kernel in kernels.items()}


def kernel_angles(
    before: Params,
    after: Params,
    layers: filters.Layers = None,
    live: filters.LiveTaps | None = None,
) -> dict[str, Float[Array, ""]]:
    """Returns the angle between each convolution's kernel in two trees, in degrees, 0 to 180.

    What is left of a kernel's change when its norm, which batch norm hides, is taken away. Kernels
    are taken as vectors; to one of zeros the angle is 0. Computed from sum and difference of
    vectors of one length, as the cosine has no digits left for small angles (Kahan, *How Futile
    are Mindless Assessments of Roundoff in Floating-Point Computation?*, 2006, §12).

    Args:
        before: A tree of parameters.
        after: Another one, with kernels of the same shapes.
        layers: Which convolutions (see `filters.select_layers`); None means all.
        live: The taps to count (`models.resnet.live_taps`); where not given, all.

    Example:
        >>> before = {"conv1": {"kernel": jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)}}
        >>> after = {"conv1": {"kernel": jnp.array([0.0, 3.0]).reshape(1, 1, 1, 2)}}
        >>> {name: round(float(a), 3) for name, a in kernel_angles(before, after).items()}
        {'conv1': 90.0}
    """

    def angle(name: str) -> Float[Array, ""]:
        one, other = (filters.live_part(tree, name, live).ravel() for tree in (before, after))
        one, other = one * jnp.linalg.norm(other), other * jnp.linalg.norm(one)
        half = jnp.arctan2(jnp.linalg.norm(one - other), jnp.linalg.norm(one + other))
        return jnp.degrees(2 * half)

    return {name: angle(name) for name in filters.select_layers(before, layers)}
