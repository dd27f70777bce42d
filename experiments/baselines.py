"""Experiments 1 and 2: random initialisation, and a pretrained source model trained on."""

import sys

from experiments.records import published
from experiments.study import conduct, presets, starts
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question

PRESETS = {
    "quick": Experiment(**presets.quick("baselines")),
    "reduced": Experiment(**presets.reduced("baselines")),
    "paper": Experiment(**presets.paper("baselines")),
}


def ask(settings: Experiment, made_of: Ingredients) -> Question:
    """Lists the two."""
    del settings
    variants = [starts.random(), made_of.pretrained()]
    shown = tuple(variant.name for variant in variants)
    authors = {"random": published.RANDOM, "pretrained": published.PRETRAINED}
    return Question(variants, [Figure("baselines", "Random and pretrained", shown)], authors)


ENTRY = conduct.entry(
    "baselines",
    __doc__,
    PRESETS,
    ask,
    varies="random and pretrained",
    number=1,
    sections=(Section("Baselines", ("baselines", "final_accuracy")),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
