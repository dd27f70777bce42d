"""Experiment 6: how many layers are initialised (figure 4), and ways for the first alone (8)."""

import dataclasses
import sys
from collections.abc import Sequence

from experiments import comparison, config, ingredients, reference
from experiments.comparison import Figure, Question


@dataclasses.dataclass(frozen=True)
class Layers(comparison.Experiment):
    """What `experiments.layers` compares."""

    layers: tuple[int, ...] = config.option(
        (1, 2, 6, 10, 17), "convolutions that are initialised: the first so many"
    )
    clusters: int = config.option(10, "number of clusters")

    def __post_init__(self) -> None:
        config.check(self.clusters >= 1, f"--clusters {self.clusters} is too small: say 1 or more")


PRESETS = {
    "quick": Layers(layers=(1, 6, 17), **comparison.quick("layers")),
    "reduced": Layers(layers=(1, 6, 17), **comparison.reduced("layers")),
    "paper": Layers(**comparison.paper("layers")),
}


def ask(settings: Layers, made_of: ingredients.Ingredients) -> Question:
    """Lists random and Gabor initialisation and, for each distance, each number of layers."""
    made_of.check_layers("--layers", *settings.layers)
    variants = [ingredients.random(), ingredients.gabor(1)]
    authors = {"random": reference.RANDOM, "gabor-1": reference.for_gabor(1)}
    first, figures = [variant.name for variant in variants], []
    for distance in settings.clustering.distances:
        steps = ["random"]
        for count in settings.layers:
            variant = made_of.clustered(distance, settings.clusters, layers=count)
            variants.append(variant)
            steps.append(variant.name)
            if count == 1:
                first.append(variant.name)
            authors[variant.name] = reference.for_layers(
                distance, count, clusters=settings.clusters, models=settings.sources.sources
            )
        title = f"Number of initialised layers, {ingredients.distance_label(distance)} distance"
        figures.append(Figure(f"figure4-{distance}", title, tuple(steps), "sequential"))
    figures.append(Figure("figure8", "Ways of starting the first layer", tuple(first)))
    return Question(variants, figures, authors)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiment and says where everything lies."""
    comparison.main("layers", PRESETS, ask, argv)


if __name__ == "__main__":
    sys.exit(main())
