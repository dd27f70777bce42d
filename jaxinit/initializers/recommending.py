"""What is recommended, for the network and the images it is for."""

import numpy as np
from jaxtyping import Array, Num

from jaxinit import layers as network_layers
from jaxinit.initializers.composition import per_layer
from jaxinit.initializers.norm_targets import at_relative_norm
from jaxinit.kernel_init import gabor_filters, patch_filters
from jaxinit.layers import Layer, Network
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey

# The norms that were measured, as multiples of the default's.
_STEM_NORM, _OTHERS_NORM = 12.0, 0.35
_FEWEST_TAPS = 5


def recommended(images: Num[Array | np.ndarray, "..."] | None = None) -> ParamsInitializer:
    """The best that was measured of what needs no trained networks.

    Where the first layer has five taps a side or more, it gets the centroids of patches of the
    images (`jaxinit.kernel_init.patch_kmeans`), or coloured Gabor filters where none are given
    (`jaxinit.kernel_init.colour_gabor`), at twelve times the default's norm. All other main layers
    keep the filters that they have, at 0.35 times the default's norm.

    A network whose first layer is smaller stays as it is: for those nothing has been established.
    For any network but `jaxinit.ResNet18` give `network=jaxinit.trace(apply, params, x)`, by which
    the first layer is found; `jaxinit.changed` lists what would be filled.

    Measured are ResNet-18s with a first layer of 7×7 and batch norm behind each convolution, on
    photographs of 32×32 and trained by SGD at a rate of 0.01; `results/general/README.md` has the
    comparison. Without a normalisation behind them, layers of 0.35 times the norm pass on ever
    smaller signals: use the first layer alone there, or `jaxinit.lsuv` behind this.

    Args:
        images: (n, h, w, 3), some thousands of the training images, normalised as the network sees
            them; None where there are none.

    Raises:
        ValueError: Images that patches cannot be taken of; or, when applied, a network whose order
            is not known, or images with other channels than its first layer reads.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> recommended()(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """
    if images is None:
        kernel = gabor_filters.colour_gabor(_STEM_NORM)
    else:
        kernel = patch_filters.patch_kmeans(images, relative_norm=_STEM_NORM)
    fill_first = per_layer(kernel, layers=1)
    shorten_others = at_relative_norm(_OTHERS_NORM, layers=slice(1, None))

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        known = network_layers.of(params, network)
        (stem,) = known.select(1)
        if not _is_large(stem):
            return params
        return shorten_others(key, fill_first(key, params, network=known), network=known)

    return init


def _is_large(layer: Layer) -> bool:
    """Whether what was measured at 7×7 is meant for it."""
    return len(layer.size) == 2 and min(layer.size) >= _FEWEST_TAPS
