"""Experiment 5, the paper's main one: number of clusters × distance, against random initialisation.

Draws figure 2 (two clusters beside random, pretrained and Gabor initialisation) and figure 3 (the
number of clusters) in form. Missing source models are trained first.
"""

import dataclasses
import sys
from typing import Annotated

from experiments.cli.options import Count, Several, check, one_of
from experiments.records import published
from experiments.study import conduct, presets, starts
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question
from jaxinit import distances

Baseline = Annotated[str, one_of((*starts.WITHOUT_SOURCES, "pretrained"))]


@dataclasses.dataclass(frozen=True)
class Clusters(Experiment):
    """What `experiments.clusters` compares."""

    # numbers of clusters
    clusters: Several[Count] = (1, 2, 3, 10, 30, 50)
    # convolutions that are initialised: the first so many (all where not given)
    layers: int | None = None
    # initialisations to compare with; gabor is in the first layer
    baselines: Several[Baseline] = ("random", "pretrained", "gabor")

    def __post_init__(self) -> None:
        super().__post_init__()
        check("random" in self.baselines, "--baselines lacks random, which all are compared with")


PRESETS = {
    "quick": Clusters(clusters=(10,), **presets.quick("clusters")),
    "reduced": Clusters(clusters=(1, 3, 10), **presets.reduced("clusters")),
    "paper": Clusters(**presets.paper("clusters")),
}


def ask(settings: Clusters, made_of: Ingredients) -> Question:
    """Lists the variants, baselines first."""
    baselines = {**starts.WITHOUT_SOURCES, "pretrained": made_of.pretrained}
    variants = {kind: baselines[kind]() for kind in settings.baselines}
    authors: dict[str, str | None] = {
        "random": published.RANDOM,
        "pretrained": published.PRETRAINED,
        "gabor-1": published.for_gabor(1),
    }
    layers = made_of.layers if settings.layers is None else settings.layers
    made_of.check_layers("--layers", layers)
    by_distance: dict[str, dict[int, str]] = {}
    for k in settings.clusters:
        for distance in settings.clustering.distances:
            variant = made_of.clustered(distance, k, layers=layers)
            variants[variant.name] = variant
            by_distance.setdefault(distance, {})[k] = variant.name
            authors[variant.name] = _authors(settings.sources.sources, layers, distance, k)
    first = [variant.name for name, variant in variants.items() if name in baselines]
    two = min((k for k in settings.clusters if k > 1), default=1)
    few = [names[two] for names in by_distance.values() if two in names]
    figures = [Figure("figure2", "Ways of starting a network", (*first, *few))]
    for distance, names in by_distance.items() if len(settings.clusters) > 1 else ():
        steps = (*(name for name in first if name == "random"), *names.values())
        title = f"Number of clusters, {distances.get(distance).label} distance"
        figures.append(Figure(f"figure3-{distance}", title, steps, "sequential"))
    return Question(list(variants.values()), figures, authors)


def _authors(models: int, layers: int, distance: str, k: int) -> str | None:
    return published.for_clusters(
        distance, k, models=models, layers=layers
    ) or published.for_models(distance, models, clusters=k, layers=layers)


ENTRY = conduct.entry(
    "clusters",
    __doc__,
    PRESETS,
    ask,
    varies="number of clusters × distance",
    number=5,
    sections=(
        Section("ways of starting a network", ("figure2",), 2),
        Section("number of clusters", ("figure3", "final_accuracy"), 3),
    ),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
