"""The figures: curves with their spread (2 to 9 in form), final accuracies, differences, norms."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cli import processes
from experiments.cli.errors import UserError
from experiments.records import averages, files, published, run_record
from experiments.records.averages import Summary
from experiments.records.run_record import RunRecord
from experiments.records.shown import Palette
from experiments.reporting import inference, wording
from experiments.reporting.inference import Comparison
from jaxinit import whole_files

# Okabe and Ito's colours, which the colour-blind tell apart, without black and the pale yellow.
_CATEGORICAL = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
_BASELINE = "#000000"
_QUIET = "#666666"
_MARKERS = ("", "o", "^", "s")  # a second round of the colours is told apart by these
_LINES = 17  # the labels of more of them do not fit beside their ends
_BANDS = 4  # more bands than these hide each other: bars behind the last epoch then
_TICKS = (1, 1.2, 1.5, 2, 3, 5, 8)  # of each power of ten
_WIDE = 50  # an axis that spans more has powers of ten alone
_BAR_STEP = 0.017  # from one such bar to the next, as a share of the epochs

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "image.interpolation": "nearest",
    "svg.hashsalt": "jaxinit",  # the same file for the same numbers
}


def _metric_name(metric: str) -> str:
    name, unit = wording.metric_name(metric)
    return f"{name} ({unit})"


def _looks(
    variants: Sequence[str], baseline: str, palette: Palette
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns each variant's colour and marker; the baseline is black and has none."""
    others = [v for v in variants if v != baseline]
    if palette == "sequential":
        # The map's ends are too near to the baseline's black, and too pale on white.
        shades = matplotlib.colormaps["viridis"](np.linspace(0.15, 0.88, len(others)))
        looks = [(colors.to_hex(shade), "") for shade in shades]
    else:
        rounds = [divmod(i, len(_CATEGORICAL)) for i in range(len(others))]
        looks = [(_CATEGORICAL[c], _MARKERS[marker % len(_MARKERS)]) for marker, c in rounds]
    both = {baseline: (_BASELINE, "")} | dict(zip(others, looks, strict=True))
    return {v: c for v, (c, _) in both.items()}, {v: m for v, (_, m) in both.items()}


def headings(figure: Figure, title: str, subtitle: str) -> None:
    """Writes the title and, smaller below it, what the figure rests on."""
    width, height = figure.get_size_inches()
    wrapped = textwrap.fill(subtitle, int(13.5 * width))
    figure.text(0.12 / width, 1 - 0.12 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.12 / width, 1 - 0.40 / height, wrapped, fontsize=9, color=_QUIET, va="top")


def footnote(figure: Figure, text: str) -> None:
    """Writes how to read the figure at its lower edge."""
    width, height = figure.get_size_inches()
    figure.text(0.12 / width, 0.1 / height, text, fontsize=8, color=_QUIET, va="bottom")


def _titled(title: str, records: Sequence[RunRecord]) -> str:
    return f"{title} – procedural data" if run_record.is_procedural(records) else title


def _spread_out(
    values: Float[np.ndarray, " lines"], gap: float, low: float, high: float
) -> Float[np.ndarray, " lines"]:
    """Returns the values moved apart to at least `gap`, in the same order, within low and high.

    This is the isotonic regression (pool adjacent violators) of value − rank·gap.
    """
    order = np.argsort(values, kind="stable")
    ranks = np.arange(len(values)) * gap
    pools: list[list[float]] = []
    for target in values[order] - ranks:
        pools.append([target])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = np.concatenate([np.full(len(p), np.mean(p)) for p in pools])
    levels = np.clip(levels, low, max(low, high - ranks[-1]))
    moved = np.empty(len(values))
    moved[order] = levels + ranks
    return moved


