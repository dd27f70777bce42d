"""All tables, and how one is laid out in Markdown."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.errors import UserError
from experiments.records import averages, published, run_record, summaries
from experiments.records.averages import Values
from experiments.records.files import write_text, writing_to
from experiments.records.run_record import RunRecord
from experiments.records.shown import Shown
from experiments.reporting import inference, wording
from experiments.reporting.inference import Comparison

_NONE = "–"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, whatever it is laid out in.

    Attributes:
        header: What each column is called.
        rows: The cells of each row.
        note: What is said below it; nothing where empty.
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def markdown(self, *, aligned: bool = False) -> str:
        """Lays the table out in Markdown, with its note below; aligned for terminals."""
        widths = [0] * len(self.header)
        if aligned:
            widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        rule = [f" {'-' * width} " if aligned else "---" for width in widths]
        lines = [_line(self.header, widths), f"|{'|'.join(rule)}|"]
        lines += [_line(row, widths) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def without_empty(self, *columns: int) -> "Table":
        """Leaves out those of these columns that hold nothing in any row."""
        out = {c for c in columns if all(row[c] == _NONE for row in self.rows)}

        def kept(cells: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cell for column, cell in enumerate(cells) if column not in out)

        return Table(kept(self.header), [kept(row) for row in self.rows], self.note)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(map(str.ljust, cells, widths))} |"


# Of one experiment


def results_table(
    records: Sequence[RunRecord],
    *,
    baseline: str = "random",
    metric: str = "val_acc_top1",
    labels: Mapping[str, str] | None = None,
    authors: Mapping[str, Sequence[float]] | None = None,
    authors_label: str = published.LABEL,
) -> Table:
    """Returns a row a variant, with the final values and what they rest on.

    Args:
        records: The runs of one experiment.
        baseline: The variant that the others are compared with, on the same task and seed.
        metric: A name in METRICS.
        labels: What each variant to show is called, in order; None shows all by their names.
        authors: The authors' mean curve of a variant, where they have such a setting; their column
            is left out where they have none.
        authors_label: The heading above the authors' numbers.
    """
    groups = averages.by_variant(records)
    labels = labels or {variant: variant for variant in groups}
    name, unit = wording.metric_name(metric)
    difference = f"difference from {labels.get(baseline, baseline)} (pairs)"
    header = ("variant", "n", f"final {name}, {unit}", difference, authors_label, "stopped")
    rows = []
    digits = wording.decimals(metric)
    for variant, label in labels.items():
        runs = groups.get(variant, [])
        finals = [averages.final(r, metric) for r in runs if averages.finished(r, metric)]
        pairs = list(averages.paired_differences(records, variant, baseline, metric).values())
        difference_text = wording.mean_std(pairs, "+", digits)
        theirs = list((authors or {}).get(variant, []))[
            : max((len(r.curves[metric]) for r in runs), default=0)
        ]
        rows.append((
            label,
            str(len(finals)),
            wording.mean_std(finals, digits=digits),
            _NONE if variant == baseline else f"{difference_text} ({len(pairs)})",
            f"{np.mean(theirs[-averages.LAST_EPOCHS:]):.{digits}f}" if theirs else _NONE,
            str(len(runs) - len(finals)),
        ))  # fmt: skip
    devices = ", ".join(sorted({str(r.environment.get("device")) for r in records}))
    data = ", ".join(sorted({r.settings["data_set"] for r in records}))
    note = (
        f"Mean ± sample standard deviation over n runs of the mean of the last "
        f"{averages.LAST_EPOCHS} epochs. Data: {data}. Device: {devices}. "
        f"Wall time: {sum(r.wall_seconds for r in records):.0f} s."
    )
    return Table(header, rows, note).without_empty(header.index(authors_label))


def write_table(table: str, records: Sequence[RunRecord], folder: Path | str) -> Path:
    """Writes the table of one experiment to `<folder>/<experiment>.md`, under its name.

    Raises:
        UserError: If the folder cannot be written to.
    """
    experiment = summaries.experiment_of(records)
    title = f"# {experiment}" + (" – procedural data" if run_record.is_procedural(records) else "")
    with writing_to(folder):
        target = Path(folder) / f"{run_record.output_name(experiment, records)}.md"
        return write_text(f"{title}\n\n{table}\n", target)


_TABLE_EPOCHS = (5, 15)  # of the paper's table 1


def table_1(
    records: Sequence[RunRecord], labels: Mapping[str, str], authors: Mapping[str, str]
) -> Table:
    """The paper's table 1: accuracies after 5 and 15 epochs, ours and the authors', and our last.

    Args:
        records: The runs of a task of all classes.
        labels: What the variants are called, in order.
        authors: Their configuration of a variant that has their setting.
    """
    groups = averages.by_variant(records)
    rows = []
    for variant, label in labels.items():
        if variant not in groups:
            continue
        runs = [run for run in groups[variant] if averages.finished(run, "val_acc_top1")]
        cells = [label, str(len(runs))]
        cells += [wording.mean_std(_after(runs, epoch)) for epoch in _TABLE_EPOCHS]
        cells.append(wording.mean_std([averages.final(run) for run in runs]))
        theirs = authors.get(variant)
        curve = published.curve(theirs) if theirs else []
        cells += [f"{curve[epoch - 1]:.1f}" if theirs else _NONE for epoch in _TABLE_EPOCHS]
        rows.append(tuple(cells))
    note = (
        "Theirs: 64×64 pixels, 500 training images a class, n = 5, clusters by the real parts of "
        "the transforms, 3 of 6 models."
    )
    ours = tuple(f"after {epoch} epochs, %" for epoch in _TABLE_EPOCHS)
    last = f"mean of the last {averages.LAST_EPOCHS}, %"
    header = ("variant", "n", *ours, last, *(f"authors, {column}" for column in ours))
    return Table(header, rows, note if authors else "").without_empty(5, 6)


# Of what the runs settle

_EARLY = (1, 3)  # epochs


def starts_table(records: Sequence[RunRecord], labels: Mapping[str, str], baseline: str) -> Table:
    """Lists for each start final and early accuracies, training loss, and time to accuracy."""
    header = (
        *("start", "runs", "tasks", "final, %", "interquartile mean"),
        *(f"epoch {epoch}" for epoch in _EARLY),
        *("training loss", f"epochs to the final value of {labels[baseline]}"),
        *("reached by", "stopped"),
    )
    rows = []
    levels = averages.finals(records, baseline)
    for variant, label in labels.items():
        all_runs = [r for r in records if r.variant == variant]
        runs = [r for r in all_runs if r.stopped is None]
        finals = list(averages.finals(records, variant).values())
        reached = averages.epochs_to_finals(runs, levels)
        epochs = [epoch for epoch in reached if epoch is not None]
        losses = [averages.final(run, "train_loss") for run in runs]
        rows.append(
            (
                label,
                str(len(runs)),
                str(len({run.task for run in runs})),
                wording.mean_std(finals),
                f"{inference.interquartile_mean(finals):.1f}" if finals else _NONE,
                *(wording.mean_std(_after(runs, epoch)) for epoch in _EARLY),
                wording.mean_std(losses, digits=2),
                _mean(epochs),
                f"{len(epochs)} of {len(reached)}",
                str(len(all_runs) - len(runs)),
            )
        )
    return Table(header, rows, "Mean ± sample standard deviation over runs.")


def short_starts_table(
    records: Sequence[RunRecord], labels: Mapping[str, str], baseline: str
) -> Table:
    """As `starts_table`, with the difference from the baseline and fewer columns."""
    header = (
        *("start", "n", "final accuracy, %", "difference, 95 % interval", "after 1 epoch"),
        *("after 3", "training loss", f"epochs to {labels[baseline]}’s final"),
    )
    rows = []
    levels = averages.finals(records, baseline)
    for name, label in labels.items():
        runs = [r for r in records if r.variant == name and r.stopped is None]
        reached = averages.epochs_to_finals(runs, levels)
        epochs = [epoch for epoch in reached if epoch is not None]
        late = len(reached) - len(epochs)
        rows.append(
            (
                label,
                str(len(runs)),
                wording.mean_std([averages.final(r) for r in runs]),
                _difference(records, name, baseline),
                *(_mean(_after(runs, epoch)) for epoch in _EARLY),
                _mean([averages.final(r, "train_loss") for r in runs], digits=2),
                _mean(epochs) + (f" ({late} never)" if late else ""),
            )
        )
    return Table(header, rows)


def comparisons_table(comparisons: Sequence[Comparison], words: Sequence[str]) -> Table:
    """Lists each comparison with its certainty and what it settles."""
    header = (
        *("what is compared", "tasks", "runs", "difference", "p", "corrected"),
        *("probability of improvement", "detectable", "verdict"),
    )
    rows = [
        (
            asked,
            str(one.tasks),
            str(one.runs),
            wording.difference_text(one.mean, one.low, one.high),
            f"{one.p:.3f}",
            f"{one.adjusted:.3f}",
            f"{one.improvement:.2f}",
            f"{one.detectable:.1f}" if np.isfinite(one.detectable) else _NONE,
            inference.verdict(one),
        )
        for one, asked in zip(comparisons, words, strict=True)
    ]
    return Table(header, rows)


def verdicts_table(records: Sequence[RunRecord], words: Mapping[tuple[str, str], str]) -> Table:
    """As `comparisons_table`, of the pairs of starts in a family; the words say what each asks."""
    header = (
        *("what is compared", "tasks", "difference, 95 % interval", "corrected p"),
        *("probability of improvement", "detectable", "verdict"),
    )
    found = inference.compare(records, list(words))
    rows = [
        (
            words[one.variant, one.baseline],
            str(one.tasks),
            wording.difference_text(one.mean, one.low, one.high),
            f"{one.adjusted:.3f}",
            f"{one.improvement:.0%}".replace("%", " %"),
            f"{one.detectable:.1f}" if np.isfinite(one.detectable) else _NONE,
            f"**{inference.verdict(one)}**",
        )
        for one in found
    ]
    return Table(header, rows, not_run(len(words) - len(found)))


def by_seed_table(
    records: Sequence[RunRecord], words: Mapping[tuple[str, str], str], settling: Sequence[int] = ()
) -> Table:
    """Mean differences of pairs of starts, seed by seed and over all, and how they scatter.

    Of one task the scatter between its seeds alone is given.

    Args:
        records: Runs of them, of several seeds a task.
        words: What each pair asks.
        settling: The seeds whose scatter is given; all where there are none.
    """
    seeds = sorted({run.seed for run in records})
    scatter = ("scatter between tasks", "between seeds of a task")
    if len({run.task for run in records}) == 1:
        scatter = ("scatter between seeds",)
    header = ("what is compared", *(f"seed {seed}" for seed in seeds), "all seeds", *scatter)
    rows = []
    for (variant, baseline), asked in words.items():
        pairs = averages.paired_differences(records, variant, baseline)
        each = [[value for (_, of), value in pairs.items() if of == seed] for seed in seeds]
        new = {
            (task, seed): value
            for (task, seed), value in pairs.items()
            if seed in (settling or seeds)
        }
        rows.append((
            asked,
            *(_mean(values, sign="+") for values in each),
            _mean(averages.task_means(pairs), sign="+"),
            *(
                f"{s:.1f}" if np.isfinite(s) else _NONE
                for s in inference.spreads(new)[-len(scatter) :]
            ),
        ))  # fmt: skip
    which = f"seeds {', '.join(map(str, settling))}" if settling else "all seeds"
    return Table(header, rows, f"Scatter: standard deviations in points, of {which}.")


def not_run(missing: int) -> str:
    """Says how many comparisons of a family have not run; nothing where all have."""
    return f"Not run, but counted in the correction: {missing}." if missing else ""


# Of several experiments, and of their first epochs


def protocols_table(
    fresh: Sequence[RunRecord],
    carried: Sequence[RunRecord],
    shown: Shown,
    authors: Mapping[str, str],
) -> Table:
    """Final accuracies and differences from the baseline: fresh, carried over, the authors'."""
    rows = []
    for name, label in shown.starts.items():
        cells = [
            _mean(finals)
            + ("" if name == shown.baseline else f" ({_difference(runs, name, shown.baseline)})")
            for runs in (fresh, carried)
            if (finals := list(averages.finals(runs, name).values()))
        ]
        if len(cells) == 2:
            rows.append((label, *cells, _theirs(authors.get(name))))
    header = ("start", "fresh", "carried over", "authors, carried over")
    return Table(header, rows).without_empty(3)


