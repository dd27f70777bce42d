"""How a question makes itself known: its module's `ENTRY` says all that other modules need.

`experiments.paper` runs what is in the paper, `experiments.report` shows it, and the table of the
documentation lists it, by what `entries` finds.
"""

import dataclasses
import functools
import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import experiments
from experiments.cli import options, processes
from experiments.cli.errors import exit_status
from experiments.cli.progress import Progress, clock


class Planned(Protocol):
    """What has yet to be run."""

    def work(self) -> Mapping[str, float]:
        """For all that is still to be trained, by its identity, how many pixels it trains on."""
        ...

    def run(self) -> list[Path]:
        """Trains what is not recorded yet, writes what follows from it, and returns the files."""
        ...


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: What it is about.
        stems: How the names of its figures' files begin.
        figure: The paper's figure that it shows in form, if any.
    """

    title: str
    stems: tuple[str, ...]
    figure: int | None = None

    @property
    def heading(self) -> str:
        """The title, after the figure's number where it has one."""
        return self.title if self.figure is None else f"Figure {self.figure}: {self.title}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A question, as its module gives it.

    Attributes:
        name: Of the module, of its records and of its output.
        about: The module's docstring.
        varies: What it varies, for the table of the documentation.
        presets: Its settings by name; the first is the default.
        plan: Makes what is to be run of the settings; of a progress too, where there is more to do.
        number: Of the paper's first experiment that it is; None where it is not in the paper.
        sections: What it shows in the report.
    """

    name: str
    about: str | None
    varies: str
    presets: Mapping[str, Any]
    plan: Callable[[Any, Progress | None], Planned]
    number: int | None = None
    sections: tuple[Section, ...] = ()

    @property
    def figures(self) -> tuple[int, ...]:
        """The paper's figures that it draws."""
        return tuple(part.figure for part in self.sections if part.figure is not None)

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Runs it from its command line, and says where everything lies.

        Args:
            argv: Arguments; None for the process's own.
        """
        start = time.monotonic()
        with exit_status():
            settings = options.parse(
                self.presets,
                argv,
                program=f"python -m experiments.{self.name}",
                about=self.about,
            )
            processes.setup_jax()
            written = self.plan(settings, None).run()
            print(f"finished in {clock(time.monotonic() - start)}; written:")
            for path in written:
                print(f"  {path}")


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Finds all questions: those of the paper in its order, then the others by name."""
    modules = [found.name for found in pkgutil.iter_modules(experiments.__path__)]
    loaded = [importlib.import_module(f"experiments.{name}") for name in modules]
    found = [module.ENTRY for module in loaded if hasattr(module, "ENTRY")]
    return tuple(sorted(found, key=lambda entry: (entry.number is None, entry.number, entry.name)))


def sections() -> tuple[tuple[Section, Entry], ...]:
    """The parts of the report, in the order of the paper's figures, then those without one."""
    found = [(part, entry) for entry in entries() for part in entry.sections]
    return tuple(sorted(found, key=lambda pair: (pair[0].figure is None, pair[0].figure or 0)))
