"""A question as data: which variants, which figures, which comparisons."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from experiments.records.shown import Contrast, Family, Figure
from experiments.runs.variants import Variant
from experiments.study.ingredients import Ingredients


@dataclasses.dataclass(frozen=True)
class Question:
    """What an experiment compares, and how it shows that.

    Attributes:
        variants: Ways of starting, in the order of tables.
        figures: Of curves; one of all runs' final accuracies is drawn beside them.
        authors: For a variant's name that of the authors' configuration of the same setting, or
            None.
        baseline: The variant that the others are compared with.
        families: What `experiments.evidence` compares; where there are none, all with the baseline.
    """

    variants: list[Variant]
    figures: list[Figure]
    authors: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    baseline: str = "random"
    families: list[Family] = dataclasses.field(default_factory=list)


Ask = Callable[[Any, Ingredients], Question]


def contrast(one: Variant, other: Variant) -> Contrast:
    """One variant against another, and what that comparison is called."""
    return (f"{one.label}; against: {other.label}", one.name, other.name)


def all_against_baseline(question: Question) -> Family:
    """Every variant against the baseline."""
    labels = {variant.name: variant.label for variant in question.variants}
    others: list[Contrast] = [
        (label, n, question.baseline) for n, label in labels.items() if n != question.baseline
    ]
    return Family("all", f"Against {labels[question.baseline]}", others)
