"""Figures: what is in them, and that nothing is cut off or lies on something else."""

import itertools
import sys

import flax.core
import jax.numpy as jnp
import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.transforms
import numpy as np
import pytest

import jaxinit
from jaxinit import banks, inspection
from jaxinit.inspection import drawing


def shown(figure):
    """Every text of a drawn figure with its box, in pixels."""
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    texts = list(figure.texts)
    for axes in figure.axes:
        if axes.axison:
            # Heading at the left, and ticks within limits.
            texts += [axes._left_title, *axes.get_yticklabels()]
            low, high = axes.get_xlim()
            texts += [own for own in axes.get_xticklabels() if low <= own.get_position()[0] <= high]
    return [(own.get_text(), own.get_window_extent(renderer)) for own in texts if own.get_text()]


def kernel(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def network_of(params, layout="HWIO"):
    return jaxinit.declare(params, list(params), layout=layout)


def colour():
    params = {f"stage{n}/conv": kernel(3, 3, 4, 4, seed=n) for n in range(3)}
    return {"stem": kernel(5, 5, 3, 12), **params}


def long_names():
    return {f"a_model/of/{'many_' * 8}parts/convolution_{n}": kernel(3, 3, 1, 8) for n in range(40)}


TREES = {
    "colour": colour(),
    "grey": {"$stem$": kernel(3, 3, 1, 70), "conv": kernel(1, 7, 2, 5)},
    "long": long_names(),
    "one tap": {"mix": kernel(1, 1, 4, 4), "conv": kernel(3, 1, 4, 4)},
    "zeros": {"conv": np.zeros((3, 3, 2, 2), np.float32)},
    "nan": {"stem": np.full((3, 3, 3, 2), np.nan, np.float32), "conv": kernel(3, 3, 2, 2) * 1e-9},
    "wide": {"a": kernel(3, 3, 2, 2) * 1e-6, "b": kernel(3, 3, 2, 2) * 1e6},
}


@pytest.mark.parametrize("name", TREES)
def test_nothing_is_cut_off_or_overlaps(name):
    params = TREES[name]
    found = inspection.examine(
        params,
        network=network_of(params),
        reference={own: leaf[::-1] for own, leaf in params.items()},
        layers=list(params),
    )
    figure = found.figure("A title")
    texts = shown(figure)
    page = figure.bbox
    for text, box in texts:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for (one, box), (other, another) in itertools.combinations(texts, 2):
        # Boxes of lines have some room of their own.
        both = matplotlib.transforms.Bbox.intersection(box, another)
        assert both is None or min(both.width, both.height) < 3, (one, other)
    pictures = [own for own in figure.axes if not own.axison]
    boxes = [own.get_window_extent() for own in pictures]
    assert pictures
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for box in boxes)
    boxes += [box for _, box in texts]
    for one, other in itertools.combinations(boxes, 2):
        both = matplotlib.transforms.Bbox.intersection(one, other)
        assert both is None or min(both.width, both.height) < 3


def panels(figure):
    return {axes._left_title.get_text(): axes for axes in figure.axes if axes.axison}


def points(axes, marker="o"):
    return next(own.get_xdata() for own in axes.lines if own.get_marker() == marker)


def of(found, name):
    return np.array([getattr(row, name) for row in found.rows], float)


def test_the_panels_show_the_numbers():
    params = TREES["colour"]
    network = network_of(params)
    other = {name: leaf + 1 for name, leaf in params.items()}
    found = inspection.examine(params, network=network, reference=other)
    drawn = panels(found.figure())
    assert list(drawn) == [
        "norm / the default’s",
        "variance entropy",
        "sparse slices (%)",
        "angle to the reference (°)",
    ]
    norms, entropies, _, angles = drawn.values()
    assert norms.get_xscale() == "log"
    np.testing.assert_allclose(points(norms), of(found, "relative_norm"))
    np.testing.assert_allclose(points(entropies), of(found, "variance_entropy"))
    np.testing.assert_allclose(points(entropies, "|"), of(found, "random_entropy"))
    np.testing.assert_allclose(points(angles), of(found, "angle"))
    assert [own.get_text() for own in norms.get_yticklabels()] == list(params)


def test_a_figure_without_reference_has_no_angles(params):
    figure = inspection.examine(params).figure("Of mine")
    assert isinstance(figure, matplotlib.figure.Figure)
    assert len(panels(figure)) == 3
    assert "Of mine" in [own.get_text() for own in figure.texts]


def test_first_filters_of_three_channels_are_in_their_colours():
    params = {"stem": np.zeros((3, 3, 3, 2), np.float32)}
    params["stem"][..., 0, 0], params["stem"][..., 2, 1] = 1, -1
    found = inspection.examine(params, network=network_of(params))
    pixels = found.figure().axes[-1].images[0].get_array()
    side = pixels.shape[1] // 2
    np.testing.assert_allclose(pixels[side // 2, side // 2], [1, 0.5, 0.5])
    np.testing.assert_allclose(pixels[side // 2, side + side // 2], [0.5, 0.5, 0])


def test_slices_are_red_above_zero_and_blue_below():
    red, blue, white = drawing._tinted(np.array([[[1.0]], [[-1.0]], [[0.0]]]))
    assert red[0, 0, 0] > red[0, 0, 2]
    assert blue[0, 0, 0] < blue[0, 0, 2]
    np.testing.assert_allclose(white[0, 0], 0.97, atol=0.01)


def small_bank(layers, clusters):
    names = [f"layer{number}/conv" for number in range(layers)]
    return banks.FilterBank(
        {name: jnp.asarray(kernel(clusters, 1, 9)) for name in names},
        {name: jnp.ones(clusters) for name in names},
        {name: jnp.asarray(0.0) for name in names},
        flax.core.FrozenDict(dict.fromkeys(names, (3, 3))),
        banks.Provenance("euclidean", "centroid", clusters, 1, (), "0"),
    )


@pytest.mark.parametrize(("clusters", "rows"), [(3, 17), (30, 8)])
def test_a_bank_of_few_clusters_shows_more_layers(clusters, rows):
    figure = inspection.examine(small_bank(17, clusters)).figure()
    assert "norm of a slice" in panels(figure)
    assert len([axes for axes in figure.axes if not axes.axison]) == rows
    page = figure.bbox
    assert all(box.x1 <= page.x1 and box.y0 >= page.y0 for _, box in shown(figure))


def test_without_matplotlib_the_extra_is_named(params, monkeypatch):
    found = inspection.examine(params, layers=1)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"jaxinit\[figures\]"):
        found.figure()
