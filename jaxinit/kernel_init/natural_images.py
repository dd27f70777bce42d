"""The whitening of photographs' patches by formula, for first layers: no image is needed."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, kernels, relative_norms
from jaxinit.kernel_init import signed_sets, working_precision
from jaxinit.signatures import Initializer, PRNGKey

# How much longer distances along the first axis count: enough to tell eigenvectors apart that are
# one another's mirror images, so that the same come out everywhere.
_STRETCH = 1e-4


def natural_whitening(
    relative_norm: float | None = 1.0,
    *,
    length: float = 10.0,
    between_channels: float = 0.85,
    epsilon: float = 5e-4,
) -> Initializer:
    """Makes kernels that whiten patches of photographs, as a formula has their covariance.

    Pixels p and q of channels c and d have the covariance exp(−|p − q|/length)·between^|c − d|:
    the autocorrelation of photographs, which was first measured by Kretzmer (1952, "Statistics of
    television signals"), about exponential, and channels in the order of their wavelengths. Its
    eigenvectors v and eigenvalues λ give the output channels as in `patch_whitening`: +f₁, −f₁,
    +f₂, −f₂ … with f = v/√(λ + ε), the largest λ first, and, where there are more than twice the
    taps, further sets ±f·Q with a random orthogonal Q. Which of ±f comes first is fixed, so that
    only such further sets are random. Any number of spatial axes and of channels, any size.

    The defaults are near the averages of CIFAR-100 at 32×32: correlations of 0.92 between
    neighbouring pixels and of 0.66 at four pixels' distance, of 0.84 between red and green and of
    0.69 between red and blue. Images of other sizes need another length, which changes the filters
    little: their order, and how large one is beside another.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i. None keeps the whitening's own scale, for
            pixels of variance 1.
        length: Over which pixels are alike, in pixels.
        between_channels: Correlation of neighbouring channels, from 0 to below 1.
        epsilon: ε, in the units of pixels squared.

    Raises:
        ValueError: A length or ε that is not above 0, or a correlation out of range.

    Example:
        >>> import jax
        >>> kernel = natural_whitening()(jax.random.key(0), (7, 7, 3, 64))
        >>> bool(jnp.array_equal(kernel[..., 0], -kernel[..., 1]))
        True
        >>> bool(jnp.all(kernel[..., 0] > 0))  # the first is even and grey
        True
    """
    checks.numbers(length=length, between_channels=between_channels, epsilon=epsilon)
    if not 0 < length < math.inf or not 0 < epsilon < math.inf:
        raise ValueError(f"{length=}, in pixels, and {epsilon=} must be above 0")
    if not 0 <= between_channels < 1:
        raise ValueError(f"{between_channels=} must be a correlation from 0 to below 1")

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape, rank=None)
        *size, inputs, outputs = shape
        needed = min(-(-outputs // 2), math.prod(shape[:-1]))
        values, vectors = _components(size, inputs, length, between_channels, needed)
        basis = jnp.asarray(vectors / np.sqrt(values + epsilon), working_precision.of(dtype))
        kernel = signed_sets.fill(key, basis, outputs).reshape(tuple(shape))
        if relative_norm is not None:
            kernel = relative_norms.at_relative_norm(kernel, relative_norm)
        return kernel.astype(dtype)

    return init


def _components(
    size: Sequence[int], channels: int, length: float, between: float, count: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "d n"]]:
    """The largest so many eigenvalues of the covariance, and its eigenvectors as columns.

    The covariance is the product of one of places and one of channels, and so are these.
    """
    places = np.stack([axis.ravel() for axis in np.indices(tuple(size))], axis=-1).astype(float)
    places *= 1 + _STRETCH * (np.arange(len(size)) == 0)
    apart = np.sqrt(np.square(places[:, None] - places[None]).sum(-1))
    order = np.arange(channels)
    of_places, patterns = _decomposed(np.exp(-apart / length))
    of_channels, colours = _decomposed(between ** np.abs(order[:, None] - order[None]))
    values = np.outer(of_places, of_channels).ravel()
    largest = np.argsort(-values, kind="stable")[:count]
    pattern, colour = np.divmod(largest, channels)
    vectors = patterns[:, None, pattern] * colours[None, :, colour]
    return values[largest], vectors.reshape(len(values), count)


def _decomposed(
    covariance: Float[np.ndarray, "d d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Eigenvalues, the largest first, and eigenvectors; their first tap that counts is above 0."""
    values, vectors = np.linalg.eigh(covariance)
    first = np.argmax(np.abs(vectors) > 1e-6, axis=0)
    signs = np.sign(vectors[first, np.arange(len(values))])
    return np.maximum(values[::-1], 0), (vectors * signs)[:, ::-1]
