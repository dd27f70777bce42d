"""The whole paper in one command: every experiment, what they share made once, and the report.

Killed at any moment, it goes on from there.
"""

import argparse
import dataclasses
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from experiments import filters, report
from experiments.cli import processes
from experiments.cli.errors import exit_status
from experiments.cli.progress import Progress, clock, say
from experiments.runs.sources import Sources
from experiments.study import conduct
from experiments.study.conduct import Plan
from experiments.study.presets import Experiment

ORDER = (
    "baselines", "clusters", "gabor", "initialized_layers", "source_models", "aligned_filters",
    "tiny_imagenet", "search", "filters",
)  # fmt: skip

_Settings = TypeVar("_Settings", bound=Experiment)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs everything, with one progress, and says where it lies."""
    options = parse(argv)
    start = time.monotonic()
    with exit_status():
        processes.setup_jax()
        progress = Progress(0)
        for plan in plans(options, progress):
            plan.run()
        for path in report.write(options.output, options.output / "report"):
            print(f"  {path}")
        print(f"finished in {clock(time.monotonic() - start)}")


def plans(options: argparse.Namespace, progress: Progress) -> list[Plan | filters.Plan]:
    """Plans all experiments, and tells the progress what is to be done, each thing once."""
    made: list[Plan | filters.Plan] = []
    work: dict[str, float] = {}
    for name in options.experiments:
        module = importlib.import_module(f"experiments.{name}")
        settings = _placed(module.PRESETS[options.preset], name, options)
        made.append(
            filters.plan(settings, progress)
            if name == "filters"
            else conduct.plan(name, settings, module.ask, progress)
        )
        work |= made[-1].work()
    progress.expect(sum(work.values()))
    say(f"{len(made)} experiments; {len(work)} runs and source models to train")
    return made


def _placed(settings: _Settings, name: str, options: argparse.Namespace) -> _Settings:
    """Puts an experiment's folders where they belong, and its data where they are."""
    output = str(options.output / name)
    return dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, data_dir=options.data_dir),
        sources=dataclasses.replace(settings.sources, models_dir=options.models_dir),
        evaluation=dataclasses.replace(
            settings.evaluation, output=output, runs_at_once=options.runs_at_once
        ),
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.paper", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--preset",
        choices=("quick", "reduced", "paper"),
        default="quick",
        help="quick (embedded images, small), reduced (real images, the grid thinned for a CPU) "
        "or paper (its grid) (default: quick)",
    )
    parser.add_argument(
        "--experiments",
        nargs="+",
        choices=ORDER,
        default=ORDER,
        metavar="NAME",
        help=f"which of {', '.join(ORDER)} (default: all)",
    )
    parser.add_argument(
        "--data-dir",
        help="folder of the prepared data sets (TFDS's own setting where not given)",
    )
    parser.add_argument(
        "--runs-at-once",
        type=int,
        help="runs trained at once (1 a device on CPUs, else what memory holds, where not given)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of all (default: output of quick, else output/reduced or output/paper)",
    )
    parser.add_argument(
        "--models-dir",
        default=Sources().models_dir,
        help="folder of the source models' checkpoints (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    quick = options.preset == "quick"
    options.output = options.output or Path("output", *([] if quick else [options.preset]))
    return options


if __name__ == "__main__":
    sys.exit(main())
