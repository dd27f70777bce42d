"""Experiment 3: Gabor filters in the first layers, and in how many (figure 7)."""

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
class Gabor(Experiment):
    """What `experiments.gabor` compares."""

    # convolutions that are initialised: the first so many
    layers: Several[Count] = (1, 2, 6, 10, 17)
    # the same Gabor filters in all runs, as in the authors' program
    identical: bool = False


PRESETS = {
    "quick": Gabor(layers=(1, 6, 17), **presets.quick("gabor")),
    "reduced": Gabor(layers=(1, 6, 17), **presets.reduced("gabor")),
    "paper": Gabor(**presets.paper("gabor")),
}


def ask(settings: Gabor, made_of: Ingredients) -> Question:
    """Lists random initialisation and a variant a number of layers."""
    made_of.check_layers("--layers", *settings.layers)
    variants = [starts.random()]
    authors: dict[str, str | None] = {"random": published.RANDOM}
    for count in settings.layers:
        variant = starts.gabor(count, identical=settings.identical)
        variants.append(variant)
        authors[variant.name] = published.for_gabor(count)
    shown = tuple(variant.name for variant in variants)
    figure = Figure("figure7", "Layers of Gabor filters", shown, "sequential")
    return Question(variants, [figure], authors)


ENTRY = conduct.entry(
    "gabor",
    __doc__,
    PRESETS,
    ask,
    varies="number of layers of Gabor filters",
    number=3,
    sections=(Section("layers of Gabor filters", ("figure7", "final_accuracy"), 7),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
