"""Draws what was found of a start: its numbers over depth, and pictures of its filters."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxinit.inspection.layer_rows import Inspection, LayerRow, shortened

# Sizes in inches, except for those of text.
_WIDTH, _EDGE, _RIGHT = 10.0, 0.15, 0.25
_HEAD, _FOOT = 0.88, 0.4
_AXIS = 0.62  # below the numbers: ticks and the heading of the pictures
_ROW, _LEAST_ROW, _TALL = 0.25, 0.11, 9.0  # of a layer; of very many; of all, where they are many
_READABLE = 0.155  # a row that is lower has no room for its name
_TILE = 0.34
_BLOCK = 0.3  # between blocks of pictures
_MOST_NAMES = 30  # characters
_CHARACTER = 0.071
_PICTURED = 8  # layers in each block
_FILTER_COLUMNS = 8
_POINTS = 72  # pixels of a picture's side, and of those the space around it
_FRAME, _SPACE = 2, 8
_USUAL = 99.5  # percentile of |taps| at which colours end

_COLOUR, _MARK, _QUIET, _GRID = "#0072B2", "#E69F00", "#666666", "#e6e6e6"
_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def figure(found: Inspection, title: str = "") -> Any:
    """Draws an inspection.

    Args:
        found: What was found.
        title: What the figure says; by default what kind of start it is.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "figures need the library Matplotlib: say pip install 'jaxinit[figures]'"
        ) from None
    row = min(_ROW, max(_LEAST_ROW, _TALL / len(found.rows)))
    numbers = row * len(found.rows) + 0.1
    grid = None if found.filters is None else _grid(found.filters)
    blocks = _blocks(found, grid)
    tiles = [len(block) for block in blocks] + ([] if grid is None else [len(grid) / _POINTS])
    pictures = max(tiles, default=0) * _TILE
    height = _HEAD + numbers + _AXIS + pictures + _FOOT
    title = title or ("A filter bank" if found.is_bank else "A network")
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(_WIDTH, height))
        page = _Page(drawn, height)
        page.text(_EDGE, 0.12, shortened(title, 80), fontsize=13, fontweight="bold")
        page.text(_EDGE, 0.40, found.about, color=_QUIET)
        _draw_numbers(page, found.rows, _HEAD, numbers, row)
        top = _HEAD + numbers + _AXIS
        if grid is not None:
            _draw_filters(page, grid, found.rows[0].name, top)
        _draw_slices(page, found, blocks, top, _slices_left(grid))
        page.text(_EDGE, height - 0.25, _explained(found, grid), fontsize=8, color=_QUIET)
    return drawn


class _Page:
    """A figure on which places are inches from its upper left corner."""

    def __init__(self, drawn: Any, height: float) -> None:
        self.drawn, self.height = drawn, height

    def axes(self, left: float, top: float, width: float, height: float, **more: Any) -> Any:
        """Adds axes at a place."""
        bottom = self.height - top - height
        place = (left / _WIDTH, bottom / self.height, width / _WIDTH, height / self.height)
        return self.drawn.add_axes(place, **more)

    def text(self, left: float, top: float, text: str, **more: Any) -> None:
        """Writes from a place to the right, and downwards unless told otherwise."""
        more = {"va": "top", "parse_math": False, **more}
        self.drawn.text(left / _WIDTH, 1 - top / self.height, text, **more)

    def picture(self, left: float, top: float, pixels: Float[np.ndarray, "h w 3"]) -> None:
        """Draws pixels, at so many an inch that a slice has the size of a tile."""
        height, width = (side * _TILE / _POINTS for side in pixels.shape[:2])
        axes = self.axes(left, top, width, height)
        axes.set_axis_off()
        axes.imshow(pixels, aspect="auto", interpolation="antialiased")


def _draw_numbers(
    page: _Page, rows: Sequence[LayerRow], top: float, height: float, row: float
) -> None:
    """Draws a panel a quantity, in which layers follow each other downwards."""
    panels = _panels(rows)
    names = [shortened(own.name, _MOST_NAMES) for own in rows]
    left = _EDGE + 0.1 + _CHARACTER * max(map(len, names))
    gap = 0.28
    width = (_WIDTH - _RIGHT - left - gap * (len(panels) - 1)) / len(panels)
    for number, (heading, draw) in enumerate(panels):
        axes = page.axes(left + number * (width + gap), top, width, height)
        axes.set_axisbelow(True)
        axes.grid(True, axis="x", color=_GRID)
        axes.set_title(heading, fontsize=9, loc="left", color=_QUIET, pad=5)
        draw(axes)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        every = math.ceil(_READABLE / row)
        axes.set_yticks(
            range(0, len(rows), every), names[::every] if number == 0 else [], parse_math=False
        )
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.tick_params(axis="x", labelsize=8)


