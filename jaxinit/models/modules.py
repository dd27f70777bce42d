"""The layers that all networks are made of: convolution, batch norm, linear layer, maxima."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import flat_draws
from jaxinit.models import convolution

# Convolutions: He-normal with fan-out, gain √2, not truncated (torchvision's default).
he_normal_fan_out = flat_draws.variance_scaling(2.0, "fan_out", "normal")


def uniform_fan_in(fan_in: int) -> jax.nn.initializers.Initializer:
    """Uniform ±1/√fan_in: PyTorch's default for the weight and the bias of a linear layer."""
    bound = fan_in**-0.5

    def init(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        del out_sharding
        return flat_draws.shaped(jax.random.uniform, key, shape, dtype, -bound, bound)

    return init


def at_least_float32(x: Array) -> Array:
    """Widens what is narrower than float32, such as sums over images must not be."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


class Conv(linen.Module):
    """A convolution, without bias unless told otherwise.

    Attributes:
        features: Output channels.
        size: Taps along each side of the kernel.
        stride: Step on both axes.
        bias: Whether a number is added to each output channel; it starts as 0.
        dtype: Of the arithmetic; the kernel itself is float32.
        convolve: What computes it.
    """

    features: int
    size: int
    stride: int = 1
    bias: bool = False
    dtype: DTypeLike = jnp.float32
    convolve: convolution.Convolution = convolution.matmul_convolution

    @linen.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n ho wo o"]:
        """Convolves with padding (size − 1) / 2 on every side."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal_fan_out, shape, jnp.float32)
        y = self.convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=self.size // 2,
        )
        if not self.bias:
            return y
        bias = self.param("bias", linen.initializers.zeros, (self.features,), jnp.float32)
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


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
        wide = at_least_float32(x)
        scale = self.param("scale", linen.initializers.ones, (features,), jnp.float32)
        bias = self.param("bias", linen.initializers.zeros, (features,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (features,), jnp.float32)
        if train:
            rows = wide.reshape(-1, features)
            count = rows.shape[0]
            mean, var = _moments(rows)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        slope = scale * jax.lax.rsqrt(var + self.epsilon)
        shape = (1,) * (x.ndim - 1) + (features,)
        y = (wide - mean.reshape(shape)) * slope.reshape(shape) + bias.reshape(shape)
        return y.astype(x.dtype)


def _moments(rows: Float[Array, "n c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of each channel, also where the mean is far larger than the spread.

    E[(x − s)²] − E[x − s]² is the variance whatever s is, in all its derivatives, but only near the
    mean does it keep its digits; and E[x − s] is what s as a mean lost by rounding.
    """
    shift = jax.lax.stop_gradient(jnp.mean(rows, axis=0))
    centred = rows - shift[None]
    rest = jnp.mean(centred, axis=0)
    var = jnp.mean(jnp.square(centred), axis=0) - jnp.square(rest)
    return shift + rest, jnp.maximum(var, 0.0)


def linear(features: int, inputs: int, name: str) -> linen.Dense:
    """Makes a linear layer that starts as PyTorch's does."""
    uniform = uniform_fan_in(inputs)
    return linen.Dense(features, kernel_init=uniform, bias_init=uniform, name=name)


def max_pool(
    x: Float[Array, "n h w c"], size: int = 3, stride: int = 2, padding: int = 1
) -> Float[Array, "n ho wo c"]:
    """Takes maxima of values that are not negative, 3×3 ones with stride 2 unless told otherwise.

    After a ReLU padding with zeros changes no maximum, and maxima of shifted copies have a far
    cheaper gradient than XLA's select-and-scatter.

    Args:
        x: Outputs of a ReLU.
        size: Of the window, along each side.
        stride: Step on both axes.
        padding: Zeros on each side.
    """
    for axis in (1, 2):
        length = convolution.output_size(x.shape[axis], size, stride, padding)
        pads = [(padding, padding) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, pads)
        last = stride * (length - 1) + 1
        shifted = [
            jax.lax.slice_in_dim(padded, tap, tap + last, stride=stride, axis=axis)
            for tap in range(size)
        ]
        x = functools.reduce(jnp.maximum, shifted)
    return x
