"""The source models: one ResNet-18 for each pair of the clustering half, kept as checkpoints.

All models of one folder share every setting that decides their numbers: the folder's name holds a
hash of these, so settings can never mix.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit
from experiments.cli import interruption, processes
from experiments.cli.errors import UserError
from experiments.cli.options import Count, Epochs, Pair, PathText, Settings, check
from experiments.cli.progress import Progress, say
from experiments.data import kinds, sets, tasks
from experiments.data.sets import Dataset
from experiments.records import locks, store
from experiments.records.run_record import RunRecord
from experiments.runs import last_batches, protocol, side_by_side, source_checkpoints
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import PresetCount, Run
from experiments.training import networks, unfinished
from experiments.training.hyperparameters import Training
from experiments.training.run_log import Curves
from experiments.training.schedules import Schedule
from experiments.training.trainer import Trainer

_MODELS = PresetCount(10)


@dataclasses.dataclass(frozen=True)
class Sources(Settings):
    """The source models whose filters are clustered."""

    # number of source models: the first so many pairs of the first half of the superclasses (45 of
    # CIFAR-100)
    sources: Count = _MODELS
    # epochs of training of a source model
    source_epochs: Epochs = 25
    # learning rate of the source models over the epochs, as --schedule
    source_schedule: Schedule = "published-source"
    # flip and rotate the images of the source models
    source_augment: bool = True
    # data set of the source models (that of the comparison where not given)
    source_dataset: str | None = None
    # folder of the source models' checkpoints
    models_dir: PathText = "output/sources"

    def fitted(self, dataset: Dataset) -> "Sources":
        """The same on a data set: a number that a preset names is at most what it has pairs for.

        Raises:
            UserError: Another number is larger than that.
        """
        half = protocol.sources_half(sets.superclass_count(dataset))
        most = half * (half - 1) // 2
        if self.sources <= most or not most:  # without any, what needs them says so
            return self
        check(
            isinstance(self.sources, PresetCount),
            f"--sources {self.sources} is out of range: say 1 to {most}",
        )
        return dataclasses.replace(self, sources=most)


_SEED = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained source model, which stays in its checkpoint until it is asked for."""

    name: str  # where it came from: "cifar100-1a2b3c4d/pair-0-9"
    checkpoint: Path
    template: Any  # {"params": …, "batch_stats": …} of `jax.ShapeDtypeStruct`
    checksum: str | None = None  # as recorded; None where it was recorded without

    def load(self) -> Any:
        """Reads the whole model: {"params": …, "batch_stats": …}."""
        return self.checked()[0]

    def checked(self) -> tuple[Any, str]:
        """Reads the whole model, and its checksum, which must be that recorded if one was."""
        return source_checkpoints.load_checkpoint(self.checkpoint, self.template, self.checksum)

    def stored_params(self) -> Any:
        """The tree of parameters, each of which is read whenever an array is made of it.

        So that filters of many models can be clustered, a layer of all at a time.
        """
        return jaxinit.open_checkpoint(self.checkpoint)["params"]


