"""Residual networks as one Flax module: torchvision's, the CIFAR form, the paper's custom one."""

import jax.numpy as jnp
from flax import linen
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import choices
from jaxinit.models import convolution
from jaxinit.models.modules import (
    BatchNorm,
    Conv,
    at_least_float32,
    he_normal_fan_out,
    linear,
    max_pool,
    uniform_fan_in,
)
from jaxinit.signatures import Symmetry

__all__ = [
    "BatchNorm",
    "Block",
    "Conv",
    "ResNet",
    "ResNet18",
    "he_normal_fan_out",
    "max_pool",
    "symmetry",
    "uniform_fan_in",
]

# For each kind of block its convolutions: taps along each side, output channels as a multiple of
# the block's features, and whether it is the one that takes the block's stride. The bottleneck's
# 3×3 convolution takes it, as in torchvision, not the first, as in the paper of He et al.
_BLOCKS = {
    "basic": ((3, 1, True), (3, 1, False)),
    "bottleneck": ((1, 1, False), (3, 1, True), (1, 4, False)),
}
_STEMS = ("imagenet", "cifar")
_SHORTCUTS = ("projection", "padding")


class Block(linen.Module):
    """Two or three convolutions, with the input added to their output.

    Attributes:
        features: Output channels of a basic block, a quarter of a bottleneck's.
        stride: Of one of the convolutions, and of the shortcut.
        kind: "basic", two 3×3 convolutions, or "bottleneck", 1×1, 3×3 and 1×1.
        shortcut: What makes the input as large as the output where it is not: see `ResNet`.
        residual: Whether the input is added.
        dtype: Of the arithmetic.
        convolve: What computes the convolutions.
    """

    features: int
    stride: int = 1
    kind: str = "basic"
    shortcut: str = "projection"
    residual: bool = True
    dtype: DTypeLike = jnp.float32
    convolve: convolution.Convolution = convolution.matmul_convolution

    @linen.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n ho wo o"]:
        """Returns relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), or so with three."""
        common = {"dtype": self.dtype, "convolve": self.convolve}
        y, convolutions = x, _BLOCKS[self.kind]
        for number, (size, times, strided) in enumerate(convolutions, start=1):
            stride = self.stride if strided else 1
            y = Conv(self.features * times, size, stride, **common, name=f"conv{number}")(y)
            y = BatchNorm(name=f"bn{number}")(y, train=train)
            if number < len(convolutions):
                y = linen.relu(y)
        if not self.residual:
            return linen.relu(y)
        if x.shape != y.shape and self.shortcut == "padding":
            x = _subsampled(x, self.stride, y.shape[-1])
        elif x.shape != y.shape:
            x = Conv(y.shape[-1], 1, self.stride, **common, name="shortcut_conv")(x)
            x = BatchNorm(name="shortcut_bn")(x, train=train)
        return linen.relu(x + y)


def _subsampled(x: Float[Array, "n h w c"], stride: int, channels: int) -> Array:
    """Takes every so many-th pixel, and puts channels of zeros before and after the others."""
    before = (channels - x.shape[-1]) // 2
    after = channels - x.shape[-1] - before
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (before, after)))


class ResNet(linen.Module):
    """A residual network; as it stands by default, ResNet-18 in torchvision's form.

    The convolutions are called "conv1", "layer1_0/conv1", "layer1_0/conv2", … "layer4_1/conv2",
    those on shortcuts "layer2_0/shortcut_conv" and so on, the linear layer "fc".

    Attributes:
        classes: Number of logits.
        stages: Blocks of each stage. Each but the first begins with stride 2.
        widths: Features of each stage's blocks; the stem has those of the first.
        block: "basic" or "bottleneck", which makes four times its features.
        stem: "imagenet", 7×7 with stride 2 and 3×3 maxima with stride 2, or "cifar", 3×3 alone.
        shortcut: What makes a block's input as large as its output: "projection", a 1×1
            convolution and batch norm, or "padding", every second pixel and channels of zeros,
            half of them before the others and half after: option A of He et al., without weights.
        residual_first_stage: False gives the paper's custom variant, whose first stage adds
            nothing, so that its channels can be permuted freely.
        dtype: Of the arithmetic: float32, bfloat16 or, where JAX has it switched on, float64.
            Parameters and batch statistics start as float32; sums over images and logits are never
            narrower than that.
        convolve: What computes the convolutions.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = ResNet(classes=1000, stages=(3, 4, 6, 3), block="bottleneck")
        >>> init = lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
        >>> shapes = jax.eval_shape(init, jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        25557032
    """

    classes: int
    stages: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "basic"
    stem: str = "imagenet"
    shortcut: str = "projection"
    residual_first_stage: bool = True
    dtype: DTypeLike = jnp.float32
    convolve: convolution.Convolution = convolution.matmul_convolution

    @linen.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n classes"]:
        """Returns logits.

        Args:
            images: Normalised, channels last.
            train: Use the batch's own statistics, and update the running ones where the collection
                "batch_stats" is mutable.

        Raises:
            ValueError: A block, stem or shortcut that is not known, or stages without a width.
        """
        _check(self)
        common = {"dtype": self.dtype, "convolve": self.convolve}
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = Conv(self.widths[0], size, stride, **common, name="conv1")(images)
        x = linen.relu(BatchNorm(name="bn1")(x, train=train))
        if self.stem == "imagenet":
            x = max_pool(x)
        for stage, (blocks, features) in enumerate(
            zip(self.stages, self.widths, strict=True), start=1
        ):
            for number in range(blocks):
                x = Block(
                    features,
                    stride=2 if stage > 1 and number == 0 else 1,
                    kind=self.block,
                    shortcut=self.shortcut,
                    residual=stage > 1 or self.residual_first_stage,
                    **common,
                    name=f"layer{stage}_{number}",
                )(x, train=train)
        x = jnp.mean(at_least_float32(x), axis=(1, 2))
        return linear(self.classes, x.shape[-1], "fc")(x)


