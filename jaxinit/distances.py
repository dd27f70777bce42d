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
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinit import choices, relative_norms

#: Sides of a slice, such as (h, w).
Size = tuple[int, ...]

#: One of `REPRESENTATIVES`.
Representative = Literal["centroid", "medoid", "member", "inverse"]
REPRESENTATIVES: tuple[Representative, ...] = get_args(Representative)
"""How a cluster becomes a filter, as magnitudes and directions have no inverse.

- "centroid": the mean of the members' slices, whose squared norm is the members' mean square less
  their spread: about half the norm at ten clusters. Under "fourier" a cluster holds a filter and
  its negative alike, and the mean goes towards zero.
- "medoid": the member nearest the centre: a real filter, but no typical one. Under "euclidean" it
  is small, as the centre is; under "cosine" large, as those are the least noisy.
- "member": several members, drawn uniformly, of which `banks.draw` takes one. Keeps the norms and
  the spread within the clusters too: the layer's own distribution, thinned. A cluster of fewer
  has each of its members as often, but for a remainder.
- "inverse": the centre, transformed back: under "fourier_real" the point-symmetric part of the
  centroid, as in the authors' program; under "euclidean" the centroid.
"""


@dataclasses.dataclass(frozen=True)
class Distance:
    """A distance between slices.

    Attributes:
        name: What `get` knows it by.
        features: Maps slices (n, h·w) of a size (h, w), or of one or three sides, to points (n, f),
            as far apart from each other in the Euclidean sense as the slices are in this distance.
        inverse: Maps points (n, f) back to slices (n, h·w) of that size, or None where many slices
            share a point.
        label: What figures call it.
        representative: How a cluster of this distance becomes a filter where nothing else is asked
            for; `banks.fit` itself takes what it is told.
    """

    name: str
    features: Callable[[Float[Array, "n d"], Size], Float[Array, "n f"]]
    inverse: Callable[[Float[Array, "n f"], Size], Float[Array, "n d"]] | None = None
    label: str = dataclasses.field(kw_only=True)
    representative: Representative = dataclasses.field(kw_only=True)


# Every distance there is, by its name: filled at the end of this module.
_KNOWN: dict[str, Distance] = {}


def names() -> tuple[str, ...]:
    """Lists the names of all distances.

    Example:
        >>> names()
        ('euclidean', 'fourier', 'fourier_real', 'cosine')
    """
    return tuple(_KNOWN)


def get(name: str) -> Distance:
    """Finds a distance by its name.

    Raises:
        ValueError: No distance has this name.

    Example:
        >>> get("fourier").name
        'fourier'
    """
    if not isinstance(name, str) or name not in _KNOWN:
        raise choices.unknown(f"distance {name!r}", _KNOWN)
    return _KNOWN[name]


def _known(distance: Distance) -> Distance:
    _KNOWN[distance.name] = distance
    return distance


def _same(slices: Float[Array, "n d"], size: Size) -> Float[Array, "n d"]:
    del size
    return slices


def _unit(slices: Float[Array, "n d"], size: Size) -> Float[Array, "n d"]:
    del size
    return relative_norms.unit(slices, axis=1)


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


# To add a distance, say `_known` of it here: all else, names, labels and choices, follows.

euclidean = _known(
    Distance("euclidean", _same, _same, label="Euclidean", representative="centroid")
)
"""Between the taps."""

fourier = _known(Distance("fourier", _magnitudes, label="Fourier", representative="member"))
"""Between the magnitudes of the discrete Fourier transforms: the report's Fourier distance. A
filter, all its cyclic shifts, its negative and its point reflection are at distance 0."""

fourier_real = _known(
    Distance(
        "fourier_real",
        _real_parts,
        _from_real_parts,
        label="Fourier (real part)",
        representative="inverse",
    )
)
"""Between the real parts of the transforms: what the authors' program clusters. It sees only the
point-symmetric part of a slice, (x(t) + x(−t))/2 with indices modulo the size, and that is what its
inverse gives back."""

cosine = _known(Distance("cosine", _unit, label="Cosine", representative="centroid"))
"""Between the slices scaled to unit length, ‖a − b‖² = 2 − 2·cos; a slice of zeros stays zero."""
