"""Filters fitted on patches of images: their whitening, and the centroids of their clusters."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Num

from jaxinit import checks, kernels, kmeans, relative_norms
from jaxinit.kernel_init import signed_sets, working_precision
from jaxinit.signatures import Initializer, PRNGKey

_HIGHEST = jax.lax.Precision.HIGHEST
_MOST_STEPS = 50  # of Lloyd's algorithm: whitened patches have no clusters that it could settle on


def patch_whitening(
    images: Num[Array | np.ndarray, "..."],
    *,
    relative_norm: float | None = 1.0,
    epsilon: float = 5e-4,
    patches: int = 32_768,
) -> Initializer:
    """Makes kernels that whiten the patches of images, as the fast CIFAR-10 programs do.

    C = V·Λ·Vᵀ is the covariance of patches of the kernel's size. Output channels 0, 1, 2, 3 … are
    +f₁, −f₁, +f₂, −f₂ … with f = v / √(λ + ε), the largest λ first, so that what the filters make
    of patches has the covariance Λ/(Λ + ε), about 1. Of fewer output channels than twice the taps
    (h·w·c) there are the first. Of more, each further set of that many is ±f·Q, with an orthogonal
    Q drawn anew: it whitens as well as the first set, and repeats none of its filters. Which sign
    comes first is left to the eigensolver.

    Patches are drawn with the key, evenly and with replacement, and the covariance is taken around
    their mean; Jordan's program takes all patches, around 0, which are the same where images are
    normalised.

    Args:
        images: (n, h, w, c), floating point or integers, normalised as the network sees them: ε
            is meant for pixels of variance 1. Under `jax.jit` they are part of the program, so
            give some thousands, not all.
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i. None keeps the whitening's own scale.
        epsilon: ε, in the units of pixels squared.
        patches: How many to draw.

    Raises:
        ValueError: Images that are not (n, h, w, c), not finite or all of one value; or, when
            called, a kernel that is larger than they are or has other input channels, or fewer
            patches than a covariance of its taps needs.

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), frozen patch-whitening
    initialization, and its program airbench94, whose ε this is.

    Example:
        >>> images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
        >>> kernel = patch_whitening(images)(jax.random.key(1), (2, 2, 3, 24))
        >>> kernel.shape, bool(jnp.array_equal(kernel[..., 0], -kernel[..., 1]))
        ((2, 2, 3, 24), True)
    """
    images = _checked(images, None, epsilon, patches)

    def init(key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        checks.kernel(key, shape, dtype)
        _check_shape(shape, images.shape, patches)
        fitted = _whitening(
            key, images, tuple(shape), patches, epsilon=epsilon, dtype=working_precision.of(dtype)
        )
        return relative_norms.finished(fitted, relative_norm, dtype)

    return init


def patch_kmeans(
    images: Num[Array | np.ndarray, "..."],
    *,
    relative_norm: float | None = 1.0,
    whitened: bool = False,
    contrast: float = 0.0025,
    epsilon: float = 0.1,
    patches: int = 32_768,
    restarts: int = 1,
) -> Initializer:
    """Makes kernels of the centroids of whitened patches of images, one an output channel.

    Patches p of the kernel's size are normalised, x = (p − mean p) / √(var p + contrast·σ²), σ²
    being the variance of all pixels; then whitened, z = W·(x − x̄) with W = V·(Λ + ε)^(−½)·Vᵀ of
    their covariance V·Λ·Vᵀ (ZCA); then clustered by Euclidean k-means, in 50 steps at most, into as
    many clusters as there are output channels. The filters are W·c for the centroids c: on raw
    patches they answer as c does on whitened ones, (W·c)·p = c·(W·p), but for each patch's contrast
    and what a bias would add. They add up to 0 over the taps.

    Euclidean as in the paper of 2011, whose evaluation it won; the chapter of 2012 has centroids of
    length 1 instead, and lets a patch be the negative of its centroid.

    Args:
        images: (n, h, w, c), floating point or integers, as the network sees them. Under `jax.jit`
            they are part of the program, so give some thousands, not all.
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i. None keeps the filters' own scale.
        whitened: Whether the network's input is whitened already, or filters are wanted that look
            like edges: c themselves, not W·c.
        contrast: What is added to a patch's variance, as a part of σ²; 10 of pixels from 0 to 255,
            as in the sources, is about 0.0025 of the variance that photographs have.
        epsilon: ε, added to the eigenvalues; normalised patches have a variance of about 1.
        patches: How many to draw, evenly and with replacement.
        restarts: Of k-means.

    Raises:
        ValueError: Images that are not (n, h, w, c), not finite or each of one value; or, when
            called, a kernel that is larger than they are or has other input channels, or fewer
            patches than output channels, or than a covariance of its taps needs.

    Source: Coates, Ng & Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature
    Learning" (2011), section 3; Coates & Ng, "Learning Feature Representations with K-means"
    (2012).

    Example:
        >>> images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
        >>> kernel = patch_kmeans(images, patches=256)(jax.random.key(1), (3, 3, 3, 8))
        >>> kernel.shape, round(float(jnp.sum(kernel**2)), 3)
        ((3, 3, 3, 8), 6.0)
    """
    _check_clustering(contrast, restarts, whitened)
    images = _checked(images, (1, 2, 3), epsilon, patches)

    def init(key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        checks.kernel(key, shape, dtype)
        _check_shape(shape, images.shape, patches, clusters=True)
        fitted = _centroids(
            key,
            images,
            tuple(shape),
            patches,
            restarts,
            whitened=whitened,
            contrast=contrast,
            epsilon=epsilon,
            dtype=working_precision.of(dtype),
        )
        return relative_norms.finished(fitted, relative_norm, dtype)

    return init


def _check_clustering(contrast: float, restarts: int, whitened: bool) -> None:
    checks.numbers(contrast=contrast)
    checks.kind("whitened", whitened, bool, "True or False")
    checks.whole(restarts=restarts)
    if not 0 <= contrast < math.inf or restarts < 1:
        raise ValueError(f"{contrast=} must not be negative, and {restarts=} must be 1 or more")


def _checked(
    images: Num[Array | np.ndarray, "..."],
    axes: tuple[int, ...] | None,
    epsilon: float,
    patches: int,
) -> Num[Array, "n h w c"]:
    """The images on the device, once they are such that something can be fitted on them."""
    checks.numbers(epsilon=epsilon)
    checks.whole(patches=patches)
    if not hasattr(images, "ndim"):
        images = np.asarray(images)
    if images.ndim != 4 or not images.size or not jnp.issubdtype(images.dtype, jnp.number):
        raise ValueError(
            f"images of shape {images.shape} are not (number, height, width, channels), with at "
            "least one of each: give several images, channels last"
        )
    if not 0 < epsilon < math.inf or patches < 1:
        raise ValueError(f"{epsilon=} must be above 0, and {patches=} must be 1 or more")
    if not isinstance(images, jax.core.Tracer):
        values = np.asarray(images)
        if not np.isfinite(values).all():
            raise ValueError("the images hold NaN or ∞: remove what is not finite first")
        if not (values.max(axes) > values.min(axes)).any():
            raise ValueError(
                "the images are constant, so that nothing can be fitted on their patches: give "
                "images with something in them"
            )
    return jnp.asarray(images)


def _check_shape(
    shape: Sequence[int], images: tuple[int, ...], patches: int, *, clusters: bool = False
) -> None:
    kernels.check_channels_last(shape)
    height, width, inputs, outputs = shape
    needed = max(height * width * inputs + 1, outputs if clusters else 1)
    number, rows, columns, channels = images
    if inputs != channels:
        raise ValueError(
            f"a kernel of shape {tuple(shape)} has {inputs} input channels, the images have "
            f"{channels}: fit the first layer on images as the network sees them"
        )
    if height > rows or width > columns:
        raise ValueError(
            f"a kernel of {height}×{width} is larger than the images, which are {rows}×{columns}"
        )
    there = number * (rows - height + 1) * (columns - width + 1)
    if min(there, patches) < needed:
        few = f"the images have {there}: give more of them"
        raise ValueError(
            f"a kernel of shape {tuple(shape)} needs at least {needed} patches, and "
            + (few if there < needed else f"patches={patches} are to be drawn: say more")
        )


@functools.partial(jax.jit, static_argnames=("shape", "patches", "dtype"))
def _whitening(
    key: PRNGKey,
    images: Num[Array, "n h w c"],
    shape: tuple[int, ...],
    patches: int,
    *,
    epsilon: float | Float[Array, ""],
    dtype: jnp.dtype,
) -> Float[Array, "kh kw c o"]:
    patch_key, rotation_key = jax.random.split(key)
    drawn = _patches(patch_key, images, shape[:2], patches, dtype)
    values, vectors = _components(drawn - jnp.mean(drawn, axis=0, keepdims=True))
    basis = vectors[:, ::-1] * jax.lax.rsqrt(values[None, ::-1] + epsilon)
    return signed_sets.fill(rotation_key, basis, shape[-1]).reshape(shape)


@functools.partial(jax.jit, static_argnames=("shape", "patches", "restarts", "dtype"))
def _centroids(
    key: PRNGKey,
    images: Num[Array, "n h w c"],
    shape: tuple[int, ...],
    patches: int,
    restarts: int,
    *,
    whitened: bool | Bool[Array, ""],
    contrast: float | Float[Array, ""],
    epsilon: float | Float[Array, ""],
    dtype: jnp.dtype,
) -> Float[Array, "kh kw c o"]:
    patch_key, seed_key = jax.random.split(key)
    drawn = _patches(patch_key, images, shape[:2], patches, dtype)
    variance = jnp.var(drawn, axis=1, keepdims=True) + contrast * jnp.var(drawn)
    level = drawn - jnp.mean(drawn, axis=1, keepdims=True)
    # Where there is no contrast at all, 0/0 is to be 0.
    normal = level * jax.lax.rsqrt(jnp.where(variance > 0, variance, 1))
    normal -= jnp.mean(normal, axis=0, keepdims=True)
    values, vectors = _components(normal)
    scaled = vectors * jax.lax.rsqrt(values[None] + epsilon)
    whitening = jnp.matmul(scaled, vectors.T, precision=_HIGHEST)
    points = jnp.matmul(normal, whitening, precision=_HIGHEST)
    found = kmeans.fit(
        seed_key, points, shape[-1], restarts=restarts, max_iterations=_MOST_STEPS
    ).centers
    for_raw = jnp.matmul(found, whitening, precision=_HIGHEST)
    return jnp.where(whitened, found, for_raw).T.reshape(shape)


def _patches(
    key: PRNGKey,
    images: Num[Array, "n h w c"],
    size: tuple[int, ...],
    count: int,
    dtype: jnp.dtype,
) -> Float[Array, "count taps"]:
    """Draws patches evenly, each a row in the order (height, width, channel)."""
    number, height, width, _ = images.shape
    which, top, left = (
        jax.random.randint(own, (count, 1, 1), 0, places, jnp.int32)
        for own, places in zip(
            jax.random.split(key, 3),
            (number, height - size[0] + 1, width - size[1] + 1),
            strict=True,
        )
    )
    rows = top + jnp.arange(size[0], dtype=jnp.int32)[None, :, None]
    columns = left + jnp.arange(size[1], dtype=jnp.int32)[None, None, :]
    return images[which, rows, columns].reshape(count, -1).astype(dtype)


def _components(centred: Float[Array, "n d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Eigenvalues of the covariance, the smallest first, and its eigenvectors as columns."""
    covariance = jnp.matmul(centred.T, centred, precision=_HIGHEST) / len(centred)
    values, vectors = jnp.linalg.eigh(covariance)
    return jnp.maximum(values, 0), vectors  # rounding can make a 0 negative