def _theirs(configuration: str | None) -> str:
    """The authors' final accuracy, and its difference from random after as many epochs."""
    if configuration is None:
        return _NONE
    curve = published.curve(configuration)
    level, base = (
        float(np.mean(values[-averages.LAST_EPOCHS :]))
        for values in (curve, published.curve(published.RANDOM)[: len(curve)])
    )
    difference = "" if configuration == published.RANDOM else f" ({level - base:+.1f})"
    return f"{level:.1f}{difference.replace('-', '−')}"


def ranked_table(
    runs: Sequence[RunRecord], labels: Mapping[str, str], baseline: str, epochs: int
) -> Table:
    """The starts after so many epochs, the best first: no verdicts.

    Only those that ran wherever the baseline did, as tasks differ more than starts do.
    """
    records = [early(run, epochs) for run in runs]
    finals = {name: averages.finals(records, name) for name in labels}
    everywhere = finals[baseline].keys()
    compared = {
        name: [of[k] for k in everywhere] for name, of in finals.items() if of.keys() >= everywhere
    }
    header = (
        *("start", "n", f"after {epochs} epochs, %"),
        f"difference from {labels[baseline]}, 95 % interval",
    )
    rows = [
        (
            labels[name],
            str(len(compared[name])),
            _mean(compared[name]),
            _difference(records, name, baseline),
        )
        for name in _best_first(compared)
    ]
    return Table(header, rows)