def _panels(rows: Sequence[LayerRow]) -> list[tuple[str, Callable[[Any], None]]]:
    norms = _values(rows, "relative_norm")
    slice_norms = _values(rows, "slice_norm")
    entropies, angles = _values(rows, "variance_entropy"), _values(rows, "angle")
    random = _values(rows, "random_entropy")
    found: list[tuple[str, Callable[[Any], None]]] = []
    if np.isfinite(norms).any():
        found.append(("norm / the default’s", lambda axes: _draw_norms(axes, norms, 1.0)))
    else:
        found.append(("norm of a slice", lambda axes: _draw_norms(axes, slice_norms, None)))
    found.append(("variance entropy", lambda axes: _draw_entropies(axes, entropies, random)))
    sparse = 100 * _values(rows, "sparsity")
    found.append(("sparse slices (%)", lambda axes: _draw_bars(axes, sparse, 100.0)))
    if np.isfinite(angles).any():
        most = 90.0 if np.nanmax(angles) <= 90 else 180.0
        found.append(("angle to the reference (°)", lambda axes: _draw_bars(axes, angles, most)))
    return found


def _values(rows: Sequence[LayerRow], name: str) -> Float[np.ndarray, " layers"]:
    return np.array([math.nan if (v := getattr(row, name)) is None else v for row in rows], float)


def _draw_norms(axes: Any, norms: Float[np.ndarray, " layers"], default: float | None) -> None:
    """Draws norms on a logarithmic axis; zeros, which have no place there, are left out."""
    from matplotlib import ticker

    shown = np.where(np.isfinite(norms) & (norms > 0), norms, math.nan)
    finite = [*shown[np.isfinite(shown)], *([] if default is None else [default])] or [1.0]
    low, high = min(finite), max(finite)
    axes.set_xscale("log")
    margin = max((high / low) ** 0.08, 1.2, 2.1 / (high / low) ** 0.5)  # 4.4 from end to end
    low, high = low / margin, high * margin
    axes.set_xlim(low, high)
    # As many ticks as fit: of ever fewer numbers a power of ten.
    for numbers in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        places = [
            n * 10.0**p for p in range(-40, 41) for n in numbers if low <= n * 10.0**p <= high
        ]
        if len(places) <= 5:
            break
    else:
        places = places[:: math.ceil(len(places) / 4)]
    axes.xaxis.set_major_locator(ticker.FixedLocator(places))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    if default is not None:
        axes.axvline(default, color="black", lw=1)
        axes.hlines(np.arange(len(norms)), default, shown, color=_COLOUR, lw=1.4)
    axes.plot(shown, np.arange(len(norms)), "o", color=_COLOUR, ms=4.5)


def _draw_entropies(
    axes: Any,
    entropies: Float[np.ndarray, " layers"],
    random: Float[np.ndarray, " layers"],
) -> None:
    _draw_bars(axes, entropies, None)
    axes.plot(random, np.arange(len(random)), "|", color=_MARK, ms=11, mew=2, zorder=4)
    finite = [*entropies[np.isfinite(entropies)], *random[np.isfinite(random)], 0.1]
    axes.set_xlim(0, 1.08 * max(finite))


def _draw_bars(axes: Any, values: Float[np.ndarray, " layers"], end: float | None) -> None:
    from matplotlib import ticker

    places = np.arange(len(values))
    axes.hlines(places, 0, values, color=_COLOUR, lw=1.4)
    axes.plot(values, places, "o", color=_COLOUR, ms=4.5, clip_on=False, zorder=3)
    if end is not None:
        axes.set_xlim(0, end)
        axes.set_xticks(np.linspace(0, end, 5 if end == 100 else 4))
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))


def _slices_left(grid: Float[np.ndarray, "h w 3"] | None) -> float:
    """Where slices begin: beside the first layer's filters, if these are drawn."""
    return _EDGE if grid is None else _EDGE + grid.shape[1] * _TILE / _POINTS + 0.35


def _named_width(rows: Sequence[LayerRow]) -> float:
    longest = max(len(shortened(row.name, _MOST_NAMES)) for row in rows)
    return 0.1 + _CHARACTER * longest