def curves_figure(
    records: Sequence[RunRecord],
    *,
    variants: Mapping[str, str],
    title: str,
    subtitle: str,
    metric: str = "val_acc_top1",
    baseline: str = "random",
    palette: Palette = "categorical",
    authors: Mapping[str, Sequence[float]] | None = None,
    authors_label: str = published.LABEL,
) -> Figure:
    """Draws each variant's mean over runs against the epoch, with the 95 % interval of the mean.

    The interval is that of Student's t over runs, where there are three or more. Of more than 17
    variants the baseline and those that end best are drawn, and a note says so.

    Args:
        records: The runs; those of other variants are left out.
        variants: Label of each variant to show, in the order of the colours.
        title: What the figure says; "procedural data" is appended where it applies.
        subtitle: Runs, protocol, data set and device.
        metric: A name in `run_record.METRICS`.
        baseline: The variant that is drawn in black.
        palette: "sequential" where the variants are steps of one quantity, as k.
        authors: The authors' mean curve of a variant, drawn dashed in its colour.
        authors_label: What the dashed curves are called.

    Raises:
        UserError: If all runs stopped early.
    """
    shown = [r for r in records if r.variant in variants]
    summaries = averages.summarize(shown, metric)
    drawn = [v for v in variants if v in summaries and summaries[v].n]
    if not drawn:
        raise UserError(f"nothing to draw in {title!r}: every run stopped early; see their files")
    ends = {v: float(summaries[v].mean[-averages.LAST_EPOCHS :].mean()) for v in drawn}
    there = len(drawn)
    drawn = _best(ends, baseline, least="loss" in metric)
    theirs = {v: np.array(c, float) for v, c in (authors or {}).items() if v in drawn}
    among = drawn if len(variants) > _LINES else list(variants)
    colours, markers = _looks(among, baseline, palette)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 5.2))
        axes = figure.add_axes((0.085, 0.18, 0.565, 0.665))
        bands = len(drawn) <= _BANDS
        digits = wording.decimals(metric)
        for i, variant in enumerate(drawn):
            line = {"color": colours[variant], "zorder": 3 + (variant == baseline)}
            summary = summaries[variant]
            epochs = np.arange(1, len(summary.mean) + 1)
            axes.plot(epochs, summary.mean, lw=2, marker=markers[variant], ms=4, **line)
            _draw_interval(axes, summary, colours[variant], None if bands else i)
            if variant in theirs:
                dashed = theirs[variant][: len(epochs)]
                axes.plot(epochs[: len(dashed)], dashed, ls=(0, (4, 2)), lw=1.2, **line)
        longest = max(len(summaries[v].mean) for v in drawn)
        _finish_curves(axes, metric, longest, bands, len(drawn))
        labels = {v: _end_label(variants[v], v, summaries, theirs, digits) for v in drawn}
        _label_ends(axes, {v: ends[v] for v in drawn}, labels, colours)
        note = _explain_curves(bands, authors_label if theirs else None)
        if len(drawn) < there:
            own = [variants[v] for v in drawn if v == baseline]
            best = f"the {len(drawn) - len(own)} best of {there - len(own)} starts"
            note += f" Drawn: {' and '.join([*own, best])}."
        footnote(figure, note)
        headings(figure, _titled(title, shown), subtitle)
    return figure


def _best(ends: Mapping[str, float], baseline: str, *, least: bool) -> list[str]:
    """The baseline and the variants that end best, in their order: as many as can be labelled."""
    others = sorted((v for v in ends if v != baseline), key=lambda v: ends[v], reverse=not least)
    kept = {baseline, *others[: _LINES - (baseline in ends)]}
    return [variant for variant in ends if variant in kept]


def _draw_interval(axes: Axes, summary: Summary, colour: str, bar: int | None) -> None:
    """Shades the interval, or draws it as the bar of this number behind the last epoch."""
    mean, margin, epochs = summary.mean, summary.margin, len(summary.mean)
    if bar is None:
        at = np.arange(1, epochs + 1)
        axes.fill_between(at, mean - margin, mean + margin, color=colour, alpha=0.13, lw=0)
    else:
        place = epochs * (1 + _BAR_STEP * (bar + 1.5))
        axes.errorbar(place, mean[-1], margin[-1], lw=1.3, fmt="o", ms=3, color=colour, zorder=3)


def _finish_curves(axes: Axes, metric: str, epochs: int, bands: bool, lines: int) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(_metric_name(metric))
    axes.set_xticks([e for e in range(1, epochs + 1) if epochs <= 15 or e % 5 == 0])
    end = epochs if bands else epochs * (1 + _BAR_STEP * (lines + 1.5))
    axes.set_xlim(1 - 0.02 * epochs, end + 0.01 * epochs)
    if not bands:
        axes.axvspan(epochs + 0.012 * epochs, end + 0.01 * epochs, color="#f4f4f4", zorder=0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100) if "acc" in metric else high)


def _end_label(
    label: str,
    variant: str,
    summaries: Mapping[str, Summary],
    theirs: Mapping[str, Float[np.ndarray, " epochs"]],
    digits: int,
) -> str:
    summary, last = summaries[variant], averages.LAST_EPOCHS
    notes = []
    if len({s.n for s in summaries.values()}) > 1:
        notes.append(f"n = {summary.n}")
    if summary.stopped:
        notes.append(f"{summary.stopped} stopped")
    if variant in theirs:
        final = theirs[variant][: len(summary.mean)][-last:].mean()
        notes.append(f"authors {final:.{digits}f}")
    text = f"{summary.mean[-last:].mean():.{digits}f}  {label}"
    return text + (f" ({', '.join(notes)})" if notes else "")


