"""The whole paper in one command: every experiment, what they share made once, and the report.

Killed at any moment, it goes on from there.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments import report
from experiments.cli import options, processes
from experiments.cli.errors import exit_status
from experiments.cli.options import PathText, RunsAtOnce, Settings, Several, one_of
from experiments.cli.progress import Progress, clock, say
from experiments.runs.sources import Sources
from experiments.study.entry import Entry, Planned, entries
from experiments.study.presets import Experiment


def order() -> tuple[str, ...]:
    """The names of the paper's experiments."""
    return tuple(entry.name for entry in entries() if entry.number is not None)


@dataclasses.dataclass(frozen=True)
class Paper(Settings):
    """What `experiments.paper` runs."""

    grid: tyro.conf.Suppress[str]  # the preset of each experiment
    # folder of all
    output: PathText
    # which experiments
    experiments: Several[Annotated[str, one_of(order())]] = dataclasses.field(default_factory=order)
    # folder of the prepared data sets (TFDS's own setting where not given)
    data_dir: PathText | None = None
    # runs trained at once (1 a device on CPUs, else what memory holds, where not given)
    runs_at_once: RunsAtOnce | None = None
    # folder of the source models' checkpoints
    models_dir: PathText = Sources.models_dir
    # go on with runs that another revision of this program has recorded
    any_revision: bool = False


PRESETS = {
    "quick": Paper("quick", "output"),
    "reduced": Paper("reduced", "output/reduced"),
    "paper": Paper("paper", "output/paper"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs everything, with one progress, and says where it lies."""
    start = time.monotonic()
    with exit_status():
        settings = parse(argv)
        processes.setup_jax()
        progress = Progress(0)
        for plan in plans(settings, progress):
            plan.run()
        output = Path(settings.output)
        for path in report.write(output, output / "report"):
            print(f"  {path}")
        print(f"finished in {clock(time.monotonic() - start)}")


def parse(argv: Sequence[str] | None) -> Paper:
    """Reads what is asked for."""
    return options.parse(
        PRESETS,
        argv,
        program="python -m experiments.paper",
        about=__doc__,
    )


def plans(settings: Paper, progress: Progress) -> list[Planned]:
    """Plans all experiments, and tells the progress what is to be done, each thing once."""
    chosen = [entry for entry in entries() if entry.name in settings.experiments]
    made = [entry.plan(_placed(entry, settings), progress) for entry in chosen]
    work = {name: pixels for plan in made for name, pixels in plan.work().items()}
    progress.expect(sum(work.values()))
    say(f"{len(made)} experiments; {len(work)} runs and source models to train")
    return made


def _placed(entry: Entry, settings: Paper) -> Experiment:
    """Puts an experiment's folders where they belong, and its data where they are."""
    own: Experiment = entry.presets[settings.grid]
    return dataclasses.replace(
        own,
        data=dataclasses.replace(own.data, data_dir=settings.data_dir),
        sources=dataclasses.replace(own.sources, models_dir=settings.models_dir),
        evaluation=dataclasses.replace(
            own.evaluation,
            output=str(Path(settings.output) / entry.name),
            runs_at_once=settings.runs_at_once,
            take_over=True,  # of what the others of the paper have trained
            any_revision=settings.any_revision,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
