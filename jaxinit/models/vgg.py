"""VGG-11 with batch norm as one Flax module: torchvision's features, and one of two heads."""

import itertools

import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import choices
from jaxinit.models import convolution
from jaxinit.models.modules import BatchNorm, Conv, at_least_float32, linear, max_pool
from jaxinit.signatures import Symmetry

_HEADS = ("linear", "imagenet")
_HIDDEN = 4096  # units of each hidden layer of torchvision's classifier
_POOLED = 7  # rows and columns that it reads


class VGG(linen.Module):
    """Stages of 3×3 convolutions, each with bias, batch norm and ReLU; 2×2 maxima end a stage.

    The convolutions are called "conv1" to "conv8", the linear layer "fc", or "fc1" to "fc3".

    Attributes:
        classes: Number of logits.
        stages: Features of each convolution of each stage.
        head: "linear", one linear layer on the features' mean, for small images; or "imagenet",
            torchvision's classifier of three on 7×7 means, 120 million parameters, without its
            dropout.
        dtype: Of the convolutions' arithmetic: see `ResNet`.
        convolve: What computes the convolutions.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = VGG(classes=1000, head="imagenet")
        >>> init = lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
        >>> shapes = jax.eval_shape(init, jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        132868840
    """

    classes: int
    stages: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    head: str = "linear"
    dtype: DTypeLike = jnp.float32
    convolve: convolution.Convolution = convolution.matmul_convolution

    @linen.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n classes"]:
        """Returns logits.

        Args:
            images: Normalised, channels last; each side 2 to the number of stages, or more.
            train: Use the batch's own statistics, and update the running ones where the collection
                "batch_stats" is mutable.

        Raises:
            ValueError: A head that is not known, or images that are too small.
        """
        if self.head not in _HEADS:
            raise choices.unknown(f"head {self.head!r}", _HEADS)
        least = 2 ** len(self.stages)
        if min(images.shape[1:3]) < least:
            raise ValueError(
                f"images of {images.shape[1]}×{images.shape[2]} are too small to be halved "
                f"{len(self.stages)} times: give {least}×{least} or larger"
            )
        x, number = images, itertools.count(1)
        for stage in self.stages:
            for features, place in zip(stage, number, strict=False):
                name = f"conv{place}"
                conv = Conv(
                    features, 3, bias=True, dtype=self.dtype, convolve=self.convolve, name=name
                )
                x = linen.relu(BatchNorm(name=f"bn{place}")(conv(x), train=train))
            x = max_pool(x, 2, 2, 0)
        x = at_least_float32(x)
        if self.head == "linear":
            return linear(self.classes, x.shape[-1], "fc")(jnp.mean(x, axis=(1, 2)))
        x = adaptive_average_pool(x, _POOLED)
        # PyTorch's order, channels first, so that its weights fit.
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        x = linen.relu(linear(_HIDDEN, x.shape[-1], "fc1")(x))
        x = linen.relu(linear(_HIDDEN, _HIDDEN, "fc2")(x))
        return linear(self.classes, _HIDDEN, "fc3")(x)


def adaptive_average_pool(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n s s c"]:
    """Takes means over size × size windows that cover the map, as PyTorch's adaptive pooling does.

    Window i begins at ⌊i·h / size⌋ and ends before ⌈(i + 1)·h / size⌉: windows may overlap, and on
    maps that are smaller than `size` pixels are repeated.

    Args:
        x: Any maps.
        size: Of the result, along each side.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (jnp.asarray(_windows(length, size), x.dtype) for length in x.shape[1:3])
    return jnp.einsum("nhwc,ah,bw->nabc", x, rows, columns)


def _windows(length: int, size: int) -> np.ndarray:
    weights = np.zeros((size, length))
    for window in range(size):
        start, stop = window * length // size, -(-(window + 1) * length // size)
        weights[window, start:stop] = 1 / (stop - start)
    return weights


def symmetry(network: VGG) -> Symmetry:
    """Says which channels can be permuted: a chain, in which each layer has its own permutation.

    "conv1" and so on. Under the head "imagenet" the last convolution's channels keep their order,
    since its first linear layer reads each at 49 places; its hidden units have "fc1" and "fc2".

    Args:
        network: Its form; the number of classes does not matter.
    """
    axes: dict[str, tuple[str | None, ...]] = {}
    count, reads = sum(map(len, network.stages)), None
    for place in range(1, count + 1):
        makes = None if place == count and network.head == "imagenet" else f"conv{place}"
        axes[f"params/conv{place}/kernel"] = (None, None, reads, makes)
        axes[f"params/conv{place}/bias"] = (makes,)
        for norm in ("params/bn{}/scale", "params/bn{}/bias"):
            axes[norm.format(place)] = (makes,)
        for statistic in ("batch_stats/bn{}/mean", "batch_stats/bn{}/var"):
            axes[statistic.format(place)] = (makes,)
        reads = makes
    if network.head == "linear":
        return {**axes, "params/fc/kernel": (reads, None)}
    for name in ("fc1", "fc2"):
        axes[f"params/{name}/kernel"], axes[f"params/{name}/bias"] = (reads, name), (name,)
        reads = name
    return {**axes, "params/fc3/kernel": (reads, None)}


def torch_modules(network: VGG) -> dict[str, str]:
    """Names PyTorch's modules for ours: in its list of features a ReLU and maxima count, too.

    Args:
        network: Its form.
    """
    names, place, number = {}, 0, itertools.count(1)
    for stage in network.stages:
        for _, own in zip(stage, number, strict=False):
            names[f"conv{own}"], names[f"bn{own}"] = f"features.{place}", f"features.{place + 1}"
            place += 3
        place += 1
    if network.head == "linear":
        return {**names, "fc": "classifier"}
    return {**names, "fc1": "classifier.0", "fc2": "classifier.3", "fc3": "classifier.6"}