class SourceModels:
    """The source models of one data set and one way of training them.

    Args:
        dataset: The first half of its superclasses is that of the source models.
        settings: Of the training, but for the epochs, the schedule and the augmentation.
        sources: How many models, these settings of theirs, where they are kept.
        overwrite: Train again what is there.
        progress: Of all that is to be done; of the source models alone where not given.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: Training,
        sources: Sources,
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self._dataset = dataset
        self._training = dataclasses.replace(
            settings,
            epochs=sources.source_epochs,
            schedule=sources.source_schedule,
            augment=sources.source_augment,
            freeze_stem=False,
        )
        self._settings = {**sets.describe_data(dataset), **self._training.described()}
        text = json.dumps(self._settings, sort_keys=True).encode()
        self.folder = (
            Path(sources.models_dir) / f"{dataset.name}-{hashlib.sha256(text).hexdigest()[:8]}"
        )
        half = protocol.sources_half(sets.superclass_count(dataset))
        self._pairs = protocol.source_pairs(sources.fitted(dataset).sources, half)
        self._overwrite = overwrite
        self._checksums: dict[str, str | None] = {}

    def names(self) -> tuple[str, ...]:
        """Where each model comes from, without training or loading any.

        Raises:
            UserError: The data set has too few superclasses for any.
        """
        dataset = self._dataset
        check(
            bool(self._pairs),
            f"{dataset.title} has {len(dataset.superclass)} classes in "
            f"{sets.superclass_count(dataset)} {sets.called(dataset)}, too few for source models "
            "of pairs of half of them: give another --source-dataset, or ask a question without "
            "source models",
        )
        return tuple(f"{self.folder.name}/{tasks.task_name(pair)}" for pair in self._pairs)

    def check_apart(self, evaluated: Dataset, evaluation: Evaluation) -> None:
        """Makes sure that nothing is compared on classes that a model is trained on.

        Raises:
            UserError: It is, and that was not asked for.
        """
        own = self._dataset
        same = _classes_of(own) == _classes_of(evaluated)
        if evaluation.shared_classes or not same:
            return
        trained = np.isin(own.superclass, self._pairs)
        wrong = [
            flag
            for flag, pair in (
                ("--whole" if pair is None else f"--pairs {pair[0]}-{pair[1]}", pair)
                for pair in evaluation.tasks()
            )
            if (trained if pair is None else trained & np.isin(own.superclass, pair)).any()
        ]
        count = sets.superclass_count(own)
        half, called = protocol.sources_half(count), sets.called(own)
        check(
            not wrong,
            f"{wrong[0] if wrong else ''} has classes that source models are trained on: give "
            f"pairs of the {called} {half} to {count - 1}, another --source-dataset, or "
            "--shared-classes if this is meant",
        )

    def load(self) -> list[Source]:
        """Returns all models, checked, training those that are missing.

        Raises:
            UserError: A folder that cannot be written to, or a damaged checkpoint.
        """
        self.check_writable()
        interruption.records_in(self.folder)
        missing = self._missing()
        say(
            f"source models: {len(self._pairs) - len(missing)} of {len(self._pairs)} found in "
            f"{self.folder}, {len(missing)} to train"
        )
        if missing:
            own = (tasks.pair_task(self._dataset, pair) for pair in missing)
            last_batches.tell(own, self._training.batch_size)
            self._train(missing)
        template = self._template()
        sources = [
            Source(name, self._checkpoint(pair), template, self._recorded(pair))
            for name, pair in zip(self.names(), self._pairs, strict=True)
        ]
        for source in sources:  # one after the other: all at once might not fit into memory
            self._checksums[source.name] = source.checked()[1]
        return sources

    def check_writable(self) -> None:
        """Makes sure that models and banks can be written, and that there is room for the models.

        Raises:
            UserError: They cannot, or there is not.
        """
        store.check_writable(self.folder, "checkpoints", "banks")
        if missing := self._missing():
            folder = self.folder / "checkpoints"
            source_checkpoints.check_room(folder, self._template(), len(missing))

    def checksums(self) -> dict[str, str]:
        """Of the models that are there, by their names, as recorded or else found when read."""
        for name, pair in zip(self.names(), self._pairs, strict=True):
            if not self._overwrite and name not in self._checksums:
                self._checksums[name] = self._recorded(pair)
        return {name: known for name, known in self._checksums.items() if known is not None}

    def _missing(self) -> list[Pair]:
        found = [not self._overwrite and self._is_done(pair) for pair in self._pairs]
        agreed = processes.agreed(found)
        return [pair for pair, is_done in zip(self._pairs, agreed, strict=True) if not is_done]

    def work(self) -> dict[str, float]:
        """For each model that is still to be trained, how many pixels it trains on."""
        return {
            f"{self.folder}/{tasks.task_name(pair)}": self._work([pair]) for pair in self._missing()
        }

    def _work(self, pairs: Sequence[Pair]) -> float:
        each = [tasks.pair_task(self._dataset, pair) for pair in pairs]
        return self._training.epochs * sum(
            side_by_side.pixels(self._dataset, task) for task in each
        )

    def _is_done(self, pair: Pair) -> bool:
        # The record is written after the checkpoint, so it vouches for it.
        return self._record(pair) is not None and self._checkpoint(pair).is_dir()

    def _record(self, pair: Pair) -> RunRecord | None:
        return store.find(
            self.folder, "pretrain", "source", tasks.task_name(pair), _SEED, self._settings
        )

    def _recorded(self, pair: Pair) -> str | None:
        """The checksum of a model that is there, if it was recorded."""
        found = self._record(pair) if self._checkpoint(pair).is_dir() else None
        return found.environment.get("checkpoint") if found else None

    def _checkpoint(self, pair: Pair) -> Path:
        return self.folder / "checkpoints" / tasks.task_name(pair)

    def _template(self) -> Any:
        classes = tasks.pair_task(self._dataset, self._pairs[0]).classes
        network = networks.make_network(classes, self._training)
        shape = (1, *self._dataset.train_images.shape[1:])
        return jax.eval_shape(
            lambda key: network.init(key, jnp.zeros(shape), train=False), jax.random.key(0)
        )

    def _train(self, pairs: Sequence[Pair]) -> None:
        task = tasks.pair_task(self._dataset, pairs[0])
        trainer = Trainer(self._dataset, self._training, task.classes)
        progress = self._progress or Progress(self._work(pairs))
        by_size: dict[tuple[int, int], list[Pair]] = {}
        for pair in pairs:  # only tasks of as many images are trained at once
            size = tasks.pair_task(self._dataset, pair).size
            by_size.setdefault(size, []).append(pair)
        every = [tasks.pair_task(self._dataset, pair).size for pair in self._pairs]
        for size, alike in by_size.items():
            self._train_alike(alike, every.count(size), trainer, progress)

    def _train_alike(
        self, pairs: Sequence[Pair], planned: int, trainer: Trainer, progress: Progress
    ) -> None:
        task = tasks.pair_task(self._dataset, pairs[0])
        groups, places = side_by_side.groups_of_runs(pairs, planned, None, trainer, task)
        busy: list[Pair] = []  # which other processes train
        for group in groups:
            busy += self._train_free(group, trainer, progress, places, wait=False)
        for pair in busy:  # which is there then, unless its process has ended
            self._train_free([pair], trainer, progress, places, wait=True)

    def _train_free(
        self,
        group: Sequence[Pair],
        trainer: Trainer,
        progress: Progress,
        places: int,
        *,
        wait: bool,
    ) -> list[Pair]:
        """Trains those of a group that no other process trains; returns the others.

        What other processes have finished in the meantime is left as it is.
        """
        with contextlib.ExitStack() as stack:
            taken = {
                pair: stack.enter_context(locks.held(self._checkpoint(pair), wait=wait))
                for pair in group
            }
            mine = [pair for pair, is_mine in taken.items() if is_mine]
            wanted = [pair for pair in mine if self._overwrite or not self._is_done(pair)]
            if wanted:
                self._train_group(wanted, trainer, progress, places)
            return [pair for pair, is_mine in taken.items() if not is_mine]

    def _train_group(
        self, group: Sequence[Pair], trainer: Trainer, progress: Progress, places: int
    ) -> None:
        template = self._template()
        runs = [Run("source", pair, _SEED) for pair in group]
        name = f"{self.folder.name}-{tasks.task_name(group[0])}.npz"
        kept = self.folder / "unfinished" / name
        curves, finals, seconds = side_by_side.train_runs(
            trainer,
            runs,
            [tasks.pair_task(self._dataset, pair) for pair in group],
            [self._start(trainer, run) for run in runs],
            progress,
            places,
            kept=kept,
        )
        for run, curve, final in zip(runs, curves, finals, strict=True):
            if not curve.stopped:
                own = jax.tree.map(lambda a, to: np.asarray(a, to.dtype), final, template)
                self._keep(run, curve, own, seconds, trainer.filled(len(runs), places))
        unfinished.discard(kept)
        for pair, curve in zip(group, curves, strict=True):
            if curve.stopped:
                raise UserError(
                    f"source model {tasks.task_name(pair)} cannot be used, as "
                    f"{curve.stopped}: lower --learning-rate"
                )

    def _keep(self, run: Run, curve: Curves, final: Any, seconds: float, places: int) -> None:
        """Writes a trained model and its record, which vouches for it."""
        assert run.pair is not None
        where = (self.folder, "pretrain", run.variant, tasks.task_name(run.pair), run.seed)
        vouching = store.path(*where, procedural=self._dataset.name.startswith("procedural"))
        checkpoint = self._checkpoint(run.pair)
        checksum = source_checkpoints.save_checkpoint(checkpoint, final, vouching)
        more = {"places": places, "checkpoint": checksum}
        record = side_by_side.make_record("pretrain", run, curve, self._settings, seconds, more)
        store.write(record, self.folder)

    def _start(self, trainer: Trainer, run: Run) -> Any:
        return trainer.init_variables(protocol.run_keys(run.seed, run.pair).network)


def _classes_of(dataset: Dataset) -> tuple[Any, ...]:
    """What is alike where two data sets have the same classes: Tiny ImageNet in both sizes."""
    return kinds.original(dataset.name), dataset.classes, dataset.superclass.tolist()
