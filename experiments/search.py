"""The hyper-parameter search: learning rate × plateau rule × normalisation, on clustering pairs.

From random starts on four pairs, 30 epochs; the paper chooses by the mean of the last epochs'
validation accuracies.
"""

import dataclasses
import itertools
import sys

from experiments.cli.options import Positive, Several
from experiments.study import conduct, presets, starts, tuning
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question
from experiments.training.hyperparameters import Training
from experiments.training.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Search(Experiment):
    """What `experiments.search` compares."""

    # learning rates to try
    learning_rates: Several[Positive] = (0.1, 0.01)
    # schedules to try: with the authors' plateau rule of five epochs, and without
    schedules: Several[Schedule] = ("published", "constant")


_QUICK, _REDUCED, _PAPER = (
    shared("search") for shared in (presets.quick, presets.reduced, presets.paper)
)
PRESETS = {
    "quick": Search(
        **tuning.on_tuning_pairs(_QUICK, 1, training=Training(epochs=4, batch_size=40))
    ),
    "reduced": Search(**tuning.on_tuning_pairs(_REDUCED, 2, seeds=1)),
    "paper": Search(**tuning.on_tuning_pairs(_PAPER, 4, training=Training(epochs=30))),
}


def ask(settings: Search, made_of: Ingredients) -> Question:
    """Lists every combination, each a random start trained in its way."""
    del made_of
    start, variants = starts.random(), []
    for rate, schedule, normalize in itertools.product(
        settings.learning_rates, settings.schedules, (True, False)
    ):
        plateau = "no plateau rule" if schedule == "constant" else f"{schedule} plateau rule"
        variants.append(
            dataclasses.replace(
                start,
                name=f"rate-{rate}-{schedule}{'' if normalize else '-raw'}",
                label=f"{rate}, {plateau}, {'' if normalize else 'not '}normalised",
                training=dataclasses.replace(
                    settings.training, learning_rate=rate, schedule=schedule, normalize=normalize
                ),
            )
        )
    names = tuple(variant.name for variant in variants)
    figure = Figure("search", "Learning rate, schedule, normalisation", names)
    return Question(variants, [figure], baseline=names[0])


ENTRY = conduct.entry(
    "search",
    __doc__,
    PRESETS,
    ask,
    varies="learning rate × schedule × normalisation",
    number=12,
    sections=(Section("Hyper-parameter search", ("search", "final_accuracy")),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
