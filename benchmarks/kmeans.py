"""How long a k-means fit takes, and one step of Lloyd's algorithm, beside scikit-learn's.

The whole fits seed themselves, anew in each round, and end by the same rule; the inertias they end
at are compared too. The steps start from the same centres, and what a fit costs beside its steps is
subtracted, by timing a short and a long one.
"""

import argparse
import itertools
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from jaxinit import kmeans

SHORT, LONG = 2, 22
TOLERANCE = 1e-4  # of both; scikit-learn's default


def main() -> None:
    """Prints the ratio of whole fits, and on the last line that of their steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2_600_000)
    parser.add_argument("--dimensions", type=int, default=9)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    options = parser.parse_args()
    points = np.random.default_rng(0).standard_normal(
        (options.points, options.dimensions), dtype=np.float32
    )
    steps = step_times(points, options.clusters, options.repeats)
    fits = Fits(points, options.clusters)
    times = turns.take_turns({"ours": fits.ours, "theirs": fits.theirs}, options.repeats, unit=1)
    (ours, theirs), ratio = turns.compare(times)
    print(
        f"whole fits: {ratio}; jaxinit {ours:.2f} s, scikit-learn {theirs:.2f} s, inertia "
        f"{fits.relative_inertia():.4f} of theirs)"
    )
    (ours, theirs), ratio = turns.compare(steps)
    print(
        f"ratio: {ratio}; per iteration: jaxinit {ours:.1f} ms, scikit-learn {theirs:.1f} ms; "
        f"{options.points} points, d={options.dimensions}, k={options.clusters}, "
        f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}, "
        f"median of {options.repeats})"
    )


class Fits:
    """Whole fits by both, each from seeds of its own, and the inertias they ended at."""

    def __init__(self, points: np.ndarray, clusters: int) -> None:
        self._points, self._clusters = points, clusters
        self._on_device = jnp.asarray(points)
        self._seeds = itertools.count(), itertools.count()
        self._inertias: tuple[list[float], list[float]] = ([], [])

    def ours(self) -> None:
        """Fits with this library."""
        key = jax.random.key(next(self._seeds[0]))
        result = kmeans.fit(key, self._on_device, self._clusters, tolerance=TOLERANCE)
        self._inertias[0].append(float(result.inertia))

    def theirs(self) -> None:
        """Fits with scikit-learn."""
        model = sklearn_kmeans(
            self._clusters, n_init=1, tol=TOLERANCE, random_state=next(self._seeds[1])
        )
        self._inertias[1].append(float(model.fit(self._points).inertia_))

    def relative_inertia(self) -> float:
        """Mean inertia of ours over that of theirs."""
        ours, theirs = (statistics.mean(values) for values in self._inertias)
        return ours / theirs


def step_times(points: np.ndarray, clusters: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of one step of both, a value a round."""
    contenders = {
        f"{name} {steps}": fit(points, clusters, steps)
        for steps in (SHORT, LONG)
        for name, fit in (("ours", jaxinit_steps), ("theirs", sklearn_steps))
    }
    times = turns.take_turns(contenders, repeats, unit=1e-3 * (LONG - SHORT))
    return {
        name: [
            long - short
            for long, short in zip(times[f"{name} {LONG}"], times[f"{name} {SHORT}"], strict=True)
        ]
        for name in ("ours", "theirs")
    }


def jaxinit_steps(points: np.ndarray, clusters: int, steps: int) -> Callable[[], None]:
    """Returns so many steps by this library, from the first points."""
    on_device, key = jnp.asarray(points), jax.random.key(0)

    def fit() -> None:
        start = on_device[:clusters]
        result = kmeans.fit(
            key, on_device, clusters, centers=start, max_iterations=steps, tolerance=0.0
        )
        check(int(result.iterations), steps)

    return fit


def sklearn_steps(points: np.ndarray, clusters: int, steps: int) -> Callable[[], None]:
    """Returns so many steps by scikit-learn, from the first points."""
    model = sklearn_kmeans(clusters, init=points[:clusters], n_init=1, tol=0, max_iter=steps)

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that so few steps do not converge
            check(model.fit(points).n_iter_, steps)

    return fit


def sklearn_kmeans(clusters: int, **settings: Any) -> Any:
    """Makes scikit-learn's estimator, whose annotations say that most settings are strings."""
    from sklearn.cluster import KMeans

    return KMeans(clusters, algorithm="lloyd", **settings)


def check(taken: int, asked: int) -> None:
    """Stops a comparison that would not be one."""
    if taken != asked:
        raise SystemExit(f"a fit converged after {taken} of {asked} iterations: use more points")


if __name__ == "__main__":
    main()
