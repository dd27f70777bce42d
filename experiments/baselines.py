"""Experiments 1 and 2: random initialisation, and a pretrained source model trained on."""

import sys
from collections.abc import Sequence

from experiments import comparison, ingredients, reference
from experiments.comparison import Figure, Question

PRESETS = {
    "quick": comparison.Experiment(**comparison.quick("baselines")),
    "reduced": comparison.Experiment(**comparison.reduced("baselines")),
    "paper": comparison.Experiment(**comparison.paper("baselines")),
}


def ask(settings: comparison.Experiment, made_of: ingredients.Ingredients) -> Question:
    """Lists the two."""
    del settings
    variants = [ingredients.random(), made_of.pretrained()]
    shown = tuple(variant.name for variant in variants)
    authors = {"random": reference.RANDOM, "pretrained": reference.PRETRAINED}
    return Question(variants, [Figure("baselines", "Random and pretrained", shown)], authors)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiment and says where everything lies."""
    comparison.main("baselines", PRESETS, ask, argv)


if __name__ == "__main__":
    sys.exit(main())
