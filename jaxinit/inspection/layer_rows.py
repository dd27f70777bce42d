"""What is known of each layer of a start, as numbers and as a table."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxinit import kernels

_WIDEST = 100  # columns of the table


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer: plain numbers, NaN where its kernel is not finite.

    Attributes:
        name: Of the layer.
        shape: Of the kernel (spatial …, in, out); of a bank's slices alone (spatial …) where it is
            not known what is drawn from it.
        taps: Of each slice.
        live_taps: Those of them that meet data, to which all other numbers refer; None where that
            is not known, and all are taken.
        slice_norm: √(mean of ‖slice‖²).
        relative_norm: ‖w‖ over what the default start has on average for the same taps,
            √(2·in·live/taps). Of a bank √E‖w‖² takes the place of ‖w‖; None where the number of
            output channels, on which it depends, is not known.
        effective_step: 1 / relative_norm²: how much further a step of SGD turns the layer than it
            turned one of the default's norm, if its output is normalised.
        angle: Between the kernel and that of the reference, in degrees; None without one.
        variance_entropy: See `jaxinit.inspection.variance_entropy`.
        random_entropy: That of random slices (see `jaxinit.inspection.random_entropy`).
        sparsity: See `jaxinit.inspection.sparsity`.
    """

    name: str
    shape: tuple[int, ...]
    taps: int
    live_taps: int | None
    slice_norm: float
    relative_norm: float | None
    effective_step: float | None
    angle: float | None
    variance_entropy: float
    random_entropy: float | None
    sparsity: float

    @property
    def entropy_ratio(self) -> float | None:
        """The variance entropy as a multiple of random slices': from 1 on it is theirs."""
        return None if self.random_entropy is None else self.variance_entropy / self.random_entropy


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What `examine` found: `print` shows a table, `figure` draws it.

    Attributes:
        rows: The layers, in the order of calls.
        is_bank: Whether the start is a filter bank, not a tree of parameters.
        about: What is known of the start as a whole, in words.
        samples: For each layer some of its slices (n, h, w); of more spatial axes than two all but
            the last are laid below each other.
        filters: Filters of the first layer (n, h, w, channels), if they are 2-D and those of a
            tree, and have one channel or three; else None.
    """

    rows: tuple[LayerRow, ...]
    is_bank: bool
    about: str
    samples: Mapping[str, Float[np.ndarray, "n h w"]]
    filters: Float[np.ndarray, "m a b c"] | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as `json.dumps` takes them: None for those that are not finite.

        Returns:
            "kind" ("bank" or "params"), "about", and "layers", a list of dictionaries with the
            fields of `LayerRow` and its `entropy_ratio`.
        """
        layers = [{**vars(row), "entropy_ratio": row.entropy_ratio} for row in self.rows]
        return {
            "kind": "bank" if self.is_bank else "params",
            "about": self.about,
            "layers": [{name: _plain(value) for name, value in own.items()} for own in layers],
        }

    def __str__(self) -> str:
        """A table of the layers, at most 100 columns wide, and what its columns mean."""
        return table(self.rows)

    def figure(self, title: str = "") -> Any:
        """Draws the numbers over depth, and pictures of filters.

        Args:
            title: What the figure says; by default what kind of start it is.

        Returns:
            A `matplotlib.figure.Figure`, of no window; it has `savefig("start.png", dpi=150)`.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        from jaxinit.inspection import drawing  # it needs this module

        return drawing.figure(self, title)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shortened(name: str, most: int) -> str:
    """Leaves out the middle of a name that is longer than so many characters."""
    if len(name) <= most:
        return name
    kept = max(most - 1, 2)
    return f"{name[: kept // 2]}…{name[len(name) - (kept - kept // 2) :]}"


# For each column its heading, its cells, and what it means.
_COLUMNS = (
    ("kernel", lambda row: kernels.sides(row.shape), ""),
    (
        "live",
        lambda row: None if row.live_taps is None else f"{row.live_taps}/{row.taps}",
        "live: taps that ever meet data, of all; the other columns are about these",
    ),
    (
        "slice norm",
        lambda row: _short(row.slice_norm) if row.relative_norm is None else None,
        "slice norm: √(mean of ‖slice‖²)",
    ),
    ("norm", lambda row: _short(row.relative_norm), "norm: ‖w‖ over the default start's"),
    (
        "step",
        lambda row: _short(row.effective_step),
        "step: how much further SGD turns it under batch norm than at the default's norm, 1/norm²",
    ),
    ("angle", lambda row: _fixed(row.angle, 1, "°"), "angle: to the reference"),
    (
        "entropy",
        lambda row: _fixed(row.variance_entropy, 3),
        "entropy: of the variance of slices; 0 on one line, log₁₀(taps) in all directions alike",
    ),
    (
        "of random",
        lambda row: _fixed(row.entropy_ratio, 2),
        "of random: entropy over the least of as many random 3×3 slices; below 1 is structure",
    ),
    (
        "sparse",
        lambda row: _fixed(100 * row.sparsity, 1, " %"),
        "sparse: slices all below 1 % of the layer's largest tap",
    ),
)


def table(rows: Sequence[LayerRow]) -> str:
    """Writes rows as an aligned table, without columns that would be empty, and a legend."""
    cells = {heading: [cell(row) for row in rows] for heading, cell, _ in _COLUMNS}
    cells = {head: own for head, own in cells.items() if any(cell is not None for cell in own)}
    texts = [[head, *(cell or "–" for cell in own)] for head, own in cells.items()]
    widths = [max(map(len, column)) for column in texts]
    room = max(_WIDEST - sum(width + 2 for width in widths), 12)
    names = [shortened(name, room) for name in ("layer", *(row.name for row in rows))]
    longest = max(map(len, names))
    lines = []
    for number, name in enumerate(names):
        columns = zip(texts, widths, strict=True)
        own = [column[number].rjust(width) for column, width in columns]
        lines.append("  ".join([name.ljust(longest), *own]).rstrip())
    legend = [meaning for head, _, meaning in _COLUMNS if meaning and head in cells]
    return "\n".join([*lines, "", *legend])


def _short(value: float | None) -> str | None:
    """Three digits, whatever the size."""
    return None if value is None else f"{value:#.3g}".rstrip(".")


def _fixed(value: float | None, digits: int, unit: str = "") -> str | None:
    return None if value is None else f"{value:.{digits}f}{unit}"
