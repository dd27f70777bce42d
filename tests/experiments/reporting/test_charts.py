import numpy as np
from matplotlib.collections import PathCollection

from experiments.records import averages
from experiments.reporting import charts, style, wording
from experiments.reporting.inference import Comparison
from tests.experiments.small import runs, texts


def test_final_figure_has_a_dot_a_run_and_a_dot_a_pair():
    records = runs(["random", "k3"], stopped=[("k3", "pair-10-11", 1)])
    figure = charts.final_accuracy_figure(
        records, variants={"random": "random", "k3": "3 clusters"}, title="t", subtitle="s"
    )
    left, right = (
        [np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)]
        for axes in figure.axes
    )
    assert [len(dots) for dots in left] == [4, 3]
    (pairs,) = right
    differences = list(averages.paired_differences(records, "k3", "random").values())
    np.testing.assert_allclose(pairs[:, 0], differences)
    assert any(wording.mean_std(differences, "+") + "  (n = 3)" in t for t in texts(figure))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["random", "3 clusters"]


def compared(mean, low, high, adjusted, tasks=10):
    return Comparison("a", "b", tasks, tasks, mean, low, high, adjusted / 2, adjusted, 0.5, 1.0)


def test_differences_say_what_is_settled():
    some = [compared(2, 1, 3, 0.01), compared(0.1, -3, 3, 0.9), compared(-1, -9, 2, 0.4, tasks=9)]
    figure = charts.differences_figure(some, ["a", "b", "c"], title="Title", subtitle="")
    (axes,) = figure.axes
    said = [text.get_text() for text in axes.texts]
    assert said == ["+2.0  better", "+0.1  open", "−1.0  open"]
    ends = [tuple(np.asarray(line.get_xdata())) for line in axes.lines]
    assert [pair for pair in ends if len(set(pair)) == 2] == [(1, 3), (-3, 3), (-9, 2)]
    bars = [line for line, pair in zip(axes.lines, ends, strict=True) if len(set(pair)) == 2]
    assert bars[0].get_linewidth() > bars[1].get_linewidth()
    assert any("over 9 to 10 tasks" in text for text in texts(figure))


def test_layers_have_a_panel_each_and_a_line_a_variant(tmp_path):
    layers = {
        "conv1": {"random": [8.0, 9.0], "a": [2.0, 3.0]},
        "conv2": {"random": [0.1, 90.0], "a": [0.0, 0.0]},
        "conv3": {"random": [0.0, 0.0]},
    }
    labels = {"random": "Random", "a": "A"}
    figure = charts.layers_figure(
        layers,
        labels=labels,
        baseline="random",
        first=1,
        across="epoch",
        up="degrees",
        title="T",
        subtitle="",
    )
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 1]
    style.save(figure, tmp_path, "layers")  # which must not warn of zeros on a logarithmic axis
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xdata(), [1, 2])
    assert set(figure.axes[1].get_yticks()) <= {10.0**power for power in range(-4, 5)}
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [2.0, 3.0])
    assert np.isnan(np.asarray(figure.axes[1].lines[1].get_ydata(), np.float64)).all()
    assert figure.axes[0].get_yscale() == "log"
