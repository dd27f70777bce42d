"""What an initialisation did: the norm of each layer, over the taps that ever meet data."""

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
