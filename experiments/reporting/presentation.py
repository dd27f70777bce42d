"""The results table and the figures of one experiment's runs."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.records import published
from experiments.records.run_record import RunRecord
from experiments.records.shown import Shown
from experiments.reporting import charts, learning_curves, tables
from experiments.reporting.tables import Table


def draw(records: Sequence[RunRecord], shown: Shown) -> tuple[Table, dict[str, Figure]]:
    """Makes the results table and the figures of an experiment.

    Args:
        records: Its runs.
        shown: How they are shown.

    Returns:
        The table, and each figure by the stem of its file's name; those of which every run stopped
        are left out.
    """
    labels, theirs = shown.labels, shown.authors
    authors = {name: published.curve(theirs[name]) for name in labels if name in theirs}
    called = next((published.label(name) for name in theirs.values()), published.LABEL)
    finished = {record.variant for record in records if record.stopped is None}
    table = tables.results_table(
        records,
        baseline=shown.baseline,
        labels=labels,
        authors=authors,
        authors_label=called,
    )
    figures = {
        figure.stem: learning_curves.curves_figure(
            records,
            variants={name: labels[name] for name in figure.variants},
            title=figure.title,
            palette=figure.palette,
            authors=authors,
            authors_label=called,
            subtitle=shown.subtitle,
            baseline=shown.baseline,
        )
        for figure in shown.figures
        if finished & set(figure.variants)
    }
    if finished:
        figures["final_accuracy"] = charts.final_accuracy_figure(
            records,
            variants=labels,
            title="Final accuracy of every run",
            subtitle=shown.subtitle,
            baseline=shown.baseline,
        )
    return table, figures
