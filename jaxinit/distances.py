"""How far apart two filters are: the paper's distances, as maps to points that k-means can cluster.

Each distance between two slices is the Euclidean distance between their features. Transforms are
scaled as `numpy.fft.fft2` scales them: not at all. The spectrum of a real slice repeats itself
(F(−u) is the conjugate of F(u)), so one of each pair of frequencies is kept, times √2; the distance
is that between the full spectra. A 3×3 slice then has 5 features, a 7×7 slice 25.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Size = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Distance:
    """A distance between slices.

    Attributes:
        name: What `get` knows it by.
        features: Maps slices (n, h·w) of a size (h, w), or of one or three sides, to points (n, f),
            as far apart from each other in the Euclidean sense as the slices are in this distance.
        inverse: Maps points (n, f) back to slices (n, h·w) of that size, or None where many slices
            share a point.
    """

    name: str
    features: Callable[[Float[Array, "n d"], Size], Float[Array, "n f"]]
    inverse: Callable[[Float[Array, "n f"], Size], Float[Array, "n d"]] | None = None


def get(name: str) -> Distance:
    """Finds a distance by its name.

    Raises:
        ValueError: No distance has this name.

    Example:
        >>> get("fourier").name
        'fourier'
    """
    known = {d.name: d for d in (euclidean, fourier, fourier_real, cosine)}
    if name not in known:
        raise ValueError(f"distance {name!r} is not known: choose one of {', '.join(known)}")
    return known[name]


def _same(slices: Float[Array, "n d"], size: Size) -> Float[Array, "n d"]:
    del size
    return slices


def _unit(slices: Float[Array, "n d"], size: Size) -> Float[Array, "n d"]:
    del size
    norms = jnp.linalg.norm(slices, axis=1, keepdims=True)
    return slices / jnp.where(norms > 0, norms, 1)


def _magnitudes(slices: Float[Array, "n d"], size: Size) -> Float[Array, "n f"]:
    cosines, sines = _transform(size, slices.dtype)
    return jnp.hypot(_product(slices, cosines), _product(slices, sines))


def _real_parts(slices: Float[Array, "n d"], size: Size) -> Float[Array, "n f"]:
    return _product(slices, _transform(size, slices.dtype)[0])


def _from_real_parts(points: Float[Array, "n f"], size: Size) -> Float[Array, "n d"]:
    # x(t) = Σ Re F(u)·cos(2πu·t) / (h·w) for a point-symmetric x. A pair's √2 is in the feature,
    # and once more in the cosines.
    cosines, _ = _transform(size, points.dtype)
    return _product(points, cosines.T) / math.prod(size)


def _product(a: Float[Array, "n d"], b: Float[Array, "d f"]) -> Float[Array, "n f"]:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _transform(size: Size, dtype: jnp.dtype) -> tuple[Float[Array, "d f"], Float[Array, "d f"]]:
    """Cosines and sines of the frequencies that are kept, those of a pair times √2."""
    taps = list(itertools.product(*map(range, size)))
    angles, scales = [], []
    for frequency in taps:
        opposite = tuple(-u % side for u, side in zip(frequency, size, strict=True))
        if frequency <= opposite:
            # Integers modulo the size first: the angles of far taps stay exact.
            turns = [
                sum((u * t % side) / side for u, t, side in zip(frequency, tap, size, strict=True))
                for tap in taps
            ]
            angles.append(2 * np.pi * np.array(turns))
            scales.append(1.0 if frequency == opposite else np.sqrt(2))
    cosines, sines = (scales * f(np.stack(angles, axis=1)) for f in (np.cos, np.sin))
    return jnp.asarray(cosines, dtype), jnp.asarray(sines, dtype)


euclidean = Distance("euclidean", _same, _same)
"""Between the taps."""

fourier = Distance("fourier", _magnitudes)
"""Between the magnitudes of the discrete Fourier transforms: the report's Fourier distance. A
filter, all its cyclic shifts, its negative and its point reflection are at distance 0."""

fourier_real = Distance("fourier_real", _real_parts, _from_real_parts)
"""Between the real parts of the transforms: what the authors' program clusters. It sees only the
point-symmetric part of a slice, (x(t) + x(−t))/2 with indices modulo the size, and that is what its
inverse gives back."""

cosine = Distance("cosine", _unit)
"""Between the slices scaled to unit length, ‖a − b‖² = 2 − 2·cos; a slice of zeros stays zero."""
