"""What is recommended, for the network and the images it is for."""

import numpy as np
from jaxtyping import Array, Num

from jaxinit import checks
from jaxinit import layers as network_layers
from jaxinit.initializers.composition import per_layer
from jaxinit.initializers.norm_targets import at_relative_norm
from jaxinit.kernel_init import gabor_filters, patch_filters
from jaxinit.layers import Layer, Network
from jaxinit.signatures import Initializer, Params, ParamsInitializer, PRNGKey

# The norms that were measured, as multiples of the default's.
_FIRST_NORM, _OTHERS_NORM = 12.0, 0.35
# Those of a first layer of 3×3: of its own filters, and of centroids.
_SMALL_OWN_NORM, _SMALL_CENTROIDS_NORM = 4.0, 1.0
# Measured are 7×7, with which those about as large are taken to be alike, and 3×3.
_TAPS, _SMALL = range(5, 12), (3, 3)


def recommended(images: Num[Array | np.ndarray, "..."] | None = None) -> ParamsInitializer:
    """What is best established of the starts that need no trained networks.

    The first layer gets the centroids of patches of the images (`jaxinit.kernel_init.patch_kmeans`)
    or, where none are given, coloured Gabor filters (`jaxinit.kernel_init.colour_gabor`), at twelve
    times the default's norm. All other main layers keep the filters that they have, at 0.35 times
    the default's norm. In a first layer of 3×3 the centroids have the default's norm; without
    images it keeps its filters, too, at four times the norm, since coloured Gabor filters are not
    shown to be better there (measured in front of a bank only).

    This was measured for training by SGD at a rate of 0.01 (`results/general/README.md`). With a
    first layer of 7×7, in ResNet-18, it is better than random initialisation with tuned norms and
    rate, on CIFAR-100 and on Tiny ImageNet at 32×32. With one of 3×3, in ResNet-20 on Tiny
    ImageNet, centroids are so, too, on eight tasks (`results/general-resnet20-more/README.md`); on
    ten others, and on ten of CIFAR-100, that is open; without images it is itself random
    initialisation with tuned norms, and better than the default start on both sets. It is done
    where the first layer is about as large: two axes of 5 to 11 taps, or 3×3, a smaller stride, one
    group, not transposed; and where it is the first to read the images, and no other convolution
    reads them. Other networks with such layers are taken to be alike; any others stay as they are.
    `jaxinit.changed` lists what would be filled. Of several networks with stacked parameters trace
    one, and `jax.vmap` the initialiser over their keys and parameters.

    The norms are step sizes, and ask for a normalisation behind each layer. For a network without
    it take the filters alone (`jaxinit.start`), and bring what they make to a variance of 1 by
    `jaxinit.lsuv`.

    Args:
        images: (n, h, w, c), some thousands of the training images, normalised as the network sees
            them; 2,000 and 5,000 were measured. Under `jax.jit` they are part of the program, and
            k-means takes tens of seconds to compile at 7×7. None where there are none.

    Returns:
        An initialiser. The key decides the first layer alone, and nothing where that keeps its
        filters: give each of several networks parameters of its own, or chain `jaxinit.default()`
        before it.

    Raises:
        ValueError: Images that patches cannot be taken of; or, when applied, a network whose order
            is not known (give `network=jaxinit.trace(apply, params, x)`), images with other
            channels than it reads, where filters are made of them, or kernels that no leaf holds,
            as with weight normalisation.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> recommended()(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """
    fill_first = per_layer(_first_kernel(images), layers=1)
    small_norm = _SMALL_OWN_NORM if images is None else _SMALL_CENTROIDS_NORM
    rescale_small = at_relative_norm(small_norm, layers=1)
    shorten_others = at_relative_norm(_OTHERS_NORM, layers=slice(1, None))

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        checks.key(key)
        known = network_layers.of(params, network)
        if not known.main or not _is_plain(known.main[0]) or _is_not_alone(known):
            return params
        size = known.main[0].size
        is_small = size == _SMALL
        if not is_small and not all(taps in _TAPS for taps in size):
            return params
        if images is not None or not is_small:
            params = fill_first(key, params, network=known)
        if is_small:
            params = rescale_small(key, params, network=known)
        return shorten_others(key, params, network=known)

    return init


def _first_kernel(images: Num[Array | np.ndarray, "..."] | None) -> Initializer:
    """What fills a first layer, at the norm of one of about 7×7; of 3×3 it is rescaled."""
    if images is None:
        return gabor_filters.colour_gabor(_FIRST_NORM)
    return patch_filters.patch_kmeans(images, relative_norm=_FIRST_NORM)


def _is_not_alone(network: Network) -> bool:
    """Whether other convolutions than the first main one read the input, or come before it."""
    readers = [layer for layer in network.layers if layer.reads_input]
    return (readers or [network.layers[0]]) != [network.main[0]]


def _is_plain(layer: Layer) -> bool:
    """Whether a first layer is like those that were measured in all but its size."""
    steps = layer.stride or (1, 1)
    are_patches = all(step >= taps for step, taps in zip(steps, layer.size, strict=False))
    return (
        len(layer.size) == 2 and not are_patches and layer.groups == 1 and not layer.is_transposed
    )
