"""Experiment 6: how many layers are initialised (figure 4), and ways for the first alone (8)."""

import dataclasses
import sys

from experiments.cli.options import Count, Several
from experiments.records import published
from experiments.study import conduct, presets, starts
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question


@dataclasses.dataclass(frozen=True)
class Layers(Experiment):
    """What `experiments.initialized_layers` compares."""

    # convolutions that are initialised: the first so many
    layers: Several[Count] = (1, 2, 6, 10, 17)
    # number of clusters
    clusters: Count = 10


PRESETS = {
    "quick": Layers(layers=(1, 6, 17), **presets.quick("initialized_layers")),
    "reduced": Layers(layers=(1, 6, 17), **presets.reduced("initialized_layers")),
    "paper": Layers(**presets.paper("initialized_layers")),
}


def ask(settings: Layers, made_of: Ingredients) -> Question:
    """Lists random and Gabor initialisation and, for each distance, each number of layers."""
    made_of.check_layers("--layers", *settings.layers)
    variants = [starts.random(), starts.gabor(1)]
    authors = {"random": published.RANDOM, "gabor-1": published.for_gabor(1)}
    first, figures = [variant.name for variant in variants], []
    for distance in settings.clustering.distances:
        steps = ["random"]
        for count in settings.layers:
            variant = made_of.clustered(distance, settings.clusters, layers=count)
            variants.append(variant)
            steps.append(variant.name)
            if count == 1:
                first.append(variant.name)
            authors[variant.name] = published.for_layers(
                distance, count, clusters=settings.clusters, models=settings.sources.sources
            )
        title = f"Number of initialised layers, {starts.distance_label(distance)} distance"
        figures.append(Figure(f"figure4-{distance}", title, tuple(steps), "sequential"))
    figures.append(Figure("figure8", "Ways of starting the first layer", tuple(first)))
    return Question(variants, figures, authors)


ENTRY = conduct.entry(
    "initialized_layers",
    __doc__,
    PRESETS,
    ask,
    varies="number of initialised layers; the first alone",
    number=6,
    sections=(
        Section("number of initialised layers", ("figure4", "final_accuracy"), 4),
        Section("the first layer alone", ("figure8",), 8),
    ),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