def _blocks(found: Inspection, grid: Float[np.ndarray, "h w 3"] | None) -> list[Sequence[LayerRow]]:
    """Chooses layers whose slices are drawn, evenly spread, in blocks beside each other.

    Those of a single tap are left out, and the first if its filters are drawn whole.
    """
    rows = [row for row in found.rows if found.samples[row.name][0].size > 1]
    if grid is not None:
        rows = [row for row in rows if row is not found.rows[0]]
    if not rows:
        return []
    slices = max(len(found.samples[row.name]) for row in rows)
    width = _named_width(rows) + slices * _TILE + _BLOCK
    beside = max(1, int((_WIDTH - _RIGHT + _BLOCK - _slices_left(grid)) / width))
    kept = np.linspace(0, len(rows) - 1, min(_PICTURED * beside, len(rows))).round().astype(int)
    rows = [rows[number] for number in kept]
    each = math.ceil(len(rows) / beside)
    return [rows[at : at + each] for at in range(0, len(rows), each)]


def _draw_filters(page: _Page, grid: Float[np.ndarray, "h w 3"], name: str, top: float) -> None:
    _head(page, _EDGE, top, shortened(f"filters of {name}", 34))
    page.picture(_EDGE, top, grid)


def _head(page: _Page, left: float, top: float, text: str) -> None:
    page.text(left, top - 0.1, text, color=_QUIET, va="bottom")


def _draw_slices(
    page: _Page,
    found: Inspection,
    blocks: Sequence[Sequence[LayerRow]],
    top: float,
    left: float,
) -> None:
    drawn = sum(map(len, blocks))
    if drawn:
        _head(
            page, left, top, "slices" + (" of some layers" if drawn + 1 < len(found.rows) else "")
        )
    for block in blocks:
        start = left + _named_width(block)
        room = int((_WIDTH - _RIGHT - start) / _TILE)
        for number, row in enumerate(block):
            place = top + number * _TILE
            name = shortened(row.name, _MOST_NAMES)
            page.text(start - 0.1, place + _TILE / 2, name, fontsize=8, ha="right", va="center")
            slices = found.samples[row.name][:room]
            page.picture(start, place, np.concatenate(_tiles(_tinted(slices)), axis=1))
        left = start + min(room, max(len(found.samples[row.name]) for row in block)) * _TILE
        left += _BLOCK


def _grid(filters: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "height width 3"]:
    """Sets the first layer's filters beside and below each other."""
    coloured = filters.shape[-1] == 3
    tiles = _tiles(_coloured(filters) if coloured else _tinted(filters[..., 0]))
    columns = min(_FILTER_COLUMNS, len(tiles))
    blank = np.ones_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    lines = [np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)]
    return np.concatenate(lines, axis=0)


def _limit(taps: np.ndarray) -> float:
    """Where colours end: few taps that are much larger than all others are cut."""
    finite = np.abs(taps[np.isfinite(taps)])
    limit = float(np.percentile(finite, _USUAL)) if finite.size else 0.0
    return limit or float(finite.max(initial=0)) or 1.0


def _coloured(filters: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """As red, green and blue, grey for zero; black where a tap is not finite."""
    shades = np.clip(0.5 + filters / (2 * _limit(filters)), 0, 1)
    return np.where(np.isfinite(filters), shades, 0.0)


def _tinted(slices: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n h w 3"]:
    """In shades of red above zero and of blue below it; black where a tap is not finite."""
    import matplotlib

    shades = matplotlib.colormaps["RdBu_r"](0.5 + np.clip(slices / _limit(slices), -1, 1) / 2)
    return np.where(np.isfinite(slices)[..., None], shades[..., :3], 0.0)


def _tiles(pictures: Float[np.ndarray, "n h w 3"]) -> list[Float[np.ndarray, "p p 3"]]:
    """Enlarges pictures to squares of `_POINTS` pixels, with a frame and space around each."""
    room = _POINTS - 2 * _FRAME - _SPACE
    height, width = pictures.shape[1:3]
    shown = [max(1, round(room * side / max(height, width))) for side in (height, width)]
    rows, columns = (
        np.arange(points) * side // points
        for points, side in zip(shown, (height, width), strict=True)
    )
    tiles = []
    for picture in pictures:
        tile = np.ones((_POINTS, _POINTS, 3))
        tall, wide = (points + 2 * _FRAME for points in shown)
        y, x = (_POINTS - tall) // 2, (_POINTS - wide) // 2
        tile[y : y + tall, x : x + wide] = 0.6
        inner = picture[rows][:, columns]
        tile[y + _FRAME : y + tall - _FRAME, x + _FRAME : x + wide - _FRAME] = inner
        tiles.append(tile)
    return tiles


def _explained(found: Inspection, grid: Float[np.ndarray, "h w 3"] | None) -> str:
    parts = []
    if any(row.random_entropy is not None for row in found.rows):
        parts.append("Orange: the least entropy of as many random slices.")
    parts.append("Red: positive, blue: negative, white: zero; the scale is each layer’s.")
    if grid is not None and found.filters is not None and found.filters.shape[-1] == 3:
        parts.append("In colour: grey is zero.")
    return " ".join(parts)
