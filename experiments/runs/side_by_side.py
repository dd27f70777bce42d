"""Trains runs side by side: in which groups, how, and what is recorded of each."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli.progress import Progress, say
from experiments.data.sets import Dataset
from experiments.data.tasks import Task, task_name
from experiments.records import run_record
from experiments.records.run_record import RunRecord
from experiments.runs.protocol import Run, run_keys
from experiments.training.epoch import DeviceData
from experiments.training.run_log import Curves
from experiments.training.trainer import Trainer


def groups_of_runs(
    waiting: Sequence[Any], planned: int, asked: int | None, trainer: Trainer, task: Task
) -> tuple[list[Sequence[Any]], int]:
    """Cuts what waits into groups to be trained at once.

    Their size is that of the plan's groups, as equal as can be, whatever is left of these: for as
    many runs another program is compiled, which rounds otherwise.

    Args:
        waiting: Runs, or chains of them.
        planned: How many there are with those that are recorded already.
        asked: The size of a group; None means as many as the devices' memory holds, or 1 a device
            where it does not say, as on a CPU.
        trainer: Knows the memory.
        task: One of those to be trained.

    Returns:
        The groups, and their size, which the last need not reach.
    """
    most = asked or trainer.runs_that_fit(task) or trainer.devices
    size = -(-planned // -(-planned // most))
    return [waiting[first : first + size] for first in range(0, len(waiting), size)], size


def train_runs(
    trainer: Trainer,
    runs: Sequence[Run],
    tasks: Sequence[Task],
    variables: Sequence[Any],
    progress: Progress,
    places: int = 1,
    *,
    keep: bool = True,
    kept: Path | None = None,
) -> tuple[list[Curves], list[Any], float]:
    """Trains runs side by side; returns curves, trained variables if kept, and seconds a run.

    A streamed run is kept in the file `kept`, if any, while it trains.
    """
    label = ", ".join(f"{r.variant} {task_name(r.pair)} seed {r.seed}" for r in runs[:2])
    label += f" and {len(runs) - 2} more" if len(runs) > 2 else ""
    epochs, work = trainer.settings.epochs, pixels(trainer.images, tasks[0])
    start = time.monotonic()
    curves, finals = trainer.train(
        tasks,
        variables,
        [run_keys(run.seed, run.pair).training for run in runs],
        lambda epoch, accuracies: progress.epoch(label, epoch, epochs, accuracies, work),
        places=places,
        keep=keep,
        unfinished=kept,
    )
    for run, curve in zip(runs, curves, strict=True):
        if curve.stopped:
            say(f"{run.variant} {task_name(run.pair)} seed {run.seed} stopped: {curve.stopped}")
    seconds = time.monotonic() - start + sum(curve.earlier for curve in curves)
    return curves, finals, seconds / len(runs)


def pixels(images: Dataset | DeviceData, task: Task) -> float:
    """The pixels of all training images of a task: what the time of an epoch goes with."""
    _, height, width, _ = images.train_images.shape
    return float(len(task.train_index) * height * width)


def make_record(
    experiment: str,
    run: Run,
    curves: Curves,
    settings: dict[str, Any],
    seconds: float,
    more: Mapping[str, Any],
) -> RunRecord:
    """Makes the record of a run that has just been trained; `more` is added to the environment."""
    return RunRecord(
        experiment=experiment,
        variant=run.variant,
        task=task_name(run.pair),
        seed=run.seed,
        settings=settings,
        curves=curves.values,
        stopped=curves.stopped,
        environment={**run_record.environment(), **more},
        wall_seconds=seconds,
    )