def tried_table(records: Sequence[RunRecord], labels: Mapping[str, str]) -> Table:
    """The variants of an experiment by their mean final accuracy, the best first."""
    runs = averages.by_variant(records)
    finals = {name: list(averages.finals(records, name).values()) for name in labels}
    rows = [
        (
            labels[name],
            str(len(finals[name])),
            str(len(runs.get(name, [])) - len(finals[name])),
            _mean(finals[name]),
            _mean(list(averages.finals(records, name, "train_loss").values()), digits=2),
        )
        for name in _best_first(finals)
    ]
    return Table(("start", "n", "stopped", "final accuracy, %", "training loss"), rows)


def early(run: RunRecord, epochs: int) -> RunRecord:
    """Returns a run as it was after so many epochs. Raises `UserError` where it had fewer."""
    if run.stopped is None and len(run.curves["val_acc_top1"]) < epochs:
        raise UserError(f"{run.variant} on {run.task} has fewer than {epochs} epochs: say fewer")
    return averages.first_epochs(run, epochs)


# Of filters


def norms_table(norms: Mapping[str, Mapping[str, float]]) -> Table:
    """Median, least and greatest over the layers, of each way of starting."""
    rows = []
    for name, of_layers in norms.items():
        values = list(of_layers.values())
        numbers = (statistics.median(values), min(values), max(values))
        rows.append((name, *(f"{number:.2f}" for number in numbers)))
    return Table(("start", "median of layers", "least", "greatest"), rows)


def _after(runs: Sequence[RunRecord], epoch: int) -> list[Any]:
    """The accuracies after an epoch, of the runs that had so many."""
    accuracies = [run.curves["val_acc_top1"] for run in runs]
    return [values[epoch - 1] for values in accuracies if len(values) >= epoch]


def _best_first(finals: Mapping[str, Sequence[float]]) -> list[str]:
    """Names by their mean, those without any last."""
    return sorted(finals, key=lambda name: -np.mean(finals[name]) if finals[name] else np.inf)


def _difference(records: Sequence[RunRecord], name: str, baseline: str) -> str:
    if name == baseline:
        return _NONE
    pairs = averages.paired_differences(records, name, baseline)
    if not pairs:
        return _NONE
    values = averages.task_means(pairs)
    return wording.difference_text(float(values.mean()), *inference.interval(values))


def _mean(values: Sequence[Any] | Values, digits: int = 1, sign: str = "") -> str:
    if not len(values):
        return _NONE
    return f"{np.mean(values):{sign}.{digits}f}".replace("-", "−")
