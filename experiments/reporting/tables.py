"""The Markdown tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records import averages, published, run_record, summaries
from experiments.records.files import write_text, writing_to
from experiments.records.run_record import RunRecord
from experiments.reporting import inference, wording
from experiments.reporting.inference import Comparison


def results_table(
    records: Sequence[RunRecord],
    *,
    baseline: str = "random",
    metric: str = "val_acc_top1",
    labels: Mapping[str, str] | None = None,
    authors: Mapping[str, Sequence[float]] | None = None,
    authors_label: str = published.LABEL,
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
    groups = averages.by_variant(records)
    labels = labels or {variant: variant for variant in groups}
    difference = f"difference from {labels.get(baseline, baseline)} (pairs)"
    heading = ("variant", "n", f"final {metric}", difference, authors_label, "stopped")
    rows: list[tuple[str, ...]] = [heading]
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
            "–" if variant == baseline else f"{difference_text} ({len(pairs)})",
            f"{np.mean(theirs[-averages.LAST_EPOCHS:]):.{digits}f}" if theirs else "–",
            str(len(runs) - len(finals)),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * w for w in widths))
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    devices = ", ".join(sorted({str(r.environment.get("device")) for r in records}))
    data = ", ".join(sorted({r.settings["data_set"] for r in records}))
    note = (
        f"Mean ± sample standard deviation over n runs of the mean of the last "
        f"{averages.LAST_EPOCHS} epochs. Data: {data}. Device: {devices}. "
        f"Wall time: {sum(r.wall_seconds for r in records):.0f} s."
    )
    return "\n".join([*lines, "", note, ""])


def write_table(table: str, records: Sequence[RunRecord], folder: Path | str) -> Path:
    """Writes the table of one experiment to `<folder>/<experiment>.md`, under its name.

    Raises:
        UserError: If the folder cannot be written to.
    """
    experiment = summaries.experiment_of(records)
    title = f"# {experiment}" + (" – procedural data" if run_record.is_procedural(records) else "")
    with writing_to(folder):
        target = Path(folder) / f"{run_record.output_name(experiment, records)}.md"
        return write_text(f"{title}\n\n{table}", target)


_EARLY = (1, 3)  # epochs


def starts_table(records: Sequence[RunRecord], labels: Mapping[str, str], baseline: str) -> str:
    """Lists for each start final and early accuracies, training loss, and time to accuracy."""
    early = " | ".join(f"epoch {epoch}" for epoch in _EARLY)
    lines = [
        f"| start | runs | tasks | final, % | interquartile mean | {early} | training loss | "
        f"epochs to the final value of {labels[baseline]} | reached by | stopped |",
        f"|---|---|---|---|---|{'---|' * len(_EARLY)}---|---|---|---|",
    ]
    levels = averages.finals(records, baseline)
    for variant, label in labels.items():
        all_runs = [r for r in records if r.variant == variant]
        runs = [r for r in all_runs if r.stopped is None]
        finals = list(averages.finals(records, variant).values())
        reached = averages.epochs_to_finals(runs, levels)
        epochs = [epoch for epoch in reached if epoch is not None]
        at = [
            wording.mean_std([_at(run, epoch) for run in runs if len(_accuracy(run)) >= epoch])
            for epoch in _EARLY
        ]
        losses = [averages.final(run, "train_loss") for run in runs]
        cells = [
            label,
            str(len(runs)),
            str(len({run.task for run in runs})),
            wording.mean_std(finals),
            f"{inference.interquartile_mean(finals):.1f}" if finals else "–",
            *at,
            wording.mean_std(losses, digits=2),
            f"{np.mean(epochs):.1f}" if epochs else "–",
            f"{len(epochs)} of {len(reached)}",
            str(len(all_runs) - len(runs)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    note = "Mean ± sample standard deviation over runs."
    return "\n".join([*lines, "", note, ""])


def _accuracy(run: RunRecord) -> list[Any]:
    return run.curves["val_acc_top1"]


def _at(run: RunRecord, epoch: int) -> float:
    return _accuracy(run)[epoch - 1]


def comparisons_table(comparisons: Sequence[Comparison], rows: Sequence[str]) -> str:
    """Lists each comparison with its certainty and what it settles."""
    lines = [
        "| what is compared | tasks | runs | difference | p | corrected | probability of "
        "improvement | detectable | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one, words in zip(comparisons, rows, strict=True):
        cells = [
            words,
            str(one.tasks),
            str(one.runs),
            wording.difference_text(one.mean, one.low, one.high),
            f"{one.p:.3f}",
            f"{one.adjusted:.3f}",
            f"{one.improvement:.2f}",
            f"{one.detectable:.1f}" if np.isfinite(one.detectable) else "–",
            inference.verdict(one),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


_TABLE_EPOCHS = (5, 15)  # of the paper's table 1


def table_1(records: Sequence[RunRecord], labels: Mapping[str, str]) -> str:
    """The paper's table 1 in Markdown: accuracies after 5 and 15 epochs, ours and the authors'."""
    by_variant = averages.summarize(records)
    lines = ["| variant | n | epoch 5 | epoch 15 | authors, epoch 5 | epoch 15 |"]
    lines.append("|---|---|---|---|---|---|")
    kinds = {"random": "random", "pretrained": "pretrained"}
    for variant, summary in by_variant.items():
        cells = [labels.get(variant, variant), str(summary.n)]
        for epoch in _TABLE_EPOCHS:
            ran = len(summary.mean) >= epoch
            values = [r.curves["val_acc_top1"][epoch - 1] for r in records if r.variant == variant
                      and r.stopped is None] if ran else []  # fmt: skip
            cells.append(wording.mean_std([v for v in values if v is not None]))
        theirs = published.for_tiny_imagenet(kinds.get(variant, "clustered"))
        curve = np.array(published.curve(theirs)) if theirs else np.array([])
        cells += [f"{curve[epoch - 1]:.1f}" for epoch in _TABLE_EPOCHS]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        "Theirs: 64×64 pixels, 500 training images a class, n = 5, clusters by the real parts of "
        "the transforms, 3 of 6 models."
    )
    return "\n".join([*lines, "", note, ""])
