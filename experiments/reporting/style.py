"""What all figures share: colours and markers, headings, footnotes, how they are saved."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure

from experiments.cli import processes
from experiments.records import files, run_record
from experiments.records.run_record import RunRecord
from experiments.records.shown import Palette
from experiments.reporting import wording
from jaxinit import whole_files

# Okabe and Ito's colours, which the colour-blind tell apart, without black and the pale yellow.
CATEGORICAL = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
BASELINE = "#000000"
QUIET = "#666666"
_MARKERS = ("", "o", "^", "s")  # a second round of the colours is told apart by these

SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "image.interpolation": "nearest",
    "svg.hashsalt": "jaxinit",  # the same file for the same numbers
}


def metric_name(metric: str) -> str:
    """What a metric is called on an axis, with its unit."""
    name, unit = wording.metric_name(metric)
    return f"{name} ({unit})"


def looks(
    variants: Sequence[str], baseline: str, palette: Palette
) -> tuple[dict[str, str], dict[str, str]]:
    """Returns each variant's colour and marker; the baseline is black and has none."""
    others = [v for v in variants if v != baseline]
    if palette == "sequential":
        # The map's ends are too near to the baseline's black, and too pale on white.
        shades = matplotlib.colormaps["viridis"](np.linspace(0.15, 0.88, len(others)))
        of_others = [(colors.to_hex(shade), "") for shade in shades]
    else:
        rounds = [divmod(i, len(CATEGORICAL)) for i in range(len(others))]
        of_others = [(CATEGORICAL[c], _MARKERS[marker % len(_MARKERS)]) for marker, c in rounds]
    both = {baseline: (BASELINE, "")} | dict(zip(others, of_others, strict=True))
    return {v: c for v, (c, _) in both.items()}, {v: m for v, (_, m) in both.items()}


def headings(figure: Figure, title: str, subtitle: str) -> None:
    """Writes the title and, smaller below it, what the figure rests on."""
    width, height = figure.get_size_inches()
    wrapped = textwrap.fill(subtitle, int(13.5 * width))
    figure.text(0.12 / width, 1 - 0.12 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.12 / width, 1 - 0.40 / height, wrapped, fontsize=9, color=QUIET, va="top")


def footnote(figure: Figure, text: str) -> None:
    """Writes how to read the figure at its lower edge."""
    width, height = figure.get_size_inches()
    figure.text(0.12 / width, 0.1 / height, text, fontsize=8, color=QUIET, va="bottom")


def titled(title: str, records: Sequence[RunRecord]) -> str:
    """The title, with a word where the data are procedural."""
    return f"{title} – procedural data" if run_record.is_procedural(records) else title


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
    with files.writing_to(folder), matplotlib.rc_context(SETTINGS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        # "tight" makes room for long labels instead of cutting them.
        with whole_files.replacing(paths[0]) as file:
            figure.savefig(
                file, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None}
            )
        with whole_files.replacing(paths[1]) as file:
            figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return paths
