"""What is tuned on clustering tasks alone: which pairs these are, and how the best is chosen."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
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


def best(variants: Sequence[Variant], folder: Path, settings: comparison.Experiment) -> Variant:
    """Chooses the variant that was highest on average in the summary of a folder.

    One of which a run stopped, or is missing where another has it, is never chosen. Runs are judged
    after as many epochs as are to be trained, or at their end where they had fewer, by the mean of
    the last three up to there.

    Args:
        variants: Those to choose from.
        folder: Where they have run.
        settings: How the chosen will be trained, and on what.

    Raises:
        UserError: The folder has no summary, no variant that finished all, runs that started or
            were trained otherwise, or runs on superclasses of the comparison.
    """
    records, _ = summaries.read_summary(summaries.find(folder))
    records = [cut(record, settings.training.epochs) for record in records]
    for task in sorted({record.task for record in records}):
        found = re.fullmatch(r"pair-(\d+)-(\d+)", task)
        if found is None or max(map(int, found.groups())) >= _HALF:
            raise UserError(
                f"--best-of {folder} ran on {task}, which tuning must not see: give a run on pairs "
                f"of superclasses 0 to {_HALF - 1}"
            )
    seen, own = {r.settings.get("data_set") for r in records}, settings.data.dataset
    if settings.evaluation.whole:
        check(
            own not in seen,
            f"all classes of {own} hold those that --best-of {folder} was tuned on: give --pairs, "
            "or another --dataset",
        )
    else:
        check(seen == {own}, f"--best-of {folder} ran on {', '.join(map(str, seen))}, not on {own}")
    for variant in variants:
        own = [record.settings for record in records if record.variant == variant.name]
        wrong = (
            "has not run"
            if not own
            else "started otherwise"
            if any(_named(s.get("initializer", {})) != _named(variant.settings) for s in own)
            else "was trained otherwise"
            if any(_trained(s) != _trained(_asked(variant, settings)) for s in own)
            else None
        )
        if wrong:
            raise UserError(
                f"--best-of {folder} has a {variant.name} that {wrong}: give the same options as "
                "there"
            )
    finals = {v.name: statistics.finals(records, v.name) for v in variants}
    every = {(record.task, record.seed) for record in records}
    whole = [v for v in variants if finals[v.name].keys() == every]
    if not whole:
        raise UserError(
            f"--best-of {folder} has no start like {variants[0].name} of which all runs went to "
            "their end: try others"
        )
    return max(whole, key=lambda v: sum(finals[v.name].values()))


def _named(initializer: dict[str, Any]) -> str:
    return tracking.identity(initializer, "", 0)


def _asked(variant: Variant, settings: comparison.Experiment) -> dict[str, Any]:
    """What is recorded of the training of a variant, in part."""
    described = (variant.training or settings.training).described()
    return {"protocol": settings.evaluation.protocol, **described}


def _trained(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must be alike; of the epochs only where the rates depend on how many there will be."""
    training = dict(settings.get("training", {}))
    if training.get("schedule") != "cosine":
        training.pop("epochs", None)
    return {name: settings.get(name) for name in ("network", "protocol")} | training


def cut(record: RunRecord, epochs: int) -> RunRecord:
    """Returns a run as it was after so many epochs."""
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
