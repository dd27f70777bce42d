"""How long one step of Lloyd's algorithm takes, beside scikit-learn's on the same data.

Both start from the same centres and take the same number of steps; what a fit costs beside its
steps is subtracted, by timing a short and a long one. The two take turns, so that whatever else the
machine does meets both.
"""

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from jaxinit import kmeans

SHORT, LONG = 2, 22


def main() -> None:
    """Prints the times of each round, and their ratio on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2_600_000)
    parser.add_argument("--dimensions", type=int, default=9)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    points = np.random.default_rng(0).standard_normal(
        (options.points, options.dimensions), dtype=np.float32
    )
    contenders = {
        "jaxinit": jaxinit_fit(points, options.clusters),
        "scikit-learn": sklearn_fit(points, options.clusters),
    }
    for fit in contenders.values():  # compilation, and the threads' start
        fit(SHORT)
        fit(LONG)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(options.repeats):
        for name, fit in contenders.items():
            times[name].append(1e3 * (seconds(fit, LONG) - seconds(fit, SHORT)) / (LONG - SHORT))
        print(f"round {repeat + 1}:", *(f"{name} {t[-1]:.1f} ms" for name, t in times.items()))
    ours, theirs = (statistics.median(times[name]) for name in contenders)
    print(
        f"ratio: {ours / theirs:.2f} (jaxinit {ours:.1f} ms / scikit-learn {theirs:.1f} ms an "
        f"iteration, median of {options.repeats}; {options.points} points, "
        f"d={options.dimensions}, k={options.clusters}; {jax.devices()[0].device_kind}, "
        f"{os.cpu_count()} cores, {platform.machine()})"
    )


def seconds(fit: Callable[[int], None], iterations: int) -> float:
    """Times one fit of so many iterations."""
    start = time.perf_counter()
    fit(iterations)
    return time.perf_counter() - start


def jaxinit_fit(points: np.ndarray, clusters: int) -> Callable[[int], None]:
    """Returns a fit of this library that starts from the first points."""
    on_device, key = jnp.asarray(points), jax.random.key(0)

    def fit(iterations: int) -> None:
        result = kmeans.fit(
            key,
            on_device,
            clusters,
            centers=on_device[:clusters],
            max_iterations=iterations,
            tolerance=0.0,
        )
        jax.block_until_ready(result)
        check(int(result.iterations), iterations)

    return fit


def sklearn_fit(points: np.ndarray, clusters: int) -> Callable[[int], None]:
    """Returns a fit of scikit-learn that starts from the first points."""

    def fit(iterations: int) -> None:
        # scikit-learn's annotations say that these are strings.
        settings: dict[str, Any] = {"init": points[:clusters], "n_init": 1}
        model = KMeans(clusters, tol=0, max_iter=iterations, algorithm="lloyd", **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that so few steps do not converge
            check(model.fit(points).n_iter_, iterations)

    return fit


def check(taken: int, asked: int) -> None:
    """Stops a comparison that would not be one."""
    if taken != asked:
        raise SystemExit(f"a fit converged after {taken} of {asked} iterations: use more points")


if __name__ == "__main__":
    main()
