"""Learning curves: each start's mean with its spread against the epoch (figures 2 to 9 in form)."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cli.errors import UserError
from experiments.records import averages, published
from experiments.records.averages import Summary
from experiments.records.run_record import RunRecord
from experiments.records.shown import Palette
from experiments.reporting import style, wording

_LINES = 17  # the labels of more of them do not fit beside their ends
_BANDS = 4  # more bands than these hide each other: bars behind the last epoch then
_BAR_STEP = 0.017  # from one such bar to the next, as a share of the epochs


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

    The interval is that of Student's t over tasks, or over the runs of a lone task, where there are
    three or more. Of more than 17 variants the baseline and those that end best are drawn, and a
    note says so.

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
    colours, markers = style.looks(among, baseline, palette)
    with matplotlib.rc_context(style.SETTINGS):
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
        note = _explain_curves(bands, shown, authors_label if theirs else None)
        if len(drawn) < there:
            note += _explain_choice([variants[v] for v in drawn if v == baseline], drawn, there)
        style.footnote(figure, note)
        style.headings(figure, style.titled(title, shown), subtitle)
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
    axes.set_ylabel(style.metric_name(metric))
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
        line = {"color": colour, "transform": axes.transAxes}
        axes.plot([1.005, 1.045], [height, place], lw=0.8, clip_on=False, **line)
        axes.text(1.052, place, labels[variant], fontsize=9, va="center", **line)


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


def _explain_choice(baseline: Sequence[str], drawn: Sequence[str], there: int) -> str:
    """Says which lines are drawn of so many: the baseline, if it is there, and the best."""
    best = f"the {len(drawn) - len(baseline)} best of {there - len(baseline)} starts"
    return f" Drawn: {' and '.join([*baseline, best])}."


def _explain_curves(bands: bool, shown: Sequence[RunRecord], authors_label: str | None) -> str:
    of = "tasks" if len({run.task for run in shown}) > 1 else "runs"
    spread = "shaded" if bands else "bars at the right, of the last epoch"
    dashed = f" Dashed: {authors_label}." if authors_label else ""
    return (
        f"Lines: mean over runs; {spread}: its 95 % interval, of three {of} or more.{dashed}\n"
        f"Numbers: mean of the last {averages.LAST_EPOCHS} epochs."
    )
