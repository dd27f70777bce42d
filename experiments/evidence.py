"""What an experiment's runs settle: differences and their certainty, by a rule set before.

Reads the summary that the experiment wrote and nothing else; writes `evidence.md` and figures. The
rule is that of `statistics.verdict`, each table's comparisons corrected as one family.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import plotting, statistics, summaries, tracking
from experiments.errors import UserError, exit_status
from experiments.tracking import RunRecord

_SHOWN_LAYERS = 5  # of which norms and angles are drawn, evenly spread
# What is recorded of layers: the title of its figure, its first epoch, and what the axes say.
_OF_LAYERS = {
    "norm": (
        "Norms of layers over training",
        0,
        "epochs trained",
        "norm of the taps that meet data",
    ),
    "turn": ("How far layers turn in an epoch", 1, "epoch", "degrees"),
}
_EARLY = (1, 3)  # epochs


def write(results: Path, output: Path) -> list[Path]:
    """Writes the tables and figures of one experiment's runs.

    Args:
        results: Folder of one experiment, whose summary is read.
        output: Where to.

    Returns:
        What was written.

    Raises:
        UserError: If there is no summary, or it does not say what to compare.
    """
    records, (labels, baseline, subtitle, families) = read(results)
    statistics.summarize(records)  # which refuses runs of unequal length
    text = ["# What the runs settle", "", f"{subtitle}.", "", rule(), "", "## Every start", ""]
    text.append(starts_table(records, labels, baseline))
    figures = {}
    for stem, (title, words) in families.items():
        found = statistics.compare(records, list(words))
        if not found:
            continue
        rows = [words[one.variant, one.baseline] for one in found]
        text += [f"## {title}", "", comparisons_table(found, rows)]
        if missing := len(words) - len(found):
            text += [f"Not run, but counted in the correction: {missing}.", ""]
        figures[stem] = plotting.differences_figure(found, rows, title=title, subtitle=subtitle)
    for kind, (title, first, across, up) in _OF_LAYERS.items():
        if curves := layer_curves(records, labels, kind):
            figures[f"{kind}s"] = plotting.layers_figure(
                curves,
                labels=labels,
                baseline=baseline,
                first=first,
                across=across,
                up=up,
                title=title,
                subtitle=subtitle,
            )
    written: list[Path] = []
    for stem, figure in figures.items():
        name = tracking.output_name(f"evidence-{stem}", records)
        written += plotting.save(figure, output, name)
        text += [f"![{stem}]({name}.png)", ""]
    with tracking.writing_to(output):
        name = f"{tracking.output_name('evidence', records)}.md"
        written.append(tracking.write_text("\n".join(text), output / name))
    return written


class Shown(NamedTuple):
    """What a summary says of how its runs are shown and compared."""

    labels: dict[str, str]  # of every start, in the order of tables
    baseline: str
    subtitle: str
    families: dict[str, tuple[str, dict[tuple[str, str], str]]]  # title; what each pair asks


def read(results: Path) -> tuple[list[RunRecord], Shown]:
    """Reads the summary in the folder of an experiment.

    Raises:
        UserError: There is none, or it does not say what to compare.
    """
    records, shown = summaries.read_summary(summaries.find(results))
    try:
        labels, baseline = dict(shown["labels"]), shown["baseline"]
        labels.setdefault(baseline, baseline)
        families = {
            f["stem"]: (f["title"], {(name, other): asked for asked, name, other in f["contrasts"]})
            for f in shown["families"]
        }
        return records, Shown(labels, baseline, shown["subtitle"], families)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the summary in {results} does not say what to compare ({error}): run its experiment "
            "again"
        ) from error


def rule() -> str:
    """Says in words how a verdict is reached."""
    return (
        f"The final value of a run is its mean validation accuracy over the last "
        f"{statistics.LAST_EPOCHS} epochs. Differences are between runs on the same task with the "
        "same seed, averaged over the seeds of a task; the task is the unit. In brackets the 95 % "
        "BCa bootstrap interval; p is that of the sign-flip permutation test, then corrected by "
        "Holm’s method for all rows of a table. Better or worse: corrected p below 0.05 and zero "
        "outside the interval. As good: neither, and the whole interval, which is not corrected, "
        "of eight or more tasks within one point. Open: none of these. Detectable is the "
        "difference that a t test at 5 %, not corrected, of as many tasks with this scatter finds "
        "in four of five cases. Pairs of superclasses overlap, so that tasks are not wholly "
        "independent, and all clusters are of the same source models: what is settled is settled "
        "for these."
    )


def starts_table(records: Sequence[RunRecord], labels: Mapping[str, str], baseline: str) -> str:
    """Lists for each start final and early accuracies, training loss, and time to accuracy."""
    early = " | ".join(f"epoch {epoch}" for epoch in _EARLY)
    lines = [
        f"| start | runs | tasks | final, % | interquartile mean | {early} | training loss | "
        f"epochs to the final value of {labels[baseline]} | reached by | stopped |",
        f"|---|---|---|---|---|{'---|' * len(_EARLY)}---|---|---|---|",
    ]
    levels = statistics.finals(records, baseline)
    for variant, label in labels.items():
        all_runs = [r for r in records if r.variant == variant]
        runs = [r for r in all_runs if r.stopped is None]
        finals = list(statistics.finals(records, variant).values())
        reached = statistics.epochs_to_finals(runs, levels)
        epochs = [epoch for epoch in reached if epoch is not None]
        at = [
            statistics.mean_std([_at(run, epoch) for run in runs if len(_accuracy(run)) >= epoch])
            for epoch in _EARLY
        ]
        losses = [statistics.final(run, "train_loss") for run in runs]
        cells = [
            label,
            str(len(runs)),
            str(len({run.task for run in runs})),
            statistics.mean_std(finals),
            f"{statistics.interquartile_mean(finals):.1f}" if finals else "–",
            *at,
            statistics.mean_std(losses, digits=2),
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


def comparisons_table(comparisons: Sequence[statistics.Comparison], rows: Sequence[str]) -> str:
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
            statistics.difference_text(one.mean, one.low, one.high),
            f"{one.p:.3f}",
            f"{one.adjusted:.3f}",
            f"{one.improvement:.2f}",
            f"{one.detectable:.1f}" if np.isfinite(one.detectable) else "–",
            statistics.verdict(one),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def layer_curves(
    records: Sequence[RunRecord], labels: Mapping[str, str], kind: str
) -> dict[str, dict[str, list[float]]]:
    """Averages what is recorded of some layers over the finished runs of each variant.

    Args:
        records: The runs.
        labels: The variants to take.
        kind: What of layers: norm or turn (see `training.Curves`).
    """
    finished = [r for r in records if r.stopped is None]
    groups = statistics.by_variant(finished)
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


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the tables and figures and says where."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evidence", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("output/controls"),
        help="folder of one experiment (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="where to write (default: the same folder)")
    options: Any = parser.parse_args(argv)
    with exit_status():
        for path in write(options.results, options.output or options.results):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
