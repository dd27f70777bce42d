"""Kernels of few taps that are not zero: identities and random impulses."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, kernels, relative_norms
from jaxinit.kernel_init import working_precision
from jaxinit.signatures import Initializer, PRNGKey


def dirac(groups: int = 1) -> Initializer:
    """Makes the kernel that passes its input on: `torch.nn.init.dirac_`, in this order of axes.

    In each group output channel c is input channel c, for as many as there are of both; further
    output channels are zero. Nothing is random, and the norm is none of the default's multiples.
    The one tap is number size // 2 along each axis, as in PyTorch: for odd sizes the middle, so
    that with "SAME" padding the convolution is the identity; for even sizes the later of the two
    middle taps, while "SAME" padding goes by the earlier, so that the output is the input moved
    back by one pixel.

    Args:
        groups: Of the convolution; the kernel's input channels are those of one group.

    Raises:
        ValueError: `groups` is below 1 or, when called, does not divide the output channels.

    Example:
        >>> dirac()(jax.random.key(0), (3, 2, 2))[1]
        Array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    checks.whole(groups=groups)
    if groups < 1:
        raise ValueError(f"groups={groups} must be 1 or more")

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        del key
        kernels.check_channels_last(shape, rank=None)
        *size, inputs, outputs = shape
        if outputs % groups:
            raise ValueError(
                f"a kernel of {outputs} output channels cannot be split into {groups} groups: give "
                "the convolution's feature groups as groups="
            )
        own = outputs // groups
        # Of jnp, not of NumPy: compiled programs would hold the whole kernel as a constant.
        passed = jnp.tile(jnp.eye(inputs, own, dtype=dtype), groups)
        middle = tuple(side // 2 for side in size)
        return jnp.zeros(tuple(shape), dtype).at[middle].set(passed)

    return init


def impulse(relative_norm: float = 1.0) -> Initializer:
    """Makes kernels each of whose slices is one tap, at a random place and of random sign.

    All taps that are not zero have the same size. Such filters come close to learned ones where the
    mixing of channels is learned (Zheng, Li and Lucey 2024, "Structured initialization for
    attention in vision transformers", on ConvMixer); theirs are depthwise and all positive. Here
    signs are random, so that sums over input channels have zero mean. Places are uniform over all
    taps, so that no size has a centre.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.

    Example:
        >>> kernel = impulse()(jax.random.key(0), (3, 3, 2, 8))
        >>> int(jnp.sum(kernel != 0)), round(float(jnp.max(kernel)), 3)
        (16, 0.5)
    """

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape, rank=None)
        *size, inputs, outputs = shape
        wide = working_precision.of(dtype)
        place_key, sign_key = jax.random.split(key)
        taps = math.prod(size)
        place = jax.random.randint(place_key, (1, inputs, outputs), 0, taps)
        sign = jax.random.rademacher(sign_key, (1, inputs, outputs), wide)
        there = jnp.arange(taps)[:, None, None] == place
        kernel = jnp.where(there, sign, jnp.zeros_like(sign)).reshape(tuple(shape))
        return relative_norms.at_relative_norm(kernel, relative_norm).astype(dtype)

    return init
