"""Experiment 4: how many source models the clustered filters come from (figure 5)."""

import dataclasses
import sys

from experiments.cli.options import Count, Several, check
from experiments.records import published
from experiments.runs.protocol import PresetCount
from experiments.runs.sources import Sources
from experiments.study import conduct, presets, starts
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question
from jaxinit import distances


@dataclasses.dataclass(frozen=True)
class Models(Experiment):
    """What `experiments.source_models` compares."""

    # numbers of source models (those of a preset mean at most as many as there are)
    models: Several[Count] = (2, 4, 6, 10, 20)
    # number of clusters
    clusters: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in self.models:
            check(
                count <= self.sources.sources or isinstance(count, PresetCount),
                f"--models {count} is out of range: there are {self.sources.sources} --sources",
            )


def _counts(*models: int) -> tuple[PresetCount, ...]:
    return tuple(map(PresetCount, models))


PRESETS = {
    "quick": Models(models=_counts(1, 2), **presets.quick("source_models")),
    "reduced": Models(models=_counts(2, 6), **presets.reduced("source_models")),
    "paper": Models(
        models=_counts(2, 4, 6, 10, 20),
        sources=Sources(sources=PresetCount(20)),
        **presets.paper("source_models"),
    ),
}


def ask(settings: Models, made_of: Ingredients) -> Question:
    """Lists random initialisation and, for each distance, a variant a number of models."""
    variants, figures = [starts.random()], []
    authors: dict[str, str | None] = {"random": published.RANDOM}
    counts = tuple(dict.fromkeys(min(count, settings.sources.sources) for count in settings.models))
    for distance in settings.clustering.distances:
        steps = ["random"]
        for count in counts:
            variant = made_of.clustered(distance, settings.clusters, models=count)
            variants.append(variant)
            steps.append(variant.name)
            authors[variant.name] = published.for_models(
                distance, count, clusters=settings.clusters
            )
        title = f"Number of source models, {distances.get(distance).label} distance"
        figures.append(Figure(f"figure5-{distance}", title, tuple(steps), "sequential"))
    return Question(variants, figures, authors)


ENTRY = conduct.entry(
    "source_models",
    __doc__,
    PRESETS,
    ask,
    varies="number of source models",
    number=4,
    sections=(Section("number of source models", ("figure5", "final_accuracy"), 5),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
