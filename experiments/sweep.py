"""Scale and learning rate of random and clustered starts alike, tuned on clustering tasks only.

Batch norm makes a filter of smaller norm the same function with larger steps, so that a start's
norm and the learning rate must be tuned before starts are compared. `--best-of` then runs what was
best of each start, on the tasks given with `--pairs`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from experiments.cli.options import Count, PathText, Positive, Several, check, one_of
from experiments.runs.variants import Variant
from experiments.study import conduct, presets, starts, tuning
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question
from experiments.training.hyperparameters import Training
from jaxinit import controls, initializers

Start = Annotated[str, one_of(("clustered", *starts.WITHOUT_SOURCES))]


@dataclasses.dataclass(frozen=True)
class Sweep(Experiment):
    """What `experiments.sweep` compares."""

    # what is tuned: random, clustered (each distance), gabor (first layer)
    starts: Several[Start] = ("random", "clustered", "gabor")
    # number of clusters
    clusters: Count = 3
    # norms to try, in those of the default start, each layer alike
    scales: Several[Positive] = (0.1, 0.2, 0.35, 0.5, 1.0, 2.0)
    # learning rates to try, as multiples of --learning-rate
    rates: Several[Positive] = (0.33, 1.0, 3.0, 10.0)
    # folder of a sweep that has run: only what was best there, after --epochs, of each start
    best_of: PathText | None = None


_REDUCED = presets.reduced("sweep")
_EUCLIDEAN = dataclasses.replace(_REDUCED["clustering"], distances=("euclidean",))
PRESETS = {
    "quick": Sweep(
        starts=("random", "clustered"),
        scales=(0.35,),
        rates=(3.0,),
        **tuning.on_tuning_pairs(presets.quick("sweep"), 1),
    ),
    "reduced": Sweep(
        starts=("random", "clustered"),
        scales=(0.5, 1.0),
        rates=(0.33, 1.0, 3.0),
        **tuning.on_tuning_pairs(
            _REDUCED | {"clustering": _EUCLIDEAN}, 2, training=Training(), seeds=1
        ),
    ),
    "paper": Sweep(**tuning.on_tuning_pairs(presets.paper("sweep"), 4)),
}


def ask(settings: Sweep, made_of: Ingredients) -> Question:
    """Lists every start as it is, at each scale, and at each learning rate."""
    random = starts.random()
    groups = {start.name: _group(start, settings, made_of) for start in _starts(settings, made_of)}
    if settings.best_of is not None:
        tuning.check_apart(settings, settings.best_of, made_of.evaluated)
        check("random" in groups, "--best-of compares with random: leave it in --starts")
        folder = Path(settings.best_of)
        bests = [tuning.best(of, folder, settings, made_of.evaluated) for of in groups.values()]
        variants = {variant.name: variant for variant in (random, *bests)}
        shown = Figure("tuned", "What was best of each start", tuple(variants))
        chosen = bests[list(groups).index("random")]
        families = tuning.tuned(list(variants.values()), chosen)
        return Question(list(variants.values()), [shown], families=families)
    figures = [
        Figure(
            f"sweep-{name}",
            f"{group[0].label}: scale, learning rate",
            tuple(variant.name for variant in group),
            "sequential",
        )
        for name, group in groups.items()
    ]
    variants = [variant for group in groups.values() for variant in group]
    baseline = random.name if random.name in groups else variants[0].name
    return Question(variants, figures, baseline=baseline)


def _starts(settings: Sweep, made_of: Ingredients) -> list[Variant]:
    def made(name: str) -> list[Variant]:
        if name == "clustered":
            distances = settings.clustering.distances
            return [made_of.clustered(distance, settings.clusters) for distance in distances]
        return [starts.WITHOUT_SOURCES[name]()]

    return [variant for name in settings.starts for variant in made(name)]


def _group(start: Variant, settings: Sweep, made_of: Ingredients) -> list[Variant]:
    """One start as it is, at each scale, and at each learning rate."""
    # Random filters at their own norms are the start as it is.
    scales = [s for s in settings.scales if s != 1 or start.name != "random"]
    rates = [rate for rate in settings.rates if rate != 1]
    return [
        start,
        *(_scaled(start, factor, made_of) for factor in scales),
        *(_at_rate(start, rate * settings.training.learning_rate, settings) for rate in rates),
    ]


def _scaled(start: Variant, factor: float, made_of: Ingredients) -> Variant:
    return Variant(
        f"{start.name}-x{factor:g}",
        f"{start.label}, {factor:g} × default norms",
        lambda: start.then(
            lambda drawn: controls.at_norms_of(
                drawn, initializers.scaled(factor), live=made_of.live
            )
        ),
        {"kind": "at_norms", "filters": start.settings, "norms": {"kind": "scaled", "by": factor}},
        of_images=start.of_images,
    )


def _at_rate(start: Variant, rate: float, settings: Sweep) -> Variant:
    return dataclasses.replace(
        start,
        name=f"{start.name}-rate-{rate:g}",
        label=f"{start.label}, learning rate {rate:g}",
        training=dataclasses.replace(settings.training, learning_rate=rate),
    )


ENTRY = conduct.entry(
    "sweep",
    __doc__,
    PRESETS,
    ask,
    varies="norm and learning rate of every start, on clustering tasks",
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
