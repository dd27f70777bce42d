"""ResNet-18 as one writes it in Flax without a thought for speed: what ours is compared with."""

import jax
import jax.numpy as jnp
from flax import linen
from jaxtyping import Array, Float

from jaxinit.models import resnet


class Block(linen.Module):
    """Two 3×3 convolutions, with the input added to their output."""

    features: int
    stride: int = 1

    @linen.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n ho wo o"]:
        """Returns the block's output."""
        y = _conv(self.features, 3, self.stride)(x)
        y = linen.relu(_norm(train)(y))
        y = _norm(train)(_conv(self.features, 3, 1)(y))
        if x.shape != y.shape:
            x = _norm(train)(_conv(self.features, 1, self.stride)(x))
        return linen.relu(x + y)


class ResNet18(linen.Module):
    """The whole network, of Flax's own layers, called as `jaxinit.ResNet18` is."""

    classes: int

    @linen.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n classes"]:
        """Returns logits."""
        x = linen.relu(_norm(train)(_conv(64, 7, 2)(images)))
        x = linen.pooling.pool(x, -jnp.inf, jax.lax.max, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for features in (64, 128, 256, 512):
            x = Block(features, stride=1 if features == 64 else 2)(x, train=train)
            x = Block(features)(x, train=train)
        return linen.Dense(self.classes)(jnp.mean(x, axis=(1, 2)))


def _conv(features: int, taps: int, stride: int) -> linen.Conv:
    return linen.Conv(
        features,
        (taps, taps),
        (stride, stride),
        padding=taps // 2,
        use_bias=False,
        kernel_init=resnet.he_normal_fan_out,
    )


def _norm(train: bool) -> linen.BatchNorm:
    return linen.BatchNorm(use_running_average=not train, momentum=0.9)
