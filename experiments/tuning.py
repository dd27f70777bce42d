"""What is tuned on clustering tasks alone: which pairs these are, and how the best is chosen."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import comparison, config, statistics, summaries, tracking
from experiments.comparison import Family
from experiments.config import check
from experiments.errors import UserError
from experiments.runner import Variant
from experiments.tracking import RunRecord

PAIRS = ((2, 4), (3, 5), (4, 6), (5, 8))  # those of the paper's search
_HALF = 10  # superclasses, from 0, that tuning may see


def on_tuning_pairs(
    shared: dict[str, Any], count: int, *, training: config.Training | None = None, **changes: Any
) -> dict[str, Any]:
    """Moves what presets share to the first so many of `PAIRS`.

    Args:
        shared: What `comparison.quick` and the like return.
        count: How many pairs.
        training: Instead of theirs, if any.
        **changes: To the evaluation.
    """
    evaluation = dataclasses.replace(shared["evaluation"], pairs=PAIRS[:count], **changes)
    moved = {**shared, "evaluation": evaluation}
    return moved if training is None else {**moved, "training": training}


def check_apart(settings: comparison.Experiment, best_of: str) -> None:
    """Makes sure that what is chosen in a folder runs on other tasks, and into another folder.

    Raises:
        UserError: It does not.
    """
    evaluation = settings.evaluation
    check(
        evaluation.whole or min(min(pair) for pair in evaluation.pairs) >= _HALF,
        f"--best-of {best_of} was chosen on superclasses 0 to {_HALF - 1}: give --pairs of others",
    )
    check(
        Path(evaluation.output).resolve() != Path(best_of).resolve(),
        f"--output {evaluation.output} is what --best-of chooses from: give another folder",
    )


def best(variants: Sequence[Variant], folder: Path, epochs: int) -> Variant:
    """Chooses the variant that was highest on average in the summary of a folder.

    One of which a run stopped, or is missing where another has it, is never chosen.

    Args:
        variants: Those to choose from.
        folder: Where they have run.
        epochs: After how many epochs, or at the end where the runs had fewer: a mean over the last
            three up to there, as everywhere.

    Raises:
        UserError: The folder has no summary, no variant that finished all, runs that started
            otherwise, or runs on superclasses of the comparison.
    """
    records, _ = summaries.read_summary(summaries.find(folder))
    records = [_cut(record, epochs) for record in records]
    for task in sorted({record.task for record in records}):
        found = re.fullmatch(r"pair-(\d+)-(\d+)", task)
        if found is None or max(map(int, found.groups())) >= _HALF:
            raise UserError(
                f"--best-of {folder} ran on {task}, which tuning must not see: give a run on pairs "
                f"of superclasses 0 to {_HALF - 1}"
            )
    for variant in variants:
        own = [r.settings.get("initializer", {}) for r in records if r.variant == variant.name]
        asked = tracking.identity(variant.settings, variant.name, 0)
        if not own or any(tracking.identity(s, variant.name, 0) != asked for s in own):
            said = "that started otherwise" if own else "that has not run"
            raise UserError(
                f"--best-of {folder} has a {variant.name} {said}: give the same options as there"
            )
    finals = {v.name: statistics.finals(records, v.name) for v in variants}
    most = max(len(values) for values in finals.values())
    whole = [v for v in variants if most and len(finals[v.name]) == most]
    if not whole:
        raise UserError(
            f"--best-of {folder} has no start like {variants[0].name} of which all runs went to "
            "their end: try others"
        )
    return max(whole, key=lambda v: sum(finals[v.name].values()))


def _cut(record: RunRecord, epochs: int) -> RunRecord:
    """The first epochs of a run."""
    curves = {name: values[:epochs] for name, values in record.curves.items()}
    return dataclasses.replace(record, curves=curves)


def tuned(bests: Sequence[Variant], baseline: Variant) -> list[Family]:
    """Compares what was best of each start with what was best of the baseline."""
    rows = [
        (f"{one.label}; against: {baseline.label}", one.name, baseline.name)
        for one in bests
        if one.name != baseline.name
    ]
    return [Family("tuned", "Tuned against tuned", rows)]
