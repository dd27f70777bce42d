"""Carries out a plan: finds what is recorded already, trains the rest, records each run at once."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.cli import processes
from experiments.cli.options import check
from experiments.cli.progress import Progress, say
from experiments.data.sets import Dataset
from experiments.data.tasks import Task, sample, task_of
from experiments.records import store, surroundings
from experiments.records.run_record import RunRecord
from experiments.runs import side_by_side
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import Run, plan, run_keys
from experiments.runs.recorded import Recorded
from experiments.runs.variants import Variant
from experiments.training import networks, programs, unfinished
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer
from experiments.training.unfinished import Unfinished
from jaxinit import compilation, initializers
from jaxinit.layers import Network
from jaxinit.signatures import Params, PRNGKey


class Chain(NamedTuple):
    """Runs that one network goes through, one after the other; a fresh run is one of its own."""

    runs: tuple[Run, ...]
    done: int = 0  # how many of them it has gone through already


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
        self._recorded = Recorded(experiment, self.variants, dataset, settings, evaluation, models)
        surroundings.source()  # of the modules as they are now, while others may change them

    def run(self) -> list[RunRecord]:
        """Trains what is not recorded yet; returns all records, in the order of the plan."""
        store.check_writable(self.folder)
        # What is recorded is read first: a conflict must not cost hours of training.
        found, taken = self._recorded.find_all(self._plan())
        store.write_all(taken, self.folder)
        recorded = self._agreed(found)
        for run in (run for run, is_there in recorded.items() if is_there):
            if record := found[run] or self._recorded.find(run):
                self._records[run] = record
        chains = self._missing(recorded)
        waiting = sum(len(chain.runs) - chain.done for chain in chains)
        self._recorded.check_alike(self._records, is_waiting=bool(chains))
        say(f"{self.experiment}: {len(found) - waiting} runs recorded already, {waiting} to train")
        if chains:
            self._train_all(chains)
        return [self._records[run] for run in found]

    def work(self) -> dict[str, float]:
        """What is still to be trained here, recorded neither here nor where it is taken over from.

        Returns:
            For the identity of each such run, how many pixels it trains on.
        """
        found, _ = self._recorded.find_all(self._plan())
        return {
            self._recorded.identity(run): self._pixels(run) * self._training(run.variant).epochs
            for chain in self._missing(self._agreed(found))
            for run in chain.runs[chain.done :]
        }

    def _plan(self) -> tuple[Run, ...]:
        return plan(tuple(self.variants), self.evaluation.tasks(), self.evaluation.seeds)

    def _agreed(self, found: Mapping[Run, RunRecord | None]) -> dict[Run, bool]:
        """Which runs the first process has found; another command may be recording some."""
        there = processes.agreed([record is not None for record in found.values()])
        return {run: bool(is_there) for run, is_there in zip(found, there, strict=True)}

    def _chains(self) -> list[Chain]:
        """Lists all that is planned."""
        evaluation = self.evaluation
        if evaluation.protocol == "fresh":
            return [Chain((run,)) for run in self._plan()]
        return [
            Chain(tuple(Run(variant, pair, seed) for pair in evaluation.tasks()))
            for seed in range(evaluation.seeds)
            for variant in self.variants
        ]

    def _missing(self, recorded: Mapping[Run, bool]) -> list[Chain]:
        """Lists what is not recorded whole, and how far each chain's network was kept."""
        missing = [c for c in self._chains() if not all(recorded[run] for run in c.runs)]
        kept = [0 if self.evaluation.overwrite else self._state(c).number() for c in missing]
        return [
            chain._replace(done=done if all(recorded[run] for run in chain.runs[:done]) else 0)
            for chain, done in zip(missing, map(int, processes.agreed(kept)), strict=True)
        ]

    def _state(self, chain: Chain) -> Unfinished:
        """Where a chain's network is kept between its runs."""
        if len(chain.runs) == 1:
            return Unfinished(None)
        file = self._unfinished(chain.runs[0])
        return Unfinished(file.with_stem(f"{file.stem}-chain"))

    def _pixels(self, run: Run) -> float:
        """Of all training images of a run's task: what an epoch's time goes with."""
        return side_by_side.pixels(self.dataset, self.tasks[run.pair])

    def _kind(self, chain: Chain) -> tuple[Any, ...]:
        """What is alike in chains that can be trained at once: settings, numbers of images."""
        sizes = tuple(self.tasks[run.pair].size for run in chain.runs)
        return self._training(chain.runs[0].variant), sizes

    def _train_all(self, chains: Sequence[Chain]) -> None:
        """Trains chains of equal length, as many at once as fit."""
        alike: dict[tuple[Any, ...], list[Chain]] = {}
        for chain in chains:
            alike.setdefault((*self._kind(chain), chain.done), []).append(chain)
        self._make_initializers([chain.runs[0] for chain in chains if not chain.done])
        # Of models that were trained just now, too.
        self._recorded.check_alike(self._records, is_waiting=True)
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
            groups, places = side_by_side.groups_of_runs(waiting, count, asked, trainer, task)
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

    def _make_initializers(self, beginning: Sequence[Run]) -> None:
        """Makes what starts the networks of some runs, and compiles it."""
        size = self.dataset.train_images.shape[1:]
        counts: dict[str, set[int]] = {}
        for run in beginning:
            own = counts.setdefault(run.variant, set())
            own.add(self._count(run.variant, self.tasks[run.pair]))
        lowered = []
        for variant, of_images in counts.items():
            network = networks.make_network(self._classes, self._training(variant))
            known = networks.trace(network, size)
            start = functools.partial(_started, self.variants[variant].make(), known)
            self._initializers[variant] = programs.jit_once(start)
            key, variables = networks.shapes(network, size)
            for count in of_images:
                images = jax.ShapeDtypeStruct((count, *size), jnp.float32) if count else None
                lowered.append(self._initializers[variant].lower(key, variables["params"], images))
        compilation.compile_all(lowered)

    def _training(self, variant: str) -> Training:
        return self._recorded.training(variant)

    def _start(self, trainer: Trainer, run: Run) -> Any:
        keys = run_keys(run.seed, run.pair)
        variables = trainer.init_variables(keys.network)
        images = self._images(run.variant, run.pair)
        params = self._initializers[run.variant](keys.initializer, variables["params"], images)
        return {**variables, "params": params}

    def _images(self, variant: str, pair: tuple[int, int] | None) -> Any:
        """What a start is made of besides a key: images of its task; None where it needs none."""
        task = self.tasks[pair]
        count, normalize = self._count(variant, task), self._training(variant).normalize
        return sample(self.dataset, task, count, normalize=normalize) if count else None

    def _count(self, variant: str, task: Task) -> int:
        """How many images of a task a start is made of; other tasks have no part in it."""
        return min(self.variants[variant].of_images, task.size[0])

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
        # First: what cannot be found out must not cost what has been trained.
        made = [self._recorded.made(run.variant) for run in runs]
        curves, finals, seconds = side_by_side.train_runs(
            trainer, runs, tasks, variables, progress, places, keep=keep, kept=kept
        )
        filled = trainer.filled(len(runs), places)
        records = [
            side_by_side.make_record(
                self.experiment,
                run,
                curve,
                self._recorded.settings_of(run.variant),
                seconds,
                {"places": filled, **of},
            )
            for run, curve, of in zip(runs, curves, made, strict=True)
        ]
        store.write_all(records, self.folder)
        unfinished.discard(kept)
        self._records.update(zip(runs, records, strict=True))
        return finals

    def _unfinished(self, run: Run) -> Path:
        """Where the state of a run is while it trains, if it is streamed."""
        name = hashlib.sha256(self._recorded.identity(run).encode()).hexdigest()[:16]
        return self.folder / "unfinished" / f"{name}.npz"


def _started(made: Any, network: Network, key: PRNGKey, params: Params, images: Any) -> Params:
    """Applies what a variant makes, once it has its images."""
    init = made if images is None else made(images)
    return initializers.run(init, key, params, network=network)
