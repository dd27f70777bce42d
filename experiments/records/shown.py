"""What a study shows of its runs: labels in order, figures, comparisons, the authors' curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from experiments.cli.errors import UserError
from experiments.records import strict
from experiments.records.files import JSON, plain
from experiments.records.run_record import RunRecord

Palette = Literal["categorical", "sequential"]
Contrast = tuple[str, str, str]  # what it is called, a variant, and what that is compared with

_CONFIG = ConfigDict(extra="forbid")  # not strict, as JSON has lists for tuples


@dataclass(frozen=True, config=_CONFIG)
class Figure:
    """Which variants one figure shows.

    Attributes:
        stem: Its file's name without ending.
        title: What it says.
        variants: Names of the variants, in the order of the colours.
        palette: "sequential" where they are steps of one quantity.
    """

    stem: str
    title: str
    variants: tuple[str, ...]
    palette: Palette = "categorical"


@dataclass(frozen=True, config=_CONFIG)
class Family:
    """Comparisons whose p values are corrected together.

    Attributes:
        stem: Of its figure's name.
        title: What it asks.
        contrasts: For each comparison what it is called, a variant, and what that is compared with.
    """

    stem: str
    title: str
    contrasts: list[Contrast]

    def words(self) -> dict[tuple[str, str], str]:
        """What each pair of variants is compared for."""
        return {(variant, other): asked for asked, variant, other in self.contrasts}


@dataclass(frozen=True, config=_CONFIG, kw_only=True)
class Shown:
    """How a study's runs are shown and compared.

    Attributes:
        labels: Of every variant, in the order of tables.
        figures: Of curves.
        authors: For a variant the authors' configuration of the same setting, where there is one.
        baseline: The variant that the others are compared with.
        families: Of comparisons; none in what was written before there were any.
        subtitle: What the runs have in common.
    """

    labels: dict[str, str]
    figures: tuple[Figure, ...]
    authors: dict[str, str]
    baseline: str
    families: tuple[Family, ...] = ()
    subtitle: str

    def __post_init__(self) -> None:
        for figure in self.figures:
            if unknown := [name for name in figure.variants if name not in self.labels]:
                raise ValueError(f"{figure.stem} shows {unknown[0]}, which has no label")

    @property
    def starts(self) -> dict[str, str]:
        """The labels, that of the baseline among them even where it was not told."""
        return {**self.labels, self.baseline: self.labels.get(self.baseline, self.baseline)}


class Study(NamedTuple):
    """What is recorded of an experiment.

    Attributes:
        shown: How its runs are shown; None where that was not told.
        runs: In the order in which they were shown.
        file: Where this was read.
    """

    shown: Shown | None
    runs: list[RunRecord]
    file: Path

    def showing(self) -> Shown:
        """Returns how its runs are shown. Raises `UserError` where that was not told."""
        if self.shown is None:
            raise UserError(f"{self.file} does not say what to show: run its experiment again")
        return self.shown


_ADAPTER = TypeAdapter(Shown)


def written(shown: Shown) -> dict[str, JSON]:
    """Returns what is shown as JSON has it."""
    return plain(_ADAPTER.dump_python(shown))


def parse(data: Mapping[str, JSON], where: Path | str) -> Shown | None:
    """Reads what `written` returned, None where it is empty.

    Raises:
        UserError: If it is not that; `where` is what the sentence calls it.
    """
    if data == {}:
        return None
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        raise UserError(
            f"{where} does not say what to show ({strict.sentence(error)}): run its experiment "
            "again"
        ) from error
