"""Pictures of filters: what clusters draw, and kernels before and after training (figure 10)."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting import style


def filter_figure(
    filters: Mapping[str, Float[np.ndarray, "k h w"]],
    sizes: Mapping[str, Float[np.ndarray, " k"]],
    title: str,
    subtitle: str = "",
    largest: int = 12,
) -> Figure:
    """Draws the cluster centres of each layer, the largest cluster first, with its share.

    Args:
        filters: Centres of each layer.
        sizes: Members of each cluster, as numbers or shares.
        title: What the figure says; the procedural data has to be named here.
        subtitle: Source models, clusters and distance.
        largest: Clusters shown a layer, at most.
    """
    columns = min(largest, max(len(f) for f in filters.values()))
    blocks = max(1, min(3, round(14 / (columns + 3))))
    rows = math.ceil(len(filters) / blocks)
    name_width, cell = 2.4, 1.18
    width, height = name_width + columns * cell, 1.42
    inch = 0.52
    figure_width = max(inch * blocks * width + 0.3, 5.5)
    figure_height = inch * rows * height + 1.2
    with matplotlib.rc_context(style.SETTINGS):
        figure = Figure(figsize=(figure_width, figure_height))
        size = (inch * blocks * width / figure_width, inch * rows * height / figure_height)
        axes = figure.add_axes((0.12 / figure_width, 0.35 / figure_height, *size))
        axes.set_axis_off()
        for i, (layer, centres) in enumerate(filters.items()):
            x, y = (i // rows) * width, (i % rows) * height
            _draw_layer(axes, layer, np.asarray(centres), np.asarray(sizes[layer]), largest,
                        (x, y, name_width, cell))  # fmt: skip
        axes.set_xlim(0, blocks * width)
        axes.set_ylim(rows * height, 0)
        style.footnote(
            figure,
            "Below each centre: its cluster's share. Red: positive, blue: negative, white: zero; "
            "the scale is each layer's.",
        )
        style.headings(figure, title, subtitle)
    return figure


def _draw_layer(
    axes: Axes,
    layer: str,
    centres: Float[np.ndarray, "k h w"],
    sizes: Float[np.ndarray, " k"],
    largest: int,
    place: tuple[float, float, float, float],
) -> None:
    x, y, name_width, cell = place
    order = np.argsort(-sizes, kind="stable")[:largest]
    limit = float(np.abs(centres[order]).max()) or 1.0
    name = layer if len(centres) <= largest else f"{layer}\n({largest} of {len(centres)})"
    axes.text(x + name_width - 0.2, y + 0.5, name, fontsize=8, ha="right", va="center")
    style: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "aspect": "auto"}
    for column, cluster in enumerate(order):
        left = x + name_width + column * cell
        axes.imshow(centres[cluster], extent=(left, left + 1, y + 1, y), **style)
        xs, ys = left + np.array([0, 1, 1, 0, 0]), y + np.array([0, 0, 1, 1, 0])
        axes.plot(xs, ys, c="#999999", lw=0.5)
        share = 100 * sizes[cluster] / sizes.sum()
        axes.text(left + 0.5, y + 1.04, f"{share:.0f}%", fontsize=6.5, ha="center", va="top")


def kernels_figure(
    slices: Mapping[str, tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n h w"]]],
    *,
    title: str,
    subtitle: str,
) -> Figure:
    """Draws the same slices of some kernels before and after training, a pair of rows a layer.

    Args:
        slices: For each layer those of its kernel before and after.
        title: What the figure says; the procedural data has to be named in one of the two.
        subtitle: Source models, clusters and task.
    """
    with matplotlib.rc_context(style.SETTINGS):
        height = 0.9 + 1.15 * len(slices)
        figure = Figure(figsize=(10, height))
        grid = figure.add_gridspec(
            len(slices), 1, left=0.16, right=0.99, bottom=0.35 / height, top=1 - 0.65 / height
        )
        for row, (layer, pair) in enumerate(slices.items()):
            axes = figure.add_subplot(grid[row])
            axes.grid(False)
            axes.set_xticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            mosaic = np.concatenate([_mosaic(some) for some in pair])
            limit = float(np.nanmax(np.abs(mosaic))) or 1.0
            axes.imshow(mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit)
            quarter = mosaic.shape[0] / 4
            axes.set_yticks([quarter, 3 * quarter], [f"{layer}\nbefore", "after"], fontsize=8)
            axes.tick_params(length=0)
        style.footnote(
            figure, "Red: positive, blue: negative, white: zero; the scale is each layer's."
        )
        style.headings(figure, title, subtitle)
    return figure


def _mosaic(slices: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "rows columns"]:
    """Sets slices side by side, with gaps of NaN around them."""
    framed = [np.pad(one, ((1, 1), (1, 0)), constant_values=np.nan) for one in slices]
    return np.concatenate(framed, axis=1)