def _label_ends(
    axes: Axes, ends: Mapping[str, float], labels: Mapping[str, str], colours: Mapping[str, str]
) -> None:
    """Writes each line's label beside its end, moved apart so that none overlap."""
    low, high = axes.get_ylim()
    heights = (np.array(list(ends.values())) - low) / (high - low)
    gap = 0.19 * axes.figure.dpi / axes.bbox.height  # 0.19 inches for a line of text
    places = _spread_out(heights, gap, gap / 2, 1.0)
    for variant, height, place in zip(ends, heights, places, strict=True):
        colour = colours[variant]
        style = {"color": colour, "transform": axes.transAxes}
        axes.plot([1.005, 1.045], [height, place], lw=0.8, clip_on=False, **style)
        axes.text(1.052, place, labels[variant], fontsize=9, va="center", **style)


def _explain_curves(bands: bool, authors_label: str | None) -> str:
    spread = "shaded" if bands else "bars at the right, of the last epoch"
    dashed = f" Dashed: {authors_label}." if authors_label else ""
    return (
        f"Lines: mean over runs; {spread}: its 95 % interval, of three runs or more.{dashed}\n"
        f"Numbers: mean of the last {averages.LAST_EPOCHS} epochs."
    )


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
    colours, _ = _looks(list(variants), baseline, palette)
    with matplotlib.rc_context(STYLE):
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
        footnote(
            figure,
            f"Dots: runs, each the mean of its last {averages.LAST_EPOCHS} epochs; bars: mean ± "
            "one sample standard deviation. Differences are between runs on the same task with "
            "the same seed.",
        )
        headings(figure, _titled(title, shown), subtitle)
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
    left.set_xlabel(f"final {_metric_name(metric)}")
    right.set_xlabel(f"difference from {variants.get(baseline, baseline)}")
    right.axvline(0, color=_BASELINE, lw=1)
    for axes in (left, right):
        axes.grid(False, axis="y")


def differences_figure(
    comparisons: Sequence[Comparison],
    rows: Sequence[str],
    *,
    title: str,
    subtitle: str,
) -> Figure:
    """Draws each comparison's difference with its interval; bold where it settles something.

    Args:
        comparisons: What was compared.
        rows: What each is called.
        title: What the figure says.
        subtitle: What the runs have in common.
    """
    with matplotlib.rc_context(STYLE):
        height = 1.5 + 0.36 * len(comparisons)
        figure = Figure(figsize=(9, height))
        axes = figure.add_axes((0.42, 0.75 / height, 0.42, 1 - 1.5 / height))
        axes.axvline(0, color=_BASELINE, lw=1)
        for row, one in enumerate(comparisons):
            settled = inference.verdict(one) in ("better", "worse")
            colour = _CATEGORICAL[0] if settled else _QUIET
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
        footnote(
            figure,
            f"Means over {many} tasks with 95 % BCa bootstrap intervals; bold: settled after "
            "Holm’s correction for all rows.",
        )
        headings(figure, title, subtitle)
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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(layers), 4.6))
        colours, markers = _looks(list(labels), baseline, "categorical")
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for axes, (layer, of_layer) in zip(panels, layers.items(), strict=True):
            for variant, values in of_layer.items():
                epochs = first + np.arange(len(values))
                values = np.where(np.greater(values, 0), values, np.nan)
                style = {"color": colours[variant], "marker": markers[variant], "ms": 4}
                axes.plot(epochs, values, label=labels[variant], lw=1.6, **style)
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
        headings(figure, title, subtitle)
    return figure


def save(figure: Figure, folder: Path | str, stem: str) -> list[Path]:
    """Writes `<stem>.png` (150 dots an inch) and `<stem>.svg`, the same bytes for the same figure.

    Args:
        figure: What to write.
        folder: Where to; made if it is not there.
        stem: The name without ending, from `run_record.output_name`.

    Raises:
        UserError: If the folder cannot be written to.
    """
    paths = [Path(folder) / f"{stem}.{kind}" for kind in ("png", "svg")]
    if not processes.is_first():
        return paths
    with files.writing_to(folder), matplotlib.rc_context(STYLE):
        Path(folder).mkdir(parents=True, exist_ok=True)
        # "tight" makes room for long labels instead of cutting them.
        with whole_files.replacing(paths[0]) as file:
            figure.savefig(
                file, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None}
            )
        with whole_files.replacing(paths[1]) as file:
            figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return paths
