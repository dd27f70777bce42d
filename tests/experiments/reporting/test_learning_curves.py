from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection

from experiments.cli.errors import UserError
from experiments.records import averages
from experiments.reporting import charts, learning_curves, style
from tests.experiments.small import TASKS, run, runs, texts


def curves(records, variants, **options):
    return learning_curves.curves_figure(
        records, variants=variants, title="A title", subtitle="2 runs", **options
    )


def lines(figure):
    """The curves: lines in data coordinates; leaders are in those of the axes."""
    axes = figure.axes[0]
    return [line for line in axes.lines if line.get_transform() != axes.transAxes]


@pytest.mark.parametrize(
    ("tasks", "seeds", "of"),
    [((*TASKS, "pair-10-16"), 2, "tasks"), (("all",), 4, "runs")],
)
def test_curves_are_the_means_with_their_interval_over_epochs_from_one(tasks, seeds, of):
    records = runs(["random", "k3"], tasks=tasks, seeds=seeds)
    figure = curves(records, {"random": "random", "k3": "3 clusters"})
    summaries = averages.summarize(records)
    for line, variant in zip(lines(figure), ("random", "k3"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_allclose(np.asarray(line.get_ydata()), summaries[variant].mean)
    bands = [c for c in figure.axes[0].collections if isinstance(c, PolyCollection)]
    vertices = np.concatenate([path.vertices for path in bands[1].get_paths()])
    values = np.array([r.curves["val_acc_top1"] for r in records if r.variant == "k3"], float)
    if of == "tasks":
        values = values.reshape(len(tasks), seeds, -1).mean(axis=1)
    error, degrees = scipy.stats.sem(values), len(values) - 1
    for edge in scipy.stats.t.interval(0.95, degrees, loc=summaries["k3"].mean, scale=error):
        distances = np.abs(vertices[:, None, 1] - edge).min(axis=0)
        np.testing.assert_allclose(distances, 0, atol=1e-9)
    final = summaries["k3"].mean[-3:].mean()
    assert f"{final:.1f}  3 clusters" in texts(figure)
    assert "A title" in texts(figure)
    assert any(f"its 95 % interval, of three {of} or more." in t for t in texts(figure))


def test_authors_curve_is_dashed_in_the_same_colour_cut_to_our_epochs_and_named():
    figure = curves(
        runs(["random", "k3"]),
        {"random": "random", "k3": "3 clusters"},
        authors={"k3": [50.0, 60.0, 61.0, 62.0, 99.0], "absent": [1.0]},
    )
    _, ours, theirs = lines(figure)
    np.testing.assert_array_equal(theirs.get_ydata(), [50, 60, 61, 62])
    assert theirs.get_color() == ours.get_color()
    assert theirs.get_linestyle() == "--"
    assert any("3 clusters (authors 61.0)" in t for t in texts(figure))
    assert any("Dashed: authors (carried over)." in t for t in texts(figure))


def test_two_tasks_have_no_interval_however_many_runs_they_have():
    figure = curves(runs(["random", "k3"], seeds=3), {"random": "random", "k3": "3 clusters"})
    bands = [c for c in figure.axes[0].collections if isinstance(c, PolyCollection)]
    assert not any(np.size(path.vertices) for band in bands for path in band.get_paths())
    # Nor does one task have it whose other tasks were stopped.
    records = runs(["k3"], seeds=3, stopped=[("k3", TASKS[1], seed) for seed in range(3)])
    assert np.isnan(averages.summarize(records)["k3"].margin).all()


def test_stopped_runs_and_unequal_numbers_are_said():
    records = runs(["random", "k3"], stopped=[("k3", "pair-10-11", 1)])
    figure = curves(records, {"random": "random", "k3": "3 clusters"})
    assert any("3 clusters (n = 3, 1 stopped)" in t for t in texts(figure))
    assert any("random (n = 4)" in t for t in texts(figure))


@pytest.mark.parametrize("data_set", ["procedural", "cifar100"])
def test_procedural_data_is_in_the_title(data_set):
    records = runs(["random", "k3"], data_set=data_set)
    labels = {"random": "random", "k3": "3 clusters"}
    for figure in (
        curves(records, labels),
        charts.final_accuracy_figure(records, variants=labels, title="A title", subtitle=""),
    ):
        assert ("A title – procedural data" in texts(figure)) == (data_set == "procedural")


@pytest.mark.parametrize("palette", ["categorical", "sequential"])
def test_thirteen_variants_are_told_apart_and_no_labels_overlap(palette):
    labels = {"random": "random"} | {f"k{i}": f"{i} clusters" for i in range(12)}
    figure = curves(runs(labels), labels, palette=palette)
    means = [line for line in lines(figure) if np.size(line.get_xdata()) == 4]
    assert len({(line.get_color(), line.get_marker()) for line in means}) == 13
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [t.get_window_extent(renderer) for t in figure.axes[0].texts]
    boxes.sort(key=lambda box: box.y0)
    assert len(boxes) == 13
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    axes = figure.axes[0].get_window_extent(renderer)
    assert all(box.x0 > axes.x1 for box in boxes)


@pytest.mark.parametrize("metric", ["val_acc_top1", "val_loss"])
def test_of_many_variants_the_best_are_drawn_and_all_have_their_row(metric):
    ends = {"random": 50.0, **{f"v{i}": 10.0 + i for i in range(40)}}
    records = [run(name, [end] * 3) for name, end in ends.items()]
    variants = {name: f"start {name}" for name in ends}
    figure = curves(records, variants, metric=metric)
    labels = {text.get_text().split("  ")[-1] for text in figure.axes[0].texts}
    best = range(24, 40) if metric == "val_acc_top1" else range(16)
    assert labels == {"start random", *(f"start v{i}" for i in best)}
    note = "Drawn: start random and the 16 best of 40 starts."
    assert any(note in text for text in texts(figure))
    finals = charts.final_accuracy_figure(records, variants=variants, title="A title", subtitle="")
    assert len(finals.axes[0].get_yticks()) == 41


def test_the_baseline_is_black_wherever_it_stands():
    for labels in ({"random": "r", "k3": "3"}, {"k3": "3", "random": "r"}):
        figure = curves(runs(labels), labels)
        drawn = dict(zip(labels, lines(figure), strict=True))
        assert drawn["random"].get_color() == "#000000"
        assert drawn["k3"].get_color() != "#000000"


@pytest.mark.parametrize("metric", ["val_loss", "train_acc_top5"])
def test_one_run_of_one_epoch_can_be_drawn(tmp_path, metric):
    records = [r for r in runs(["random"], epochs=1, seeds=1) if r.task == "pair-10-11"]
    figure = curves(records, {"random": "random"}, metric=metric)
    style.save(figure, tmp_path, "one")
    finals = charts.final_accuracy_figure(
        records, variants={"random": "random"}, title="", subtitle="", metric=metric
    )
    style.save(finals, tmp_path, "finals")


def test_nothing_to_draw_is_refused():
    with pytest.raises(UserError, match="nothing to draw in 'A title': every run stopped early"):
        curves(runs(["k3"]), {"random": "random"})


def test_labels_are_spread_out_as_little_as_can_be():
    values = np.array([3.0, 1.0, 1.1, 5.0, 1.05])
    moved = learning_curves._spread_out(values, 0.5, -10, 10)
    order = np.argsort(values)
    np.testing.assert_array_equal(np.argsort(moved), order)
    assert np.diff(np.sort(moved)).min() >= 0.5 - 1e-9
    ranks = np.arange(5) * 0.5
    expected = scipy.optimize.isotonic_regression(values[order] - ranks).x + ranks
    np.testing.assert_allclose(moved[order], expected)
    inside = learning_curves._spread_out(np.full(4, 9.9), 1.0, 0, 10)
    np.testing.assert_allclose(np.sort(inside), [7, 8, 9, 10])