def ResNet18(
    classes: int,
    residual_first_stage: bool = True,
    dtype: DTypeLike = jnp.float32,
    convolve: convolution.Convolution = convolution.matmul_convolution,
) -> ResNet:
    """Makes ResNet-18 in torchvision's form: 11,181,642 parameters with 10 classes.

    Args:
        classes: Number of logits.
        residual_first_stage: False gives the paper's custom variant.
        dtype: Of the arithmetic.
        convolve: What computes the convolutions.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = ResNet18(classes=10)
        >>> init = lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
        >>> shapes = jax.eval_shape(init, jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        11181642
    """
    return ResNet(
        classes, residual_first_stage=residual_first_stage, dtype=dtype, convolve=convolve
    )


def _check(network: ResNet) -> None:
    for field, known in (("block", _BLOCKS), ("stem", _STEMS), ("shortcut", _SHORTCUTS)):
        if (value := getattr(network, field)) not in known:
            raise choices.unknown(f"{field} {value!r}", known)
    if len(network.stages) != len(network.widths):
        raise ValueError(
            f"stages {network.stages} and widths {network.widths} differ in length: "
            "give each stage one width"
        )


def symmetry(network: ResNet) -> Symmetry:
    """Says which channels of a residual network can be permuted together.

    All that is added into one residual stream shares the stream's permutation, called "stage1" and
    so on: the blocks' outputs, the shortcut into it, and for the first also the stem, unless a
    shortcut's convolution stands between them: then the stem's is called "conv1". Within a block
    the channels between its convolutions are free: "layer1_0/conv1" and so on. Where the first
    stage has no residuals every one of its convolutions, and the stem, has its own. Shortcuts
    without weights tie each stream to places within the next, so those are left in their order.

    Args:
        network: Its form; the number of classes does not matter.
    """
    axes: dict[str, tuple[str | None, ...]] = {}
    convolutions = _BLOCKS[network.block]

    def convolution(path: str, norm: str, reads: str | None, makes: str | None) -> str | None:
        axes[f"params/{path}/kernel"] = (None, None, reads, makes)
        for name in (
            "params/{}/scale",
            "params/{}/bias",
            "batch_stats/{}/mean",
            "batch_stats/{}/var",
        ):
            axes[name.format(norm)] = (makes,)
        return makes

    padded = network.shortcut == "padding"
    tied = network.residual_first_stage and convolutions[-1][1] == 1
    stem = None if padded else "stage1" if tied else "conv1"
    stream = convolution("conv1", "bn1", None, stem)
    for stage, blocks in enumerate(network.stages, start=1):
        residual = stage > 1 or network.residual_first_stage
        for number in range(blocks):
            block, reads = f"layer{stage}_{number}", stream
            own = f"stage{stage}" if residual else f"{block}/conv{len(convolutions)}"
            last = None if padded else own
            for place in range(1, len(convolutions)):
                name = f"{block}/conv{place}"
                reads = convolution(name, f"{block}/bn{place}", reads, name)
            place = len(convolutions)
            convolution(f"{block}/conv{place}", f"{block}/bn{place}", reads, last)
            if residual and not padded and number == 0 and stream != last:
                convolution(f"{block}/shortcut_conv", f"{block}/shortcut_bn", stream, last)
            stream = last
    axes["params/fc/kernel"] = (stream, None)
    return axes
