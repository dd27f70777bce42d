"""What is tuned on clustering tasks alone: which pairs these are, and how the best is chosen."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli.errors import UserError
from experiments.cli.options import check
from experiments.data import kinds, sets
from experiments.data.sets import Dataset
from experiments.records import averages, store, summaries
from experiments.records.run_record import RunRecord
from experiments.runs import protocol
from experiments.runs.protocol import PresetPairs
from experiments.runs.variants import Variant
from experiments.study.presets import Experiment
from experiments.study.question import Family, contrast
from experiments.training.hyperparameters import Training

PAIRS = ((2, 4), (3, 5), (4, 6), (5, 8))  # those of the paper's search


def on_tuning_pairs(
    shared: dict[str, Any], count: int, *, training: Training | None = None, **changes: Any
) -> dict[str, Any]:
    """Moves what presets share to the first so many of `PAIRS`, of which source models are, too.

    Args:
        shared: What `presets.quick` and the like return.
        count: How many pairs.
        training: Instead of theirs, if any.
        **changes: To the evaluation.
    """
    pairs = PresetPairs(PAIRS[:count])
    evaluation = dataclasses.replace(
        shared["evaluation"], pairs=pairs, shared_classes=True, **changes
    )
    moved = {**shared, "evaluation": evaluation}
    return moved if training is None else {**moved, "training": training}


def check_apart(settings: Experiment, best_of: str, evaluated: Dataset) -> None:
    """Makes sure that what is chosen in a folder runs on other tasks, and into another folder.

    Args:
        settings: What is to run.
        best_of: The folder.
        evaluated: The data set that is compared on.

    Raises:
        UserError: It does not.
    """
    evaluation, half = settings.evaluation, _half(evaluated)
    check(
        evaluation.whole or min(min(pair) for pair in evaluation.pairs) >= half,
        f"--best-of {best_of} was chosen on superclasses 0 to {half - 1}: give --pairs of others",
    )
    check(
        Path(evaluation.output).resolve() != Path(best_of).resolve(),
        f"--output {evaluation.output} is what --best-of chooses from: give another folder",
    )


def _half(evaluated: Dataset) -> int:
    """Superclasses, from 0, that tuning may see."""
    return protocol.sources_half(sets.superclass_count(evaluated))


def best(
    variants: Sequence[Variant], folder: Path, settings: Experiment, evaluated: Dataset
) -> Variant:
    """Chooses the variant that was highest on average in the summary of a folder.

    One of which a run stopped, or is missing where another has it, is never chosen. Runs are judged
    after as many epochs as are to be trained, or at their end where they had fewer, by the mean of
    the last three up to there.

    Args:
        variants: Those to choose from.
        folder: Where they have run.
        settings: How the chosen will be trained, and on what.
        evaluated: The data set that is compared on.

    Raises:
        UserError: The folder has no summary, no variant that finished all, runs that started or
            were trained otherwise, or runs on superclasses of the comparison.
    """
    runs = summaries.read(folder).runs
    records = [averages.first_epochs(record, settings.training.epochs) for record in runs]
    _check_tasks(records, folder, settings, evaluated)
    for variant in variants:
        wrong = _what_differs(
            variant, settings, [r.settings for r in records if r.variant == variant.name]
        )
        check(
            wrong is None,
            f"--best-of {folder} has a {variant.name} that {wrong}: give the same options as there",
        )
    finals = {v.name: averages.finals(records, v.name) for v in variants}
    every = {(record.task, record.seed) for record in records}
    whole = [v for v in variants if finals[v.name].keys() == every]
    if not whole:
        raise UserError(
            f"--best-of {folder} has no start like {variants[0].name} of which all runs went to "
            "their end: try others"
        )
    return max(whole, key=lambda v: sum(finals[v.name].values()))


def _check_tasks(
    records: Sequence[RunRecord], folder: Path, settings: Experiment, evaluated: Dataset
) -> None:
    """Makes sure that runs that were chosen by saw no class that is compared on."""
    seen = {str(r.settings.get("data_set")) for r in records}
    data_set = sets.recorded_name(settings.data)
    if settings.evaluation.whole:
        check(
            kinds.original(data_set) not in map(kinds.original, seen),
            f"all classes of {data_set} hold those that --best-of {folder} was tuned on: give "
            "--pairs, or another --dataset",
        )
        return
    half = _half(evaluated)
    for task in sorted({record.task for record in records}):
        found = re.fullmatch(r"pair-(\d+)-(\d+)", task)
        if found is None or max(map(int, found.groups())) >= half:
            raise UserError(
                f"--best-of {folder} ran on {task}, which tuning must not see: give a run on pairs "
                f"of superclasses 0 to {half - 1}"
            )
    ran_on = ", ".join(sorted(seen))
    check(seen == {data_set}, f"--best-of {folder} ran on {ran_on}, not on {data_set}")
    groups = evaluated.recorded.get("groups")
    check(
        all(r.settings.get("groups") == groups for r in records),
        f"--best-of {folder} ran on other groups of classes, which may share some with those "
        "compared on: give the same --group-classes and --group-seed as there",
    )


def _what_differs(
    variant: Variant, settings: Experiment, recorded: Sequence[Mapping[str, Any]]
) -> str | None:
    """Says in what the recorded runs of a variant are not what would be run now."""
    if not recorded:
        return "has not run"
    start = store.identity(variant.settings, "", 0)
    if any(store.identity(r.get("initializer", {}), "", 0) != start for r in recorded):
        return "started otherwise"
    described = (variant.training or settings.training).described()
    trained = _trained({"protocol": settings.evaluation.protocol, **described})
    if any(_trained(r) != trained for r in recorded):
        return "was trained otherwise"
    return None


def _trained(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must be alike; of the epochs only where the rates depend on how many there will be."""
    training = dict(settings.get("training", {}))
    if training.get("schedule") != "cosine":
        training.pop("epochs", None)
    return {name: settings.get(name) for name in ("network", "protocol")} | training


def tuned(bests: Sequence[Variant], baseline: Variant) -> list[Family]:
    """Compares what was best of each start with what was best of the baseline."""
    rows = [contrast(one, baseline) for one in bests if one.name != baseline.name]
    return [Family("tuned", "Tuned against tuned", rows)]
