"""Carries out a plan: finds what is recorded already, trains the rest, records each run at once."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli.options import check
from experiments.cli.progress import Progress, say
from experiments.data import sets
from experiments.data.sets import Dataset
from experiments.data.tasks import Task, task_name, task_of
from experiments.records import run_record, store
from experiments.records.run_record import RunRecord
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import Run, plan, run_keys
from experiments.runs.variants import Variant
from experiments.training import networks, programs, unfinished
from experiments.training.epoch import DeviceData
from experiments.training.hyperparameters import Training
from experiments.training.run_log import Curves
from experiments.training.trainer import Trainer
from jaxinit import initializers


def groups_of_runs(
    waiting: Sequence[Any], asked: int | None, trainer: Trainer, task: Task
) -> tuple[list[Sequence[Any]], int]:
    """Cuts what waits into groups to be trained at once, as equal as can be.

    Args:
        waiting: Runs, or chains of them.
        asked: The size of a group; None means as many as the devices' memory holds, or 1 a device
            where it does not say, as on a CPU.
        trainer: Knows the memory.
        task: One of those to be trained.

    Returns:
        The groups, and the size of the largest.
    """
    if not waiting:
        return [], 1
    most = asked or trainer.runs_that_fit(task) or trainer.devices
    size = -(-len(waiting) // -(-len(waiting) // most))
    return [waiting[first : first + size] for first in range(0, len(waiting), size)], size


class Runner:
    """Trains and records the runs of one experiment.

    Args:
        experiment: Its name.
        variants: Ways of starting, in the order of figures and tables.
        dataset: Images; every pair must be of its superclasses.
        settings: Of the training.
        evaluation: Tasks, seeds, protocol, output folder.
        progress: Of all that is to be done; of this experiment alone where not given.
    """

    def __init__(
        self,
        experiment: str,
        variants: Sequence[Variant],
        dataset: Dataset,
        settings: Training,
        evaluation: Evaluation,
        progress: Progress | None = None,
    ) -> None:
        self.experiment = experiment
        self.variants = {variant.name: variant for variant in variants}
        check(
            len(self.variants) == len(variants),
            "two variants would have the same name: give options that differ by more",
        )
        self.dataset = dataset
        self.evaluation = evaluation
        self.settings = settings
        self.folder = Path(evaluation.output)
        self.tasks = {pair: task_of(dataset, pair) for pair in evaluation.tasks()}
        classes = {task.classes for task in self.tasks.values()}
        check(len(classes) == 1, "the pairs differ in their number of classes: choose others")
        self._classes = classes.pop()
        self._records: dict[Run, RunRecord] = {}
        self._initializers: dict[str, Any] = {}
        self._progress = progress

    def run(self) -> list[RunRecord]:
        """Trains what is not recorded yet; returns all records, in the order of the plan."""
        evaluation = self.evaluation
        store.check_writable(self.folder)
        runs = plan(tuple(self.variants), evaluation.tasks(), evaluation.seeds)
        # What is recorded is read first: a conflict must not cost hours of training.
        found = {run: self._find(run) for run in runs}
        if None in found.values() and not evaluation.overwrite:
            found |= self._take_over([run for run in runs if found[run] is None])
        self._records = {run: record for run, record in found.items() if record is not None}
        chains = self._missing(found)
        waiting = sum(len(chain) for chain in chains)
        say(f"{self.experiment}: {len(runs) - waiting} runs recorded already, {waiting} to train")
        self._train_all(chains)
        return [self._records[run] for run in runs]

    def work(self) -> dict[str, float]:
        """What is still to be trained here, recorded neither here nor beside.

        Returns:
            For the identity of each such run, how many pixels it trains on.
        """
        evaluation = self.evaluation
        runs = plan(tuple(self.variants), evaluation.tasks(), evaluation.seeds)
        found = {run: self._find(run) for run in runs}
        theirs = {} if evaluation.overwrite else store.neighbours(self.folder)
        waiting = {
            self._identity(run): self._pixels(run) * self._training(run.variant).epochs
            for chain in self._missing(found)
            for run in chain
        }
        return {name: pixels for name, pixels in waiting.items() if name not in theirs}

    def _missing(self, found: Mapping[Run, RunRecord | None]) -> list[list[Run]]:
        """Lists chains of runs, one after the other of a network; a fresh run is one of its own."""
        if self.evaluation.protocol == "fresh":
            return [[run] for run, record in found.items() if record is None]
        chains = [
            [Run(variant, pair, seed) for pair in self.evaluation.tasks()]
            for seed in range(self.evaluation.seeds)
            for variant in self.variants
        ]
        return [chain for chain in chains if any(found[run] is None for run in chain)]

    def _identity(self, run: Run) -> str:
        return store.identity(self._run_settings(run.variant), task_name(run.pair), run.seed)

    def _pixels(self, run: Run) -> float:
        """Of all training images of a run's task: what an epoch's time goes with."""
        return pixels(self.dataset, self.tasks[run.pair])

    def _train_all(self, chains: Sequence[Sequence[Run]]) -> None:
        """Trains chains of equal length, as many at once as fit."""
        alike: dict[tuple[Any, ...], list[Sequence[Run]]] = {}
        for chain in chains:  # only tasks of as many images are trained at once
            sizes = tuple(self.tasks[run.pair].size for run in chain)
            alike.setdefault((self._training(chain[0].variant), sizes), []).append(chain)
        self._make_initializers(dict.fromkeys(chain[0].variant for chain in chains))
        progress = self._progress or Progress(
            sum(
                self._pixels(run) * self._training(run.variant).epochs
                for chain in chains
                for run in chain
            )
        )
        for (settings, _), waiting in alike.items():
            trainer = Trainer(self.dataset, settings, self._classes)
            asked, task = self.evaluation.runs_at_once, self.tasks[waiting[0][0].pair]
            groups, places = groups_of_runs(waiting, asked, trainer, task)
            for group in groups:
                variables = [self._start(trainer, chain[0]) for chain in group]
                for runs in zip(*group, strict=True):
                    variables = self._train(trainer, runs, variables, places, progress)

    def _make_initializers(self, variants: Iterable[str]) -> None:
        """Makes what starts the networks of some variants, and compiles it."""
        size = self.dataset.train_images.shape[1:]
        lowered = []
        for variant in variants:
            network = networks.make_network(self._classes, self._training(variant))
            known = networks.trace(network, size)
            start = functools.partial(
                initializers.run, self.variants[variant].make(), network=known
            )
            self._initializers[variant] = programs.jit_once(start)
            key, variables = networks.shapes(network, size)
            lowered.append(self._initializers[variant].lower(key, variables["params"]))
        programs.compile_all(lowered)

    def _training(self, variant: str) -> Training:
        return self.variants[variant].training or self.settings

    def _find(self, run: Run) -> RunRecord | None:
        if self.evaluation.overwrite:
            return None
        return store.find(
            self.folder,
            self.experiment,
            run.variant,
            task_name(run.pair),
            run.seed,
            self._run_settings(run.variant),
        )

    def _take_over(self, runs: Sequence[Run]) -> dict[Run, RunRecord | None]:
        """Copies the runs that an experiment whose folder is beside this one's has trained."""
        theirs = store.neighbours(self.folder)
        taken: dict[Run, RunRecord | None] = {}
        for run in runs:
            record = theirs.get(self._identity(run))
            if record is not None:
                taken[run] = dataclasses.replace(
                    record, experiment=self.experiment, variant=run.variant
                )
        store.write_all([record for record in taken.values() if record], self.folder)
        return taken

    def _run_settings(self, variant: str) -> dict[str, Any]:
        settings: dict[str, Any] = {
            **sets.describe_data(self.dataset),
            **self._training(variant).described(),
            "protocol": self.evaluation.protocol,
            "initializer": self.variants[variant].settings,
        }
        if self.evaluation.protocol == "sequential":
            settings["pairs"] = [list(pair) for pair in self.evaluation.pairs]
        return settings

    def _start(self, trainer: Trainer, run: Run) -> Any:
        keys = run_keys(run.seed, run.pair)
        variables = trainer.init_variables(keys.network)
        params = self._initializers[run.variant](keys.initializer, variables["params"])
        return {**variables, "params": params}

    def _train(
        self,
        trainer: Trainer,
        runs: Sequence[Run],
        variables: Sequence[Any],
        places: int,
        progress: Progress,
    ) -> list[Any]:
        tasks = [self.tasks[run.pair] for run in runs]
        keep = self.evaluation.protocol == "sequential"
        kept = self._unfinished(runs[0])
        curves, finals, seconds = train_runs(
            trainer, runs, tasks, variables, progress, places, keep=keep, kept=kept
        )
        records = [
            make_record(self.experiment, run, curve, self._run_settings(run.variant), seconds)
            for run, curve in zip(runs, curves, strict=True)
        ]
        store.write_all(records, self.folder)
        unfinished.discard(kept)
        self._records.update(zip(runs, records, strict=True))
        return finals

    def _unfinished(self, run: Run) -> Path:
        """Where the state of a run is while it trains, if it is streamed."""
        name = hashlib.sha256(self._identity(run).encode()).hexdigest()[:16]
        return self.folder / "unfinished" / name


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

    A streamed run is kept in the folder `kept`, if any, while it trains.
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
) -> RunRecord:
    """Makes the record of a run that has just been trained."""
    return RunRecord(
        experiment=experiment,
        variant=run.variant,
        task=task_name(run.pair),
        seed=run.seed,
        settings=settings,
        curves=curves.values,
        stopped=curves.stopped,
        environment=run_record.environment(),
        wall_seconds=seconds,
    )
