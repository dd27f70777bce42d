"""Carries out a plan: finds what is recorded already, trains the rest, records each run at once."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import config, data, processes, protocol, tracking, training
from experiments.config import Pair, check
from experiments.progress import Progress, say
from jaxinit import initializers
from jaxinit.types import ParamsInitializer


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of starting a network.

    Attributes:
        name: Short, for files: "euclidean-k3".
        label: For figures and tables: "Euclidean, 3 clusters".
        make: Returns what is applied to the network's default start. Only called where runs are
            missing, so that nothing is loaded or fitted for what is recorded already.
        settings: What identifies it, recorded with each run.
        training: Where it is trained otherwise than the others.
    """

    name: str
    label: str
    make: Callable[[], ParamsInitializer]
    settings: dict[str, Any]
    training: config.Training | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """On which tasks the initialisations are compared, and how."""

    pairs: tuple[Pair, ...] = config.option(
        protocol.VALIDATION_PAIRS, "pairs of superclasses to compare on"
    )
    whole: bool = config.option(False, "one task of all classes instead of the pairs")
    seeds: int = config.option(5, "runs of each variant on each pair")
    protocol: str = config.option(
        "fresh",
        "fresh: every run starts from its initialiser; sequential: one network is trained on the "
        "pairs one after the other, as in the authors' program",
        choices=("fresh", "sequential"),
    )
    runs_at_once: int | None = config.option(
        None, "runs trained at once (1 a device on CPUs, else what memory holds, where not given)"
    )
    output: str = config.option("output/clusters", "folder of the results")
    overwrite: bool = config.option(False, "train again what is recorded already")

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"--seeds {self.seeds} is too small: say 1 or more")
        check(
            self.runs_at_once is None or self.runs_at_once >= 1,
            f"--runs-at-once {self.runs_at_once} is too small: say 1 or more",
        )
        check(len(set(self.pairs)) == len(self.pairs), "--pairs names a pair twice: name each once")

    def tasks(self) -> tuple[Pair | None, ...]:
        """The pairs, or None for all classes."""
        return (None,) if self.whole else self.pairs


@functools.lru_cache(maxsize=2)
def load_data(settings: config.Data) -> data.Dataset:
    """Loads the images that the settings name, and keeps them for the next experiment."""
    return data.load(
        settings.dataset,
        data_dir=settings.data_dir,
        train_images_per_class=settings.train_images_per_class,
        test_images_per_class=settings.test_images_per_class,
    )


def describe_data(dataset: data.Dataset) -> dict[str, Any]:
    """What identifies the data, recorded with each run."""
    return {
        "data_set": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "train_images": len(dataset.train_labels),
        "test_images": len(dataset.test_labels),
    }


def check_pairs(pairs: Sequence[Pair], dataset: data.Dataset) -> None:
    """Raises a `UserError` where the data set lacks a superclass."""
    count = data.superclass_count(dataset)
    for pair in pairs:
        check(
            min(pair) >= 0 and max(pair) < count,
            f"pair {pair[0]}-{pair[1]} is out of range: {dataset.title} has superclasses 0 to "
            f"{count - 1}",
        )


