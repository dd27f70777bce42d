"""Final accuracies, differences with their intervals, and what became of layers in training."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.records import averages
from experiments.records.run_record import RunRecord
from experiments.records.shown import Palette
from experiments.reporting import inference, style, wording
from experiments.reporting.inference import Comparison

_TICKS = (1, 1.2, 1.5, 2, 3, 5, 8)  # of each power of ten
_WIDE = 50  # an axis that spans more has powers of ten alone


def final_accuracy_figure(
    records: Sequence[RunRecord],
    *,
    variants: Mapping[str, str],
    title: str,
    subtitle: str,
    metric: str = "val_acc_top1",
    baseline: str = "random",
    palette: Palette = "categorical",
) -> Figure:
    """Draws a dot a run: final values at the left, differences from the baseline at the right.

    A difference is between runs on the same task with the same seed. Within a row the height is
    the task, in the order of their names. The arguments are those of `curves_figure`.
    """
    shown = [r for r in records if r.variant in variants]
    tasks = sorted({r.task for r in shown})
    digits = wording.decimals(metric)
    heights = dict(zip(tasks, np.linspace(-0.28, 0.28, len(tasks)), strict=True))
    colours, _ = style.looks(list(variants), baseline, palette)
    with matplotlib.rc_context(style.SETTINGS):
        height = 1.6 + 0.42 * len(variants)
        figure = Figure(figsize=(10, height))
        bottom, top = 0.8 / height, 1 - 0.8 / height
        left = figure.add_axes((0.2, bottom, 0.26, top - bottom))
        right = figure.add_axes((0.57, bottom, 0.26, top - bottom), sharey=left)
        for row, variant in enumerate(variants):
            finals = {
                (r.task, r.seed): value
                for r in shown
                if r.variant == variant and not math.isnan(value := averages.final(r, metric))
            }
            _dots(left, row, finals, heights, colours[variant], digits)
            if variant != baseline:
                pairs = averages.paired_differences(shown, variant, baseline, metric)
                _dots(right, row, pairs, heights, colours[variant], digits, "+")
        _finish_finals(left, right, metric, variants, baseline)
        style.footnote(
            figure,
            f"Dots: runs, each the mean of its last {averages.LAST_EPOCHS} epochs; bars: mean ± "
            "one sample standard deviation. Differences are between runs on the same task with "
            "the same seed.",
        )
        style.headings(figure, style.titled(title, shown), subtitle)
    return figure


def _dots(
    axes: Axes,
    row: int,
    values: Mapping[tuple[str, int], float],
    heights: Mapping[str, float],
    colour: str,
    digits: int,
    sign: str = "",
) -> None:
    if not values:
        return
    numbers = list(values.values())
    ys = [row + heights[task] for task, _ in values]
    axes.scatter(numbers, ys, s=11, color=colour, alpha=0.45, linewidths=0, zorder=3)
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
    axes.errorbar(np.mean(numbers), row, xerr=spread, color="black", lw=1.2, zorder=4)
    axes.plot(np.mean(numbers), row, "|", color="black", ms=13, mew=2.2, zorder=5)
    text = wording.mean_std(numbers, sign, digits) + (f"  (n = {len(numbers)})" if sign else "")
    axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), fontsize=8.5, va="center")


def _finish_finals(
    left: Axes, right: Axes, metric: str, variants: Mapping[str, str], baseline: str
) -> None:
    left.set_ylim(len(variants) - 0.5, -0.5)
    left.set_yticks(range(len(variants)), list(variants.values()))
    left.tick_params(axis="y", length=0)
    right.tick_params(axis="y", length=0, labelleft=False)
    left.set_xlabel(f"final {style.metric_name(metric)}")
    right.set_xlabel(f"difference from {variants.get(baseline, baseline)}")
    right.axvline(0, color=style.BASELINE, lw=1)
    for axes in (left, right):
        axes.grid(False, axis="y")


def differences_figure(
    comparisons: Sequence[Comparison],
    rows: Sequence[str],
    *,
    title: str,
    subtitle: str,
) -> Figure:
    """Draws each comparison's difference with its interval; thick and blue if it settles anything.

    Args:
        comparisons: What was compared.
        rows: What each is called.
        title: What the figure says.
        subtitle: What the runs have in common.
    """
    with matplotlib.rc_context(style.SETTINGS):
        height = 1.5 + 0.36 * len(comparisons)
        figure = Figure(figsize=(9, height))
        axes = figure.add_axes((0.42, 0.75 / height, 0.42, 1 - 1.5 / height))
        axes.axvline(0, color=style.BASELINE, lw=1)
        for row, one in enumerate(comparisons):
            settled = inference.verdict(one) in ("better", "worse")
            colour = style.CATEGORICAL[0] if settled else style.QUIET
            if math.isfinite(one.low):
                axes.plot([one.low, one.high], [row, row], color=colour, lw=2.4 if settled else 1.4)
            axes.plot(one.mean, row, "o", color=colour, ms=6 if settled else 4.5)
            text = f"{one.mean:+.1f}".replace("-", "−") + f"  {inference.verdict(one)}"
            place = axes.get_yaxis_transform()
            axes.text(1.03, row, text, transform=place, fontsize=8.5, va="center")
        axes.set_ylim(len(comparisons) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("difference in final validation accuracy (percentage points)")
        tasks = sorted({one.tasks for one in comparisons})
        many = str(tasks[0]) if len(tasks) == 1 else f"{tasks[0]} to {tasks[-1]}"
        style.footnote(
            figure,
            f"Means over {many} tasks with 95 % BCa bootstrap intervals; thick and blue: settled "
            "after Holm’s correction for all rows.",
        )
        style.headings(figure, title, subtitle)
    return figure


def layers_figure(
    layers: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    labels: Mapping[str, str],
    baseline: str,
    first: int,
    across: str,
    up: str,
    title: str,
    subtitle: str,
) -> Figure:
    """Draws what became of some layers in training, a panel a layer, on a logarithmic scale.

    Zeros are left out: those of a layer that is not trained, whose line is missing then.

    Args:
        layers: For each layer, of each variant one number an epoch.
        labels: What each variant is called, in the order of the colours.
        baseline: The variant in black.
        first: The epoch of the first number.
        across: What the horizontal axis says.
        up: What the vertical one says.
        title: What the figure says.
        subtitle: What the runs have in common.
    """
    with matplotlib.rc_context(style.SETTINGS):
        figure = Figure(figsize=(3.1 * len(layers), 4.6))
        colours, markers = style.looks(list(labels), baseline, "categorical")
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for axes, (layer, of_layer) in zip(panels, layers.items(), strict=True):
            for variant, values in of_layer.items():
                epochs = first + np.arange(len(values))
                values = np.where(np.greater(values, 0), values, np.nan)
                line = {"color": colours[variant], "marker": markers[variant], "ms": 4}
                axes.plot(epochs, values, label=labels[variant], lw=1.6, **line)
            axes.set_title(layer, fontsize=10)
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            wide = high > _WIDE * low
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1,) if wide else _TICKS))
            axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
            axes.set_xlabel(across)
        panels[0].set_ylabel(up)
        figure.subplots_adjust(left=0.07, right=0.99, top=0.8, bottom=0.27, wspace=0.3)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower left", ncols=3, fontsize=8.5, frameon=False)
        style.headings(figure, title, subtitle)
    return figure
