"""Experiment 4: how many source models the clustered filters come from (figure 5)."""

import dataclasses
import sys
from collections.abc import Sequence

from experiments import comparison, config, ingredients, reference
from experiments.comparison import Figure, Question


@dataclasses.dataclass(frozen=True)
class Models(comparison.Experiment):
    """What `experiments.models` compares."""

    models: tuple[int, ...] = config.option((2, 4, 6, 10, 20), "numbers of source models")
    clusters: int = config.option(10, "number of clusters")

    def __post_init__(self) -> None:
        config.check(self.clusters >= 1, f"--clusters {self.clusters} is too small: say 1 or more")
        for count in self.models:
            config.check(
                1 <= count <= self.sources.sources,
                f"--models {count} is out of range: there are {self.sources.sources} --sources",
            )


PRESETS = {
    "quick": Models(models=(1, 2), **comparison.quick("models")),
    "reduced": Models(models=(2, 6), **comparison.reduced("models")),
    "paper": Models(sources=config.Sources(sources=20), **comparison.paper("models")),
}


def ask(settings: Models, made_of: ingredients.Ingredients) -> Question:
    """Lists random initialisation and, for each distance, a variant a number of models."""
    variants, figures = [ingredients.random()], []
    authors: dict[str, str | None] = {"random": reference.RANDOM}
    for distance in settings.clustering.distances:
        steps = ["random"]
        for count in settings.models:
            variant = made_of.clustered(distance, settings.clusters, models=count)
            variants.append(variant)
            steps.append(variant.name)
            authors[variant.name] = reference.for_models(
                distance, count, clusters=settings.clusters
            )
        title = f"Number of source models, {ingredients.distance_label(distance)} distance"
        figures.append(Figure(f"figure5-{distance}", title, tuple(steps), "sequential"))
    return Question(variants, figures, authors)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiment and says where everything lies."""
    comparison.main("models", PRESETS, ask, argv)


if __name__ == "__main__":
    sys.exit(main())