def groups_of_runs(
    waiting: Sequence[Any], asked: int | None, trainer: training.Trainer, task: data.Task
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
        dataset: data.Dataset,
        settings: config.Training,
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
        self.tasks = {pair: data.task(dataset, pair) for pair in evaluation.tasks()}
        classes = {task.classes for task in self.tasks.values()}
        check(len(classes) == 1, "the pairs differ in their number of classes: choose others")
        self._classes = classes.pop()
        self._records: dict[protocol.Run, tracking.RunRecord] = {}
        self._initializers: dict[str, Any] = {}
        self._progress = progress

    def run(self) -> list[tracking.RunRecord]:
        """Trains what is not recorded yet; returns all records, in the order of the plan."""
        evaluation = self.evaluation
        tracking.check_writable(self.folder)
        runs = protocol.plan(tuple(self.variants), evaluation.tasks(), evaluation.seeds)
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
        runs = protocol.plan(tuple(self.variants), evaluation.tasks(), evaluation.seeds)
        found = {run: self._find(run) for run in runs}
        theirs = {} if evaluation.overwrite else tracking.neighbours(self.folder)
        waiting = {
            self._identity(run): self._pixels(run) * self._training(run.variant).epochs
            for chain in self._missing(found)
            for run in chain
        }
        return {name: pixels for name, pixels in waiting.items() if name not in theirs}

    def _missing(
        self, found: Mapping[protocol.Run, tracking.RunRecord | None]
    ) -> list[list[protocol.Run]]:
        """Lists chains of runs, one after the other of a network; a fresh run is one of its own."""
        if self.evaluation.protocol == "fresh":
            return [[run] for run, record in found.items() if record is None]
        chains = [
            [protocol.Run(variant, pair, seed) for pair in self.evaluation.tasks()]
            for seed in range(self.evaluation.seeds)
            for variant in self.variants
        ]
        return [chain for chain in chains if any(found[run] is None for run in chain)]

    def _identity(self, run: protocol.Run) -> str:
        return tracking.identity(self._run_settings(run.variant), task_name(run.pair), run.seed)

    def _pixels(self, run: protocol.Run) -> float:
        """Of all training images of a run's task: what an epoch's time goes with."""
        return pixels(self.dataset, self.tasks[run.pair])

    def _train_all(self, chains: Sequence[Sequence[protocol.Run]]) -> None:
        """Trains chains of equal length, as many at once as fit."""
        by_settings: dict[config.Training, list[Sequence[protocol.Run]]] = {}
        for chain in chains:
            by_settings.setdefault(self._training(chain[0].variant), []).append(chain)
        for variant in dict.fromkeys(chain[0].variant for chain in chains):
            network = training.make_network(self._classes, self._training(variant))
            known = training.trace(network, self.dataset.train_images.shape[1:])
            start = functools.partial(
                initializers.run, self.variants[variant].make(), network=known
            )
            self._initializers[variant] = training.jit_once(start)
        progress = self._progress or Progress(
            sum(
                self._pixels(run) * self._training(run.variant).epochs
                for chain in chains
                for run in chain
            )
        )
        task = next(iter(self.tasks.values()))
        for settings, waiting in by_settings.items():
            trainer = training.Trainer(self.dataset, settings, self._classes)
            asked = self.evaluation.runs_at_once
            groups, places = groups_of_runs(waiting, asked, trainer, task)
            for group in groups:
                variables = [self._start(trainer, chain[0]) for chain in group]
                for runs in zip(*group, strict=True):
                    variables = self._train(trainer, runs, variables, places, progress)

    def _training(self, variant: str) -> config.Training:
        return self.variants[variant].training or self.settings

    def _find(self, run: protocol.Run) -> tracking.RunRecord | None:
        if self.evaluation.overwrite:
            return None
        return tracking.find(
            self.folder,
            self.experiment,
            run.variant,
            task_name(run.pair),
            run.seed,
            self._run_settings(run.variant),
        )

    def _take_over(
        self, runs: Sequence[protocol.Run]
    ) -> dict[protocol.Run, tracking.RunRecord | None]:
        """Copies the runs that an experiment whose folder is beside this one's has trained."""
        theirs = tracking.neighbours(self.folder)
        taken: dict[protocol.Run, tracking.RunRecord | None] = {}
        for run in runs:
            record = theirs.get(self._identity(run))
            if record is not None:
                taken[run] = dataclasses.replace(
                    record, experiment=self.experiment, variant=run.variant
                )
        tracking.write_all([record for record in taken.values() if record], self.folder)
        return taken

    def _run_settings(self, variant: str) -> dict[str, Any]:
        settings: dict[str, Any] = {
            **describe_data(self.dataset),
            **self._training(variant).described(),
            "protocol": self.evaluation.protocol,
            "initializer": self.variants[variant].settings,
        }
        if self.evaluation.protocol == "sequential":
            settings["pairs"] = [list(pair) for pair in self.evaluation.pairs]
        return settings

    def _start(self, trainer: training.Trainer, run: protocol.Run) -> Any:
        keys = protocol.run_keys(run.seed, run.pair)
        variables = trainer.init_variables(keys.network)
        params = self._initializers[run.variant](keys.initializer, variables["params"])
        return {**variables, "params": params}

    def _train(
        self,
        trainer: training.Trainer,
        runs: Sequence[protocol.Run],
        variables: Sequence[Any],
        places: int,
        progress: Progress,
    ) -> list[Any]:
        tasks = [self.tasks[run.pair] for run in runs]
        keep = self.evaluation.protocol == "sequential"
        curves, finals, seconds = train_runs(
            trainer, runs, tasks, variables, progress, places, keep=keep
        )
        records = [
            make_record(self.experiment, run, curve, self._run_settings(run.variant), seconds)
            for run, curve in zip(runs, curves, strict=True)
        ]
        tracking.write_all(records, self.folder)
        self._records.update(zip(runs, records, strict=True))
        return finals


def train_runs(
    trainer: training.Trainer,
    runs: Sequence[protocol.Run],
    tasks: Sequence[data.Task],
    variables: Sequence[Any],
    progress: Progress,
    places: int = 1,
    *,
    keep: bool = True,
) -> tuple[list[training.Curves], list[Any], float]:
    """Trains runs side by side; returns curves, trained variables if kept, and seconds a run."""
    label = ", ".join(f"{r.variant} {task_name(r.pair)} seed {r.seed}" for r in runs[:2])
    label += f" and {len(runs) - 2} more" if len(runs) > 2 else ""
    epochs, work = trainer.settings.epochs, pixels(trainer.images, tasks[0])
    start = time.monotonic()
    curves, finals = trainer.train(
        tasks,
        variables,
        [protocol.run_keys(run.seed, run.pair).training for run in runs],
        lambda epoch, accuracies: progress.epoch(label, epoch, epochs, accuracies, work),
        places=places,
        keep=keep,
    )
    for run, curve in zip(runs, curves, strict=True):
        if curve.stopped:
            say(f"{run.variant} {task_name(run.pair)} seed {run.seed} stopped: {curve.stopped}")
    return curves, finals, (time.monotonic() - start) / len(runs)


def pixels(images: data.Dataset | training.DeviceData, task: data.Task) -> float:
    """The pixels of all training images of a task: what the time of an epoch goes with."""
    _, height, width, _ = images.train_images.shape
    return float(len(task.train_index) * height * width)


def make_record(
    experiment: str,
    run: protocol.Run,
    curves: training.Curves,
    settings: dict[str, Any],
    seconds: float,
) -> tracking.RunRecord:
    """Makes the record of a run that has just been trained."""
    return tracking.RunRecord(
        experiment=experiment,
        variant=run.variant,
        task=task_name(run.pair),
        seed=run.seed,
        settings=settings,
        curves=curves.values,
        stopped=curves.stopped,
        environment=tracking.environment(),
        wall_seconds=seconds,
    )


def task_name(pair: Pair | None) -> str:
    """Names the task of a pair of superclasses: "pair-10-14"; or of all classes: "all"."""
    return "all" if pair is None else f"pair-{pair[0]}-{pair[1]}"


def setup_jax() -> None:
    """Joins other processes, and keeps compiled programs between starts, unless told otherwise."""
    processes.join()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path.home() / ".cache" / "jaxinit" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
