"""What many runs say together: means with their spread, paired differences, table, summary file.

`write_summary` writes `<folder>/<experiment>.json`, in the form of the authors' files:

    {"schema_version", "experiment", "procedural",
     "settings": those that all runs share, "environments": each that occurs (dates left out),
     "wall_seconds": in total,
     "shown": labels, figures and their subtitle, the authors' configurations of the same setting,
     "variants": {<variant>: {"n", "stopped", "lr_list",
         "mean" | "std" | "min" | "max": {<metric>: a number an epoch},
         "runs": [{"task", "seed", "settings": those not shared, "curves", "stopped",
                   "date", "wall_seconds"}]}}}

`std` is the sample standard deviation (n − 1) over runs, of which those on the same task or with
the same seed are not independent. Runs that stopped early are left out of all statistics and
counted in `stopped`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from experiments import reference, tracking
from experiments.errors import UserError
from experiments.tracking import JSON, RunRecord

LAST_EPOCHS = 3  # the final value of a run is its mean over so many


@dataclasses.dataclass(frozen=True)
class Summary:
    """One metric of one variant over its runs; NaN where there are too few runs."""

    n: int  # runs counted
    stopped: int  # runs left out
    mean: Float[np.ndarray, " epochs"]
    std: Float[np.ndarray, " epochs"]  # of the sample: n − 1
    low: Float[np.ndarray, " epochs"]  # minimum over runs
    high: Float[np.ndarray, " epochs"]  # maximum over runs


def _by_variant(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.variant, []).append(record)
    return groups


def _finished(record: RunRecord, metric: str) -> bool:
    return record.stopped is None and None not in record.curves[metric]


def summarize(records: Iterable[RunRecord], metric: str = "val_acc_top1") -> dict[str, Summary]:
    """Returns each variant's mean, sample standard deviation and range over runs, per epoch.

    Raises:
        UserError: If finished runs of one variant differ in their number of epochs.
    """
    summaries = {}
    for variant, runs in _by_variant(records).items():
        curves = [r.curves[metric] for r in runs if _finished(r, metric)]
        lengths = {len(c) for c in curves or [runs[0].curves[metric]]}
        if len(lengths) > 1:
            epochs = " and ".join(map(str, sorted(lengths)))
            raise UserError(f"the runs of {variant} have {epochs} epochs: give one --output each")
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
        )
    return summaries


def final(record: RunRecord, metric: str = "val_acc_top1") -> float:
    """Returns the mean of the last `LAST_EPOCHS` epochs of a run, NaN if it stopped early."""
    if not _finished(record, metric):
        return math.nan
    return float(np.mean(np.array(record.curves[metric], np.float64)[-LAST_EPOCHS:]))


def paired_differences(
    records: Iterable[RunRecord], variant: str, baseline: str, metric: str = "val_acc_top1"
) -> dict[tuple[str, int], float]:
    """Returns final value of variant − baseline per (task, seed) that both finished."""
    groups = _by_variant(records)
    ours, theirs = (
        {(r.task, r.seed): final(r, metric) for r in groups.get(v, []) if _finished(r, metric)}
        for v in (variant, baseline)
    )
    return {pair: value - theirs[pair] for pair, value in ours.items() if pair in theirs}


def decimals(metric: str) -> int:
    """Returns how many decimals a number of this metric is shown with: accuracies are percent."""
    return 1 if "acc" in metric else 3


def mean_std(values: Sequence[float], sign: str = "", digits: int = 1) -> str:
    """Returns "64.2 ± 3.1": mean and sample standard deviation; sign="+" shows the sign."""
    if not len(values):
        return "–"
    mean = f"{np.mean(values):{sign}.{digits}f}".replace("-", "−")
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def results_table(
    records: Sequence[RunRecord],
    *,
    baseline: str = "random",
    metric: str = "val_acc_top1",
    labels: Mapping[str, str] | None = None,
    authors: Mapping[str, Sequence[float]] | None = None,
    authors_label: str = reference.LABEL,
) -> str:
    """Returns a Markdown table, a row a variant, with the final values and what they rest on.

    Args:
        records: The runs of one experiment.
        baseline: The variant that the others are compared with, on the same task and seed.
        metric: A name in METRICS.
        labels: What each variant to show is called, in order; None shows all by their names.
        authors: The authors' mean curve of a variant, where they have such a setting.
        authors_label: The heading above the authors' numbers.
    """
    groups = _by_variant(records)
    labels = labels or {variant: variant for variant in groups}
    difference = f"difference from {labels.get(baseline, baseline)} (pairs)"
    heading = ("variant", "n", f"final {metric}", difference, authors_label, "stopped")
    rows: list[tuple[str, ...]] = [heading]
    digits = decimals(metric)
    for variant, label in labels.items():
        runs = groups.get(variant, [])
        finals = [final(r, metric) for r in runs if _finished(r, metric)]
        pairs = list(paired_differences(records, variant, baseline, metric).values())
        theirs = list((authors or {}).get(variant, []))[
            : max((len(r.curves[metric]) for r in runs), default=0)
        ]
        rows.append((
            label,
            str(len(finals)),
            mean_std(finals, digits=digits),
            "–" if variant == baseline else f"{mean_std(pairs, '+', digits)} ({len(pairs)})",
            f"{np.mean(theirs[-LAST_EPOCHS:]):.{digits}f}" if theirs else "–",
            str(len(runs) - len(finals)),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * w for w in widths))
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    devices = ", ".join(sorted({str(r.environment.get("device")) for r in records}))
    data = ", ".join(sorted({r.settings["data_set"] for r in records}))
    note = (
        f"Mean ± sample standard deviation over n runs of the mean of the last {LAST_EPOCHS} "
        f"epochs. Data: {data}. Device: {devices}. "
        f"Wall time: {sum(r.wall_seconds for r in records):.0f} s."
    )
    return "\n".join([*lines, "", note, ""])


def write_table(table: str, records: Sequence[RunRecord], folder: Path | str) -> Path:
    """Writes the table of one experiment to `<folder>/<experiment>.md`, under its name.

    Raises:
        UserError: If the folder cannot be written to.
    """
    experiment = _experiment(records)
    title = f"# {experiment}" + (" – procedural data" if tracking.is_procedural(records) else "")
    with tracking.writing_to(folder):
        target = Path(folder) / f"{tracking.output_name(experiment, records)}.md"
        return tracking.write_text(f"{title}\n\n{table}", target)


def _experiment(records: Sequence[RunRecord]) -> str:
    experiments = sorted({r.experiment for r in records})
    if len(experiments) != 1:
        raise ValueError(f"these runs are of {experiments or 'no'} experiments: give those of one")
    return experiments[0]


def _shared(dicts: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    return {k: v for k, v in dicts[0].items() if all(k in d and d[k] == v for d in dicts)}


def _summary_of_variant(runs: Sequence[RunRecord], shared: Mapping[str, JSON]) -> dict[str, JSON]:
    metrics = [m for m in runs[0].curves if all(m in r.curves for r in runs)]
    summaries = {m: summarize(runs, m)[runs[0].variant] for m in metrics}
    statistics = {
        name: {m: getattr(summaries[m], field) for m in metrics if m != "learning_rate"}
        for name, field in (("mean", "mean"), ("std", "std"), ("min", "low"), ("max", "high"))
    }
    kept = ("task", "seed", "curves", "stopped", "wall_seconds")
    return {
        "n": summaries["val_acc_top1"].n,
        "stopped": summaries["val_acc_top1"].stopped,
        **statistics,
        "lr_list": summaries["learning_rate"].mean,
        "runs": [
            {name: getattr(r, name) for name in kept}
            | {"settings": {k: v for k, v in r.settings.items() if k not in shared}}
            | {"date": r.environment.get("date")}
            for r in runs
        ],
    }


def write_summary(
    records: Sequence[RunRecord], folder: Path | str, shown: Mapping[str, JSON] | None = None
) -> Path:
    """Writes all runs of one experiment, and their statistics, to one file; see the module.

    Args:
        records: Of one experiment.
        folder: Where to.
        shown: What a report must know to draw them as the experiment does.

    Raises:
        ValueError: If the records are of no experiment, or of several.
        UserError: If the folder cannot be written to; the runs themselves are in theirs.
    """
    experiment = _experiment(records)
    shared = _shared([r.settings for r in records])
    environments: list[dict[str, JSON]] = []
    for record in records:
        undated = {k: v for k, v in record.environment.items() if k != "date"}
        if undated not in environments:
            environments.append(undated)
    summary = {
        "schema_version": tracking.SCHEMA_VERSION,
        "experiment": experiment,
        "procedural": tracking.is_procedural(records),
        "settings": shared,
        "environments": environments,
        "wall_seconds": sum(r.wall_seconds for r in records),
        "variants": {v: _summary_of_variant(r, shared) for v, r in _by_variant(records).items()},
        "shown": dict(shown or {}),
    }
    with tracking.writing_to(folder):
        target = Path(folder) / f"{tracking.output_name(experiment, records)}.json"
        return tracking.write_json(summary, target)


def read_summary(path: Path | str) -> tuple[list[RunRecord], dict[str, JSON]]:
    """Reads what `write_summary` wrote: the runs, and what it was told to show.

    Where the runs are of several environments each is given the first one.

    Raises:
        UserError: If the file cannot be read or is not as the schema says.
    """
    data = tracking.read_json(path)
    try:
        records = [
            RunRecord(
                experiment=data["experiment"],
                variant=variant,
                task=run["task"],
                seed=run["seed"],
                settings={**data["settings"], **run["settings"]},
                curves=run["curves"],
                stopped=run["stopped"],
                environment={**data["environments"][0], "date": run["date"]},
                wall_seconds=run["wall_seconds"],
            )
            for variant, summary in data["variants"].items()
            for run in summary["runs"]
        ]
        return records, dict(data["shown"])
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"{path} is not a summary ({error!r}): run its experiment again, which writes it anew"
        ) from error
