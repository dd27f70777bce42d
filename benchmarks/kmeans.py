"""How long a k-means fit takes, and one step of Lloyd's algorithm, beside scikit-learn's.

The whole fits seed themselves, anew in each round, and end by the same rule; the inertias they end
at are compared too. scikit-learn fits by Lloyd's and by Elkan's algorithm, and the faster counts.
The steps start from the same centres, and what a fit costs beside its steps is subtracted, by
timing a short and a long one; so too for more clusters, on as many points as make about as many
products of a centre's coordinate and a point's.
"""

import argparse
import itertools
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from experiments.records import surroundings
from jaxinit import kmeans

SHORT, LONG = 2, 22
TOLERANCE = 1e-4  # of both; scikit-learn's default
MORE_CLUSTERS = 32, 64, 128, 256


def main() -> None:
    """Prints the ratio of whole fits, what a product costs, and last the ratio of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2_600_000)
    parser.add_argument("--dimensions", type=int, default=9)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    options = parser.parse_args()
    points = np.random.default_rng(0).standard_normal(
        (options.points, options.dimensions), dtype=np.float32
    )
    whole_fits(points, options.clusters, options.repeats)
    products(points, options.clusters, options.repeats)
    steps = step_times(points, options.clusters, options.repeats)
    (ours, theirs), ratio = turns.compare(steps)
    print(
        f"ratio: {ratio}; per iteration: jaxinit {ours:.1f} ms, scikit-learn {theirs:.1f} ms; "
        f"{options.points} points, d={options.dimensions}, k={options.clusters}, "
        f"{jax.devices()[0].device_kind}, {surroundings.cores()} cores, jax {jax.__version__}, "
        f"median of {options.repeats})"
    )


def whole_fits(points: np.ndarray, clusters: int, repeats: int) -> None:
    """Prints how long whole fits take, beside the faster of scikit-learn's algorithms."""
    fits = Fits(points, clusters)
    contenders = {"ours": fits.ours, "lloyd": fits.lloyd, "elkan": fits.elkan}
    times = turns.take_turns(contenders, repeats, unit=1)
    best = min(("lloyd", "elkan"), key=lambda name: statistics.median(times[name]))
    (ours, theirs), ratio = turns.compare({"ours": times["ours"], best: times[best]})
    print(
        f"whole fits: {ratio}; jaxinit {ours:.2f} s, scikit-learn's {best} {theirs:.2f} s, inertia "
        f"{fits.relative_inertia(best):.4f} of theirs)",
        flush=True,
    )


def products(points: np.ndarray, clusters: int, repeats: int) -> None:
    """Prints how long a step takes, for each product, with more clusters and fewer points."""
    for k in MORE_CLUSTERS:
        few = points[: len(points) * clusters // k]
        times = step_times(few, k, repeats, ("ours",))["ours"]
        least = step_times(few, clusters, repeats, ("ours",))["ours"]
        nanoseconds = [1e6 * time / (few.size * k) for time in times]
        own = [1e6 * time / (few.size * clusters) for time in least]
        print(
            f"k={k}: {_spread(nanoseconds)} ns a product, k={clusters}: {_spread(own)}", flush=True
        )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


class Fits:
    """Whole fits by both, each from seeds of its own, and the inertias they ended at."""

    def __init__(self, points: np.ndarray, clusters: int) -> None:
        self._points, self._clusters = points, clusters
        self._on_device = jnp.asarray(points)
        self._seeds = {name: itertools.count() for name in ("ours", "lloyd", "elkan")}
        self._inertias: dict[str, list[float]] = {name: [] for name in self._seeds}

    def ours(self) -> None:
        """Fits with this library."""
        key = jax.random.key(next(self._seeds["ours"]))
        result = kmeans.fit(key, self._on_device, self._clusters, tolerance=TOLERANCE)
        self._inertias["ours"].append(float(result.inertia))

    def lloyd(self) -> None:
        """Fits with scikit-learn by Lloyd's algorithm."""
        self._theirs("lloyd")

    def elkan(self) -> None:
        """Fits with scikit-learn by Elkan's algorithm."""
        self._theirs("elkan")

    def _theirs(self, algorithm: str) -> None:
        model = sklearn_kmeans(
            self._clusters,
            algorithm=algorithm,
            n_init=1,
            tol=TOLERANCE,
            random_state=next(self._seeds[algorithm]),
        )
        self._inertias[algorithm].append(float(model.fit(self._points).inertia_))

    def relative_inertia(self, algorithm: str) -> float:
        """Mean inertia of ours over that of theirs."""
        return statistics.mean(self._inertias["ours"]) / statistics.mean(self._inertias[algorithm])


def step_times(
    points: np.ndarray, clusters: int, repeats: int, names: tuple[str, ...] = ("ours", "theirs")
) -> dict[str, list[float]]:
    """Milliseconds of one step of each, a value a round."""
    makers = {"ours": jaxinit_steps, "theirs": sklearn_steps}
    contenders = {
        f"{name} {steps}": makers[name](points, clusters, steps)
        for steps in (SHORT, LONG)
        for name in names
    }
    times = turns.take_turns(contenders, repeats, unit=1e-3 * (LONG - SHORT))
    return {
        name: [
            long - short
            for long, short in zip(times[f"{name} {LONG}"], times[f"{name} {SHORT}"], strict=True)
        ]
        for name in names
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

    return KMeans(clusters, **settings)


def check(taken: int, asked: int) -> None:
    """Stops a comparison that would not be one."""
    if taken != asked:
        raise SystemExit(f"a fit converged after {taken} of {asked} iterations: use more points")


if __name__ == "__main__":
    main()
