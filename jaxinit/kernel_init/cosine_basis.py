"""Slices that are functions of the discrete cosine transform, DCT-II, of the kernel's size.

Along an axis of n taps function k is s·cos(π·k·(2x + 1)/(2n)), x = 0 … n − 1, with s = √(1/n) for
k = 0 and √(2/n) otherwise (Ahmed, Natarajan and Rao 1974); a slice is a product of one along each
axis. Networks whose filters are learned combinations of these are those of Ulicny, Krylov and
Dahyot (2019, "Harmonic networks: integrating spectral information into CNNs").
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, kernels, relative_norms
from jaxinit.kernel_init import working_precision
from jaxinit.signatures import Initializer, PRNGKey


def dct(relative_norm: float = 1.0) -> Initializer:
    """Makes kernels each of whose slices is plus or minus one function of the cosine basis.

    The numbers of slices that have one frequency and another differ by one at most; which slice has
    which, which frequencies are used once more, and the signs are random. Any number of spatial
    axes; a kernel of one tap is ±1 times its scale.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i. All slices have the same norm.

    Example:
        >>> kernel = dct()(jax.random.key(0), (2, 2, 1, 4))
        >>> gram = kernel.reshape(4, 4).T @ kernel.reshape(4, 4)
        >>> bool(jnp.allclose(gram, jnp.eye(4) / 2, atol=1e-6))  # four orthogonal slices
        True
    """

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape, rank=None)
        *size, inputs, outputs = shape
        wide = working_precision.of(dtype)
        table = jnp.asarray(basis(size), wide)
        rest_key, order_key, sign_key = jax.random.split(key, 3)
        count = inputs * outputs
        each = jax.random.permutation(rest_key, math.prod(size))[np.arange(count) % len(table)]
        frequency = jax.random.permutation(order_key, each)
        sign = jax.random.rademacher(sign_key, (count, 1), wide)
        kernel = kernels.from_slices(sign * table[frequency], tuple(shape))
        return relative_norms.at_relative_norm(kernel, relative_norm).astype(dtype)

    return init


def basis(size: Sequence[int]) -> Float[np.ndarray, "d d"]:
    """The orthonormal functions of a size: one a row, its taps in the columns, in float64.

    Args:
        size: Taps along each spatial axis. Rows and columns run as its indices do, the last
            fastest.
    """
    whole = np.ones((1, 1))
    for taps in size:
        frequency, place = np.arange(taps)[:, None], np.arange(taps)[None]
        own = np.cos(np.pi * frequency * (2 * place + 1) / (2 * taps)) * np.sqrt(2 / taps)
        own[0] = np.sqrt(1 / taps)
        whole = np.kron(whole, own)
    return whole
