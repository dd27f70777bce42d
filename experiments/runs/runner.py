"""Carries out a plan: finds what is recorded already, trains the rest, records each run at once."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.errors import UserError
from experiments.cli.options import check
from experiments.cli.progress import Progress, say
from experiments.data import sets
from experiments.data.sets import Dataset
from experiments.data.tasks import Task, sample, task_name, task_of
from experiments.records import run_record, store, surroundings
from experiments.records.run_record import RunRecord
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import Run, plan, run_keys
from experiments.runs.variants import Variant, sources_named
from experiments.training import networks, programs, unfinished
from experiments.training.epoch import DeviceData
from experiments.training.hyperparameters import Training
from experiments.training.run_log import Curves
from experiments.training.trainer import Trainer
from experiments.training.unfinished import Unfinished
from jaxinit import initializers
from jaxinit.layers import Network
from jaxinit.signatures import Params, PRNGKey


class Chain(NamedTuple):
    """Runs that one network goes through, one after the other; a fresh run is one of its own."""

    runs: tuple[Run, ...]
    done: int = 0  # how many of them it has gone through already


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


class Runner:
    """Trains and records the runs of one experiment.

    Args:
        experiment: Its name.
        variants: Ways of starting, in the order of figures and tables.
        dataset: Images; every pair must be of its superclasses.
        settings: Of the training.
        evaluation: Tasks, seeds, protocol, output folder.
        progress: Of all that is to be done; of this experiment alone where not given.
        models: Returns the checksums of the source models that are there, by their names.
    """

    def __init__(
        self,
        experiment: str,
        variants: Sequence[Variant],
        dataset: Dataset,
        settings: Training,
        evaluation: Evaluation,
        progress: Progress | None = None,
        models: Callable[[], Mapping[str, str]] | None = None,
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
        self._models = models
        surroundings.source()  # of the modules as they are now, while others may change them

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
        waiting = sum(len(chain.runs) - chain.done for chain in chains)
        self._check_alike(is_waiting=bool(chains))
        say(f"{self.experiment}: {len(runs) - waiting} runs recorded already, {waiting} to train")
        if chains:
            self._train_all(chains)
        return [self._records[run] for run in runs]

    def work(self) -> dict[str, float]:
        """What is still to be trained here, recorded neither here nor where it is taken over from.

        Returns:
            For the identity of each such run, how many pixels it trains on.
        """
        evaluation = self.evaluation
        runs = plan(tuple(self.variants), evaluation.tasks(), evaluation.seeds)
        found = {run: self._find(run) for run in runs}
        theirs = {} if evaluation.overwrite else self._of_others()
        waiting = {
            self._identity(run): self._pixels(run) * self._training(run.variant).epochs
            for chain in self._missing(found)
            for run in chain.runs[chain.done :]
        }
        return {name: pixels for name, pixels in waiting.items() if name not in theirs}

    def _of_others(self) -> dict[str, RunRecord]:
        return store.by_identity(self.folder, beside=self.evaluation.take_over)

    def _chains(self) -> list[Chain]:
        """Lists all that is planned."""
        evaluation = self.evaluation
        if evaluation.protocol == "fresh":
            runs = plan(tuple(self.variants), evaluation.tasks(), evaluation.seeds)
            return [Chain((run,)) for run in runs]
        return [
            Chain(tuple(Run(variant, pair, seed) for pair in evaluation.tasks()))
            for seed in range(evaluation.seeds)
            for variant in self.variants
        ]

    def _missing(self, found: Mapping[Run, RunRecord | None]) -> list[Chain]:
        """Lists what is not recorded whole, and how far each chain's network was kept."""
        missing = []
        for chain in self._chains():
            recorded = [found[run] is not None for run in chain.runs]
            if not all(recorded):
                done = 0 if self.evaluation.overwrite else self._state(chain).number()
                missing.append(chain._replace(done=done if all(recorded[:done]) else 0))
        return missing

    def _state(self, chain: Chain) -> Unfinished:
        """Where a chain's network is kept between its runs."""
        if len(chain.runs) == 1:
            return Unfinished(None)
        file = self._unfinished(chain.runs[0])
        return Unfinished(file.with_stem(f"{file.stem}-chain"))

    def _sources(self, variant: str) -> str | None:
        """Identifies the source models that a variant is made of; None where they are not there."""
        known = self._models() if self._models else {}
        names = sorted(sources_named(self.variants[variant].settings))
        if not names or not known.keys() >= set(names):
            return None
        text = "".join(f"{name} {known[name]}\n" for name in names)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _made(self, variant: str) -> dict[str, str]:
        found = self._sources(variant)
        return {} if found is None else {"sources": found}

    def _check_alike(self, *, is_waiting: bool) -> None:
        """Makes sure that what is recorded and what is to be trained are of the same making.

        Raises:
            UserError: They are not. What was recorded before this was said counts as the same.
        """
        source = surroundings.source() if is_waiting else None
        for run, record in self._records.items():
            source = source or record.environment.get("source")
            if difference := self._difference(run, record, source):
                raise UserError(f"{self.folder}/runs/{store.name_of(record)} {difference}")

    def _difference(self, run: Run, record: RunRecord, source: str | None) -> str | None:
        """Says in what a run was made otherwise than others, and what to do; None if in nothing.

        Args:
            run: Any.
            record: Its own.
            source: Of the program that made the others, or would now; None if that is unknown.
        """
        made, remedy = record.environment, "use another --output, or --overwrite"
        models = self._sources(run.variant)
        if None not in (models, made.get("sources")) and models != made["sources"]:
            return f"started from other source models than are there now: {remedy}"
        if source == made.get("source", source) or self.evaluation.any_revision:
            return None
        return (
            f"was recorded by revision {made.get('revision')} of this program (source "
            f"{made['source']}), and not by that of source {source}: go back to it, {remedy}, or "
            "say --any-revision to mix them"
        )

    def _identity(self, run: Run) -> str:
        return store.identity(self._run_settings(run.variant), task_name(run.pair), run.seed)

    def _pixels(self, run: Run) -> float:
        """Of all training images of a run's task: what an epoch's time goes with."""
        return pixels(self.dataset, self.tasks[run.pair])

    def _kind(self, chain: Chain) -> tuple[Any, ...]:
        """What is alike in chains that can be trained at once: settings, numbers of images."""
        sizes = tuple(self.tasks[run.pair].size for run in chain.runs)
        return self._training(chain.runs[0].variant), sizes

    def _train_all(self, chains: Sequence[Chain]) -> None:
        """Trains chains of equal length, as many at once as fit."""
        alike: dict[tuple[Any, ...], list[Chain]] = {}
        for chain in chains:
            alike.setdefault((*self._kind(chain), chain.done), []).append(chain)
        beginning = [chain.runs[0].variant for chain in chains if not chain.done]
        self._make_initializers(dict.fromkeys(beginning))
        self._check_alike(is_waiting=True)  # of models that were trained just now, too
        progress = self._progress or Progress(
            sum(
                self._pixels(run) * self._training(run.variant).epochs
                for chain in chains
                for run in chain.runs[chain.done :]
            )
        )
        planned = [self._kind(chain) for chain in self._chains()]
        for (settings, sizes, done), waiting in alike.items():
            trainer = Trainer(self.dataset, settings, self._classes)
            asked, task = self.evaluation.runs_at_once, self.tasks[waiting[0].runs[0].pair]
            count = planned.count((settings, sizes))
            groups, places = groups_of_runs(waiting, count, asked, trainer, task)
            for group in groups:
                self._train_group(trainer, group, done, places, progress)

    def _train_group(
        self,
        trainer: Trainer,
        group: Sequence[Chain],
        done: int,
        places: int,
        progress: Progress,
    ) -> None:
        """Trains chains side by side from where all of them were kept; keeps them in between."""
        if done:
            variables = [self._kept(trainer, chain) for chain in group]
        else:
            variables = [self._start(trainer, chain.runs[0]) for chain in group]
        steps = list(zip(*(chain.runs for chain in group), strict=True))
        for number, runs in enumerate(steps[done:], done + 1):
            variables = self._train(trainer, runs, variables, places, progress)
            for chain, own in zip(group, variables, strict=False):
                if number < len(steps):
                    self._state(chain).save(number, own, {})
                else:
                    self._state(chain).discard()

    def _kept(self, trainer: Trainer, chain: Chain) -> Any:
        found = self._state(chain).load(dict(trainer.shapes()))
        assert found is not None
        return found[1]

    def _make_initializers(self, variants: Iterable[str]) -> None:
        """Makes what starts the networks of some variants, and compiles it."""
        size = self.dataset.train_images.shape[1:]
        lowered = []
        for variant in variants:
            network = networks.make_network(self._classes, self._training(variant))
            known = networks.trace(network, size)
            start = functools.partial(_start, self.variants[variant].make(), known)
            self._initializers[variant] = programs.jit_once(start)
            key, variables = networks.shapes(network, size)
            images = self._images(variant, self.evaluation.tasks()[0])
            lowered.append(self._initializers[variant].lower(key, variables["params"], images))
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
        """Copies what was recorded under another name, or in a folder beside if that is asked."""
        theirs = self._of_others()
        taken: dict[Run, RunRecord | None] = {}
        for run in runs:
            record = theirs.get(self._identity(run))
            if record is not None and self._difference(run, record, surroundings.source()) is None:
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
        images = self._images(run.variant, run.pair)
        params = self._initializers[run.variant](keys.initializer, variables["params"], images)
        return {**variables, "params": params}

    def _images(self, variant: str, pair: tuple[int, int] | None) -> Any:
        """What a start is made of besides a key: as many images of each task; None where none."""
        wanted, normalize = self.variants[variant].of_images, self._training(variant).normalize
        count = min(wanted, *(task.size[0] for task in self.tasks.values()))
        return (
            sample(self.dataset, self.tasks[pair], count, normalize=normalize) if wanted else None
        )

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
        filled = trainer.filled(len(runs), places)
        records = [
            make_record(
                self.experiment,
                run,
                curve,
                self._run_settings(run.variant),
                seconds,
                {"places": filled, **self._made(run.variant)},
            )
            for run, curve in zip(runs, curves, strict=True)
        ]
        store.write_all(records, self.folder)
        unfinished.discard(kept)
        self._records.update(zip(runs, records, strict=True))
        return finals

    def _unfinished(self, run: Run) -> Path:
        """Where the state of a run is while it trains, if it is streamed."""
        name = hashlib.sha256(self._identity(run).encode()).hexdigest()[:16]
        return self.folder / "unfinished" / f"{name}.npz"


def _start(made: Any, network: Network, key: PRNGKey, params: Params, images: Any) -> Params:
    """Applies what a variant makes, once it has its images."""
    init = made if images is None else made(images)
    return initializers.run(init, key, params, network=network)


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
