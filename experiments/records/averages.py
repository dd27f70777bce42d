"""Values of many runs: their final values, means with their spread, paired differences."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy
from jaxtyping import Float

from experiments.cli.errors import UserError
from experiments.records.run_record import RunRecord

LAST_EPOCHS = 3  # the final value of a run is its mean over so many
CONFIDENCE = 0.95
FEWEST = 3  # tasks, or values of one, below which there is no interval

Values = Float[np.ndarray, " n"]
Finals = Mapping[tuple[str, int], float]  # by task and seed


@dataclasses.dataclass(frozen=True)
class Summary:
    """One metric of one variant over its runs; NaN where there are too few."""

    n: int  # runs counted
    stopped: int  # runs left out
    mean: Float[np.ndarray, " epochs"]
    std: Float[np.ndarray, " epochs"]  # of the sample: n − 1
    low: Float[np.ndarray, " epochs"]  # minimum over runs
    high: Float[np.ndarray, " epochs"]  # maximum over runs
    margin: Float[np.ndarray, " epochs"]  # half the 95 % interval of the mean


def by_variant(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Groups runs by their variant, in the order of their first."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.variant, []).append(record)
    return groups


def finished(record: RunRecord, metric: str) -> bool:
    """Whether a run went to its end, with numbers throughout."""
    return record.stopped is None and None not in record.curves[metric]


def summarize(records: Iterable[RunRecord], metric: str = "val_acc_top1") -> dict[str, Summary]:
    """Returns each variant's mean, sample standard deviation and range over runs, per epoch.

    Raises:
        UserError: If finished runs of one variant differ in their number of epochs.
    """
    summaries = {}
    for variant, runs in by_variant(records).items():
        whole = [r for r in runs if finished(r, metric)]
        lengths = {len(r.curves[metric]) for r in whole or runs[:1]}
        if len(lengths) > 1:
            epochs = " and ".join(map(str, sorted(lengths)))
            raise UserError(f"the runs of {variant} have {epochs} epochs: give one --output each")
        curves = [r.curves[metric] for r in whole]
        values = np.array(curves, np.float64).reshape(len(curves), *lengths)
        nan = np.full(values.shape[1], np.nan)
        n = len(values)
        summaries[variant] = Summary(
            n=n,
            stopped=len(runs) - n,
            mean=values.mean(axis=0) if n else nan,
            std=values.std(axis=0, ddof=1) if n > 1 else nan,
            low=values.min(axis=0) if n else nan,
            high=values.max(axis=0) if n else nan,
            margin=_margin(values, [r.task for r in whole], len({r.task for r in runs})),
        )
    return summaries


def _margin(
    values: Float[np.ndarray, "n epochs"], tasks: Sequence[str], asked: int
) -> Float[np.ndarray, " epochs"]:
    """Half the 95 % interval by Student's t of means over tasks, or of the runs of a lone task.

    Args:
        values: Of each finished run.
        tasks: Of each.
        asked: How many tasks there are, with those of which no run finished.
    """
    if asked > 1:  # runs of one task are not independent
        of_task = [[own == task for own in tasks] for task in dict.fromkeys(tasks)]
        means = [values[own].mean(axis=0) for own in of_task]
        values = np.array(means).reshape(len(means), values.shape[1])
    n = len(values)
    if n < FEWEST:
        return np.full(values.shape[1], np.nan)
    # The quantile of scipy.stats, which takes a second to import.
    quantile = scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)
    return quantile * values.std(axis=0, ddof=1) / math.sqrt(n)


def final(record: RunRecord, metric: str = "val_acc_top1") -> float:
    """Returns the mean of the last `LAST_EPOCHS` epochs of a run, NaN if it stopped early."""
    if not finished(record, metric):
        return math.nan
    return float(np.mean(np.array(record.curves[metric], np.float64)[-LAST_EPOCHS:]))


def paired_differences(
    records: Sequence[RunRecord], variant: str, baseline: str, metric: str = "val_acc_top1"
) -> dict[tuple[str, int], float]:
    """Returns final value of variant − baseline per (task, seed) that both finished."""
    ours, theirs = (finals(records, name, metric) for name in (variant, baseline))
    return {pair: value - theirs[pair] for pair, value in ours.items() if pair in theirs}


def finals(
    records: Iterable[RunRecord], variant: str, metric: str = "val_acc_top1"
) -> dict[tuple[str, int], float]:
    """Returns the final value of each finished run of a variant, by task and seed."""
    return {
        (r.task, r.seed): final(r, metric)
        for r in records
        if r.variant == variant and finished(r, metric)
    }


def by_task(values: Finals) -> dict[str, list[float]]:
    """Groups values by their task, in the order of its first."""
    groups: dict[str, list[float]] = {}
    for (task, _), value in values.items():
        groups.setdefault(task, []).append(value)
    return groups


def task_means(values: Finals) -> Values:
    """Averages over the seeds of each task."""
    return np.array([np.mean(of_task) for of_task in by_task(values).values()])


def epochs_to(record: RunRecord, level: float, metric: str = "val_acc_top1") -> int | None:
    """Returns after how many epochs a run first reaches the level; None if it never does."""
    values = record.curves[metric]
    return next((i for i, v in enumerate(values, 1) if v is not None and v >= level), None)


def epochs_to_finals(runs: Iterable[RunRecord], levels: Finals) -> list[int | None]:
    """Returns `epochs_to` the level of its task and seed for each run that has one."""
    return [
        epochs_to(run, levels[run.task, run.seed]) for run in runs if (run.task, run.seed) in levels
    ]


def first_epochs(record: RunRecord, epochs: int) -> RunRecord:
    """Returns a run as it was after so many epochs, or whole where it had fewer."""
    curves = {name: values[:epochs] for name, values in record.curves.items()}
    return dataclasses.replace(record, curves=curves)


_SHOWN_LAYERS = 5  # of which norms and angles are drawn, evenly spread


def layer_curves(
    records: Sequence[RunRecord], labels: Mapping[str, str], kind: str
) -> dict[str, dict[str, list[float]]]:
    """Averages what is recorded of some layers over the finished runs of each variant.

    Args:
        records: The runs.
        labels: The variants to take.
        kind: What of layers: norm or turn (see `run_log.Curves`).
    """
    finished = [r for r in records if r.stopped is None]
    groups = by_variant(finished)
    names = [name for run in finished for name in run.curves if name.startswith(f"{kind}/")]
    layers = list(dict.fromkeys(names))
    if not layers:
        return {}
    chosen = np.linspace(0, len(layers) - 1, min(_SHOWN_LAYERS, len(layers))).round().astype(int)
    found: dict[str, dict[str, list[float]]] = {}
    for name in (layers[number] for number in chosen):
        of_layer = found.setdefault(name.removeprefix(f"{kind}/"), {})
        for variant in labels:
            curves = [r.curves[name] for r in groups.get(variant, []) if name in r.curves]
            if curves:
                of_layer[variant] = np.mean(np.array(curves, np.float64), axis=0).tolist()
    return found
