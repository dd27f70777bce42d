"""Scale and learning rate of random and clustered starts alike, tuned on clustering tasks only.

Batch norm makes a shorter filter the same function with larger steps, so that a start's norm and
the learning rate must be tuned before starts are compared. `--best-of` then runs what was best of
each start, on the tasks given with `--pairs`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import comparison, config, ingredients, protocol, statistics, summaries
from experiments.comparison import Figure, Question
from experiments.errors import UserError
from experiments.ingredients import Ingredients
from experiments.runner import Variant
from jaxinit import controls, initializers

STARTS = ("random", "clustered", "gabor")


@dataclasses.dataclass(frozen=True)
class Sweep(comparison.Experiment):
    """What `experiments.sweep` compares."""

    starts: tuple[str, ...] = config.option(
        ("random", "clustered"),
        "what is tuned: random, clustered (each distance), gabor (first layer)",
        choices=STARTS,
    )
    clusters: int = config.option(3, "number of clusters")
    scales: tuple[float, ...] = config.option(
        (0.1, 0.2, 0.35, 0.5, 1.0, 2.0),
        "norms to try, in those of the default start, each layer alike",
    )
    rates: tuple[float, ...] = config.option(
        (0.33, 1.0, 3.0, 10.0), "learning rates to try, as multiples of --learning-rate"
    )
    best_of: str | None = config.option(
        None, "folder of a sweep that has run: only what was best there of each start"
    )

    def __post_init__(self) -> None:
        config.check(self.clusters >= 1, f"--clusters {self.clusters} is too small: say 1 or more")
        for name in ("scales", "rates"):
            for value in getattr(self, name):
                config.check(value > 0, f"--{name} {value} must be positive")


_PAIRS = ((2, 4), (3, 5), (4, 6), (5, 8))  # those of the paper's search


def _tuning(shared: dict[str, Any], pairs: int, **changes: Any) -> dict[str, Any]:
    """Moves what presets share to the first so many tuning pairs."""
    evaluation = dataclasses.replace(shared["evaluation"], pairs=_PAIRS[:pairs], **changes)
    return {**shared, "evaluation": evaluation}


PRESETS = {
    "quick": Sweep(scales=(0.35,), rates=(3.0,), **_tuning(comparison.quick("sweep"), 1)),
    "reduced": Sweep(**_tuning(comparison.reduced("sweep"), 2, seeds=1)),
    "paper": Sweep(**_tuning(comparison.paper("sweep"), 4)),
}


def ask(settings: Sweep, made_of: Ingredients) -> Question:
    """Lists every start as it is, at each scale, and at each learning rate."""
    random = ingredients.random()
    groups = {start.name: _group(start, settings, made_of) for start in _starts(settings, made_of)}
    if settings.best_of is not None:
        best = [_best(group, Path(settings.best_of)) for group in groups.values()]
        variants = {variant.name: variant for variant in (random, *best)}
        shown = Figure("tuned", "What was best of each start", tuple(variants))
        return Question(list(variants.values()), [shown])
    figures = [
        Figure(f"sweep-{name}", f"{group[0].label}: scale, learning rate", names, "sequential")
        for name, group in groups.items()
        if (names := tuple(variant.name for variant in group))
    ]
    variants = {variant.name: variant for group in groups.values() for variant in group}
    baseline = random.name if random.name in variants else next(iter(variants))
    return Question(list(variants.values()), figures, baseline=baseline)


def _starts(settings: Sweep, made_of: Ingredients) -> list[Variant]:
    starts = {
        "random": lambda: [ingredients.random()],
        "clustered": lambda: [
            made_of.clustered(distance, settings.clusters)
            for distance in settings.clustering.distances
        ],
        "gabor": lambda: [ingredients.gabor(1)],
    }
    return [variant for name in settings.starts for variant in starts[name]()]


def _group(start: Variant, settings: Sweep, made_of: Ingredients) -> list[Variant]:
    """One start as it is, at each scale, and at each learning rate."""
    rates = [rate for rate in settings.rates if rate != 1]
    return [
        start,
        *(_scaled(start, factor, made_of) for factor in settings.scales),
        *(_at_rate(start, rate * settings.training.learning_rate, settings) for rate in rates),
    ]


def _scaled(start: Variant, factor: float, made_of: Ingredients) -> Variant:
    return Variant(
        f"{start.name}-x{factor:g}",
        f"{start.label}, {factor:g} × default norms",
        lambda: controls.at_norms_of(start.make(), initializers.scaled(factor), live=made_of.live),
        {"kind": "at_norms", "filters": start.settings, "norms": {"kind": "scaled", "by": factor}},
    )


def _at_rate(start: Variant, rate: float, settings: Sweep) -> Variant:
    return dataclasses.replace(
        start,
        name=f"{start.name}-rate-{rate:g}",
        label=f"{start.label}, learning rate {rate:g}",
        training=dataclasses.replace(settings.training, learning_rate=rate),
    )


def _best(group: Sequence[Variant], folder: Path) -> Variant:
    """Chooses the variant that ended highest on average in a sweep's summary."""
    records, _ = summaries.read_summary(summaries.find(folder))
    validation = {f"pair-{a}-{b}" for a, b in protocol.VALIDATION_PAIRS}
    if tuned_on := sorted({record.task for record in records} & validation):
        raise UserError(
            f"--best-of {folder} ran on {tuned_on[0]}, a task of the comparison: give a sweep of "
            "pairs of superclasses 0 to 9"
        )
    means = {}
    for variant in group:
        values = list(statistics.finals(records, variant.name).values())
        if not values:
            raise UserError(
                f"--best-of {folder} has no finished run of {variant.name}: give the same --scales "
                "and --rates as there, or run the sweep to its end"
            )
        means[variant.name] = sum(values) / len(values)
    return max(group, key=lambda variant: means[variant.name])


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiment and says where everything lies."""
    comparison.main("sweep", PRESETS, ask, argv)


if __name__ == "__main__":
    sys.exit(main())
