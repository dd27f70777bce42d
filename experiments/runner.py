"""Carries out a plan: finds what is recorded already, trains the rest, records each run at once."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import config, data, protocol, tracking, training
from experiments.config import Pair, check
from experiments.progress import Progress, say
from jaxinit.types import ParamsInitializer


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of starting a network.

    Attributes:
        name: Short, for files: "euclidean-k3".
        label: For figures and tables: "Euclidean, 3 clusters".
        initializer: Applied to the network's default start.
        settings: What identifies it, recorded with each run.
    """

    name: str
    label: str
    initializer: ParamsInitializer
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """On which tasks the initialisations are compared, and how."""

    pairs: tuple[Pair, ...] = config.option(
        protocol.VALIDATION_PAIRS, "pairs of superclasses to compare on"
    )
    seeds: int = config.option(5, "runs of each variant on each pair")
    protocol: str = config.option(
        "fresh",
        "fresh: every run starts from its initialiser; sequential: one network is trained on the "
        "pairs one after the other, as in the authors' program",
        choices=("fresh", "sequential"),
    )
    runs_at_once: int | None = config.option(
        None, "runs trained at once on the device (1 on a CPU, 10 elsewhere, where not given)"
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


def load_data(settings: config.Data) -> data.Dataset:
    """Loads the images that the settings name."""
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


def at_once(asked: int | None) -> int:
    """How many runs to train at once: as asked, or what suits the device."""
    if asked is not None:
        return asked
    return 1 if jax.default_backend() == "cpu" else 10


class Runner:
    """Trains and records the runs of one experiment.

    Args:
        experiment: Its name.
        variants: Ways of starting, in the order of figures and tables.
        dataset: Images; every pair must be of its superclasses.
        settings: Of the training.
        evaluation: Tasks, seeds, protocol, output folder.
    """

    def __init__(
        self,
        experiment: str,
        variants: Sequence[Variant],
        dataset: data.Dataset,
        settings: config.Training,
        evaluation: Evaluation,
    ) -> None:
        self.experiment = experiment
        self.variants = {variant.name: variant for variant in variants}
        self.dataset = dataset
        self.evaluation = evaluation
        self.settings = settings
        self.folder = Path(evaluation.output)
        self.tasks = {pair: data.pair_task(dataset, pair) for pair in evaluation.pairs}
        classes = {task.classes for task in self.tasks.values()}
        check(len(classes) == 1, "the pairs differ in their number of classes: choose others")
        self.trainer = training.Trainer(dataset, settings, classes.pop())
        self._records: dict[protocol.Run, tracking.RunRecord] = {}
        self._initializers = {variant.name: jax.jit(variant.initializer) for variant in variants}

    def run(self) -> list[tracking.RunRecord]:
        """Trains what is not recorded yet; returns all records, in the order of the plan."""
        evaluation = self.evaluation
        tracking.check_writable(self.folder)
        runs = protocol.plan(tuple(self.variants), evaluation.pairs, evaluation.seeds)
        # What is recorded is read first: a conflict must not cost hours of training.
        found = {run: self._find(run) for run in runs}
        self._records = {run: record for run, record in found.items() if record is not None}
        if evaluation.protocol == "fresh":
            groups = [[run] for run in runs if found[run] is None]
        else:
            chains = [
                [protocol.Run(variant, pair, seed) for pair in evaluation.pairs]
                for seed in range(evaluation.seeds)
                for variant in self.variants
            ]
            groups = [chain for chain in chains if any(found[run] is None for run in chain)]
        waiting = sum(len(group) for group in groups)
        say(f"{self.experiment}: {len(runs) - waiting} runs recorded already, {waiting} to train")
        progress = Progress(waiting * self.settings.epochs)
        size = at_once(evaluation.runs_at_once)
        for first in range(0, len(groups), size):
            self._train_chains(groups[first : first + size], progress)
        return [self._records[run] for run in runs]

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

    def _run_settings(self, variant: str) -> dict[str, Any]:
        settings: dict[str, Any] = {
            **describe_data(self.dataset),
            "network": "resnet18",
            "training": dataclasses.asdict(self.settings),
            "protocol": self.evaluation.protocol,
            "initializer": self.variants[variant].settings,
        }
        if self.evaluation.protocol == "sequential":
            settings["pairs"] = [list(pair) for pair in self.evaluation.pairs]
        return settings

    def _train_chains(self, chains: Sequence[Sequence[protocol.Run]], progress: Progress) -> None:
        """Trains chains of equal length side by side; a fresh run is a chain of one."""
        variables = [self._start(chain[0]) for chain in chains]
        for runs in zip(*chains, strict=True):
            variables = self._train(runs, variables, progress)

    def _start(self, run: protocol.Run) -> Any:
        keys = protocol.run_keys(run.seed, run.pair)
        variables = self.trainer.init_variables(keys.network)
        params = self._initializers[run.variant](keys.initializer, variables["params"])
        return {**variables, "params": params}

    def _train(
        self, runs: Sequence[protocol.Run], variables: Sequence[Any], progress: Progress
    ) -> list[Any]:
        tasks = [self.tasks[run.pair] for run in runs]
        curves, finals, seconds = train_runs(self.trainer, runs, tasks, variables, progress)
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
) -> tuple[list[training.Curves], list[Any], float]:
    """Trains runs side by side; returns curves, trained variables and seconds a run."""
    label = ", ".join(f"{r.variant} {task_name(r.pair)} seed {r.seed}" for r in runs[:2])
    label += f" and {len(runs) - 2} more" if len(runs) > 2 else ""
    epochs = trainer.settings.epochs
    start = time.monotonic()
    curves, finals = trainer.train(
        tasks,
        variables,
        [protocol.run_keys(run.seed, run.pair).training for run in runs],
        lambda epoch, accuracies: progress.epoch(label, epoch, epochs, accuracies),
    )
    for run, curve in zip(runs, curves, strict=True):
        if curve.stopped:
            say(f"{run.variant} {task_name(run.pair)} seed {run.seed} stopped: {curve.stopped}")
    return curves, finals, (time.monotonic() - start) / len(runs)


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


def task_name(pair: Pair) -> str:
    """Names the task of a pair of superclasses: "pair-10-14"."""
    return f"pair-{pair[0]}-{pair[1]}"


def setup_compilation_cache() -> None:
    """Keeps compiled programs between starts, where the user has not said otherwise."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path.home() / ".cache" / "jaxinit" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
