"""ResNet-18 as torchvision has it, and the custom variant without residuals in stage one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit.layers import LiveTaps
from jaxinit.models import convolution

# Convolutions: He-normal with fan-out, gain √2, not truncated (torchvision's default).
he_normal_fan_out = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")

_STAGE_FEATURES = (64, 128, 256, 512)
_BLOCKS = 2


def uniform_fan_in(fan_in: int) -> jax.nn.initializers.Initializer:
    """Uniform ±1/√fan_in: PyTorch's default for the weight and the bias of a linear layer."""
    bound = fan_in**-0.5

    def init(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _at_least_float32(x: Array) -> Array:
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


class Conv(linen.Module):
    """A convolution without bias.

    Attributes:
        features: Output channels.
        size: Taps along each side of the kernel.
        stride: Step on both axes.
        dtype: Of the arithmetic; the kernel itself is float32.
        convolve: What computes it.
    """

    features: int
    size: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    convolve: convolution.Convolution = convolution.matmul_convolution

    @linen.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n ho wo o"]:
        """Convolves with padding (size − 1) / 2 on every side."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal_fan_out, shape, jnp.float32)
        return self.convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=self.size // 2,
        )


class BatchNorm(linen.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    y = scale · (x − mean) / √(var + 1e-5) + bias. Flax keeps a running average of the biased
    variance Σ(x − mean)²/n, PyTorch of the unbiased Σ(x − mean)²/(n − 1). On the 1×1 maps of the
    last stage n is the batch size, so a last batch of 8 images makes them differ by a seventh; this
    module keeps PyTorch's. Statistics are taken in float32, or in float64 where `x` is.

    Attributes:
        momentum: Share of the old running value that each step keeps.
        epsilon: Added to the variance.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @linen.compact
    def __call__(self, x: Float[Array, "... c"], *, train: bool) -> Float[Array, "... c"]:
        """Normalises by the batch's statistics while training, else by the running ones."""
        features = x.shape[-1]
        wide = _at_least_float32(x)
        scale = self.param("scale", linen.initializers.ones, (features,), jnp.float32)
        bias = self.param("bias", linen.initializers.zeros, (features,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (features,), jnp.float32)
        if train:
            rows = wide.reshape(-1, features)
            count = rows.shape[0]
            mean = jnp.mean(rows, axis=0)
            var = jnp.maximum(jnp.mean(jnp.square(rows), axis=0) - jnp.square(mean), 0.0)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        slope = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * slope
        shape = (1,) * (x.ndim - 1) + (features,)
        y = wide * slope.reshape(shape) + offset.reshape(shape)
        return y.astype(x.dtype)


class BasicBlock(linen.Module):
    """Two 3×3 convolutions, with the input added to their output.

    Attributes:
        features: Output channels.
        stride: Of the first convolution, and of the shortcut.
        residual: Whether the input is added.
        dtype: Of the arithmetic.
        convolve: What computes the convolutions.
    """

    features: int
    stride: int = 1
    residual: bool = True
    dtype: DTypeLike = jnp.float32
    convolve: convolution.Convolution = convolution.matmul_convolution

    @linen.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n ho wo o"]:
        """Returns relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""
        common = {"dtype": self.dtype, "convolve": self.convolve}
        y = Conv(self.features, 3, self.stride, **common, name="conv1")(x)
        y = linen.relu(BatchNorm(name="bn1")(y, train=train))
        y = Conv(self.features, 3, **common, name="conv2")(y)
        y = BatchNorm(name="bn2")(y, train=train)
        if not self.residual:
            return linen.relu(y)
        if x.shape != y.shape:
            x = Conv(self.features, 1, self.stride, **common, name="shortcut_conv")(x)
            x = BatchNorm(name="shortcut_bn")(x, train=train)
        return linen.relu(x + y)


class ResNet18(linen.Module):
    """ResNet-18 in torchvision's form: 11,181,642 parameters with 10 classes.

    The convolutions are called "conv1", "layer1_0/conv1", "layer1_0/conv2", … "layer4_1/conv2",
    those on shortcuts "layer2_0/shortcut_conv" and so on, the linear layer "fc".

    Attributes:
        classes: Number of logits.
        residual_first_stage: False gives the paper's custom variant, whose first stage adds
            nothing, so that its channels can be permuted freely.
        dtype: Of the arithmetic: float32, bfloat16 or, where JAX has it switched on, float64.
            Parameters and batch statistics start as float32; sums over images and logits are never
            narrower than that.
        convolve: What computes the convolutions.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = ResNet18(classes=10)
        >>> init = lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
        >>> shapes = jax.eval_shape(init, jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        11181642
    """

    classes: int
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
        """
        common = {"dtype": self.dtype, "convolve": self.convolve}
        x = Conv(_STAGE_FEATURES[0], 7, 2, **common, name="conv1")(images)
        x = linen.relu(BatchNorm(name="bn1")(x, train=train))
        x = max_pool(x)
        for stage, features in enumerate(_STAGE_FEATURES, start=1):
            for block in range(_BLOCKS):
                x = BasicBlock(
                    features,
                    stride=2 if stage > 1 and block == 0 else 1,
                    residual=stage > 1 or self.residual_first_stage,
                    **common,
                    name=f"layer{stage}_{block}",
                )(x, train=train)
        x = jnp.mean(_at_least_float32(x), axis=(1, 2))
        uniform = uniform_fan_in(x.shape[-1])
        return linen.Dense(self.classes, kernel_init=uniform, bias_init=uniform, name="fc")(x)


def live_taps(network: linen.Module, size: tuple[int, int]) -> LiveTaps:
    """For each kernel of which some taps never meet data, the rows and columns of the others.

    Args:
        network: Made of `Conv`; called as `ResNet18` is.
        size: (height, width) of the images.

    Returns:
        For each path, such as "layer4_0/conv2", slices of the kernel's first two axes.
    """
    live: dict[str, tuple[slice, slice]] = {}

    def note(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        conv = context.module
        if isinstance(conv, Conv):
            rows, columns = (
                slice(*convolution.live_taps(side, conv.size, conv.stride, conv.size // 2))
                for side in arguments[0].shape[1:3]
            )
            if rows != slice(0, conv.size) or columns != slice(0, conv.size):
                live["/".join(conv.path)] = (rows, columns)
        return call(*arguments, **options)

    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    with linen.intercept_methods(note):
        jax.eval_shape(lambda k, x: network.init(k, x, train=False), jax.random.key(0), images)
    return live


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n ho wo c"]:
    """Takes 3×3 maxima with stride 2 and padding 1 of values that are not negative.

    After a ReLU padding with zeros changes no maximum, and maxima of shifted copies have a far
    cheaper gradient than XLA's select-and-scatter.
    """
    for axis in (1, 2):
        size = convolution.output_size(x.shape[axis], 3, 2, 1)
        pads = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, pads)
        last = 2 * (size - 1) + 1
        shifted = [
            jax.lax.slice_in_dim(padded, tap, tap + last, stride=2, axis=axis) for tap in range(3)
        ]
        x = jnp.maximum(jnp.maximum(shifted[0], shifted[1]), shifted[2])
    return x
