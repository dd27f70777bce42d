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

# How much longer distances along each axis count than along the next: enough to tell eigenvectors
# apart that are one another's mirror images, so that the same come out everywhere.
_STRETCH = 1e-4
_LENGTHS = (0.01, 1e6)  # pixels: beyond these all taps are alike, or none
_LEAST_EPSILON = 1e-12


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

    With the defaults the correlation is 0.90 at a distance of one pixel, 0.67 at four and 0.45 at
    eight; along the axes of CIFAR-100's training images it is 0.94, 0.70 and 0.51, of Tiny
    ImageNet's at 32×32 0.89, 0.64 and 0.46. Between the first channel and the second and third it
    is 0.85 and 0.72; between red, green and blue of either data set 0.87 to 0.90, and 0.72 or 0.73
    between red and blue. Images of other sizes have another length, which changes the filters
    little: their order, and how large one is beside another.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i. None keeps the whitening's own scale, for
            pixels of variance 1.
        length: Over which pixels are alike, in pixels, from 0.01 to a million.
        between_channels: Correlation of neighbouring channels, from 0 to below 1.
        epsilon: ε, in the units of pixels squared, 1e-12 or more.

    Raises:
        ValueError: A length, ε or correlation out of range.

    Example:
        >>> import jax
        >>> kernel = natural_whitening()(jax.random.key(0), (7, 7, 3, 64))
        >>> bool(jnp.array_equal(kernel[..., 0], -kernel[..., 1]))
        True
        >>> bool(jnp.all(kernel[..., 0] > 0))  # the first blurs
        True
    """
    checks.numbers(length=length, between_channels=between_channels, epsilon=epsilon)
    if not _LENGTHS[0] <= length <= _LENGTHS[1]:
        least, most = _LENGTHS
        raise ValueError(f"{length=} is out of range: say {least:g} to {most:g} pixels")
    if not _LEAST_EPSILON <= epsilon < math.inf:
        raise ValueError(f"{epsilon=} is out of range: say {_LEAST_EPSILON:g} or more")
    if not 0 <= between_channels < 1:
        raise ValueError(f"{between_channels=} must be a correlation from 0 to below 1")

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "... i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape, rank=None)
        if not math.prod(shape):
            return jnp.zeros(tuple(shape), dtype)
        *size, inputs, outputs = shape
        needed = min(-(-outputs // 2), math.prod(size) * inputs)
        values, vectors = _components(size, inputs, float(length), float(between_channels), needed)
        basis = jnp.asarray(vectors / np.sqrt(values + epsilon), working_precision.of(dtype))
        kernel = signed_sets.fill(key, basis, outputs).reshape(tuple(shape))
        return relative_norms.finished(kernel, relative_norm, dtype)

    return init


def _components(
    size: Sequence[int], channels: int, length: float, between: float, count: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "d n"]]:
    """The largest so many eigenvalues of the covariance, and its eigenvectors as columns.

    The covariance is the product of one of places and one of channels, and so are these.
    """
    places = np.stack([axis.ravel() for axis in np.indices(tuple(size))], axis=-1).astype(float)
    places *= 1 + _STRETCH * np.arange(len(size))[::-1]
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
