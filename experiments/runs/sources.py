"""The source models: one ResNet-18 for each pair of the clustering half, kept as checkpoints.

All models of one folder share every setting that decides their numbers: the folder's name holds a
hash of these, so settings can never mix.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

import jaxinit
from experiments.cli.errors import UserError
from experiments.cli.options import Count, Pair, Settings
from experiments.cli.progress import Progress, say
from experiments.data import sets, tasks
from experiments.data.sets import Dataset, DatasetName
from experiments.records import store
from experiments.runs import protocol, runner, source_checkpoints
from experiments.runs.protocol import Run
from experiments.training import networks, unfinished
from experiments.training.hyperparameters import Training
from experiments.training.schedules import Schedule
from experiments.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Sources(Settings):
    """The source models whose filters are clustered."""

    # number of source models: the first so many of the 45 pairs
    sources: Annotated[int, Ge(1), Le(45)] = 10
    # epochs of training of a source model
    source_epochs: Count = 25
    # learning rate of the source models over the epochs, as --schedule
    source_schedule: Schedule = "published-source"
    # flip and rotate the images of the source models
    source_augment: bool = True
    # data set of the source models (that of the comparison where not given)
    source_dataset: DatasetName | None = None
    # folder of the source models' checkpoints
    models_dir: str = "output/sources"


_SEED = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained source model, which stays in its checkpoint until it is asked for."""

    name: str  # where it came from: "cifar100-1a2b3c4d/pair-0-9"
    checkpoint: Path
    template: Any  # {"params": …, "batch_stats": …} of `jax.ShapeDtypeStruct`

    def load(self) -> Any:
        """Reads the whole model: {"params": …, "batch_stats": …}."""
        return source_checkpoints.load_checkpoint(self.checkpoint, self.template)

    def stored_params(self) -> Any:
        """The tree of parameters, each of which is read whenever an array is made of it.

        So that filters of many models can be clustered, a layer of all at a time.
        """
        return jaxinit.open_checkpoint(self.checkpoint)["params"]


class SourceModels:
    """The source models of one data set and one way of training them.

    Args:
        dataset: Its superclasses 0–9 are the clustering half.
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
        self._pairs = protocol.source_pairs(sources.sources)
        self._overwrite = overwrite

    def names(self) -> tuple[str, ...]:
        """Where each model comes from, without training or loading any."""
        return tuple(f"{self.folder.name}/{tasks.task_name(pair)}" for pair in self._pairs)

    def load(self) -> list[Source]:
        """Returns all models, checked, training those that are missing.

        Raises:
            UserError: A folder that cannot be written to, or a damaged checkpoint.
        """
        store.check_writable(self.folder)
        missing = [pair for pair in self._pairs if self._overwrite or not self._is_done(pair)]
        say(
            f"source models: {len(self._pairs) - len(missing)} of {len(self._pairs)} found in "
            f"{self.folder}, {len(missing)} to train"
        )
        if missing:
            self._train(missing)
        template = self._template()
        sources = [
            Source(name, self._checkpoint(pair), template)
            for name, pair in zip(self.names(), self._pairs, strict=True)
        ]
        for source in sources:
            source.load()  # one after the other: all at once might not fit into memory
        return sources

    def work(self) -> dict[str, float]:
        """For each model that is still to be trained, how many pixels it trains on."""
        return {
            f"{self.folder}/{tasks.task_name(pair)}": self._work([pair])
            for pair in self._pairs
            if self._overwrite or not self._is_done(pair)
        }

    def _work(self, pairs: Sequence[Pair]) -> float:
        task = tasks.pair_task(self._dataset, self._pairs[0])
        return len(pairs) * self._training.epochs * runner.pixels(self._dataset, task)

    def _is_done(self, pair: Pair) -> bool:
        # The record is written after the checkpoint, so it vouches for it.
        found = store.find(
            self.folder, "pretrain", "source", tasks.task_name(pair), _SEED, self._settings
        )
        return found is not None and self._checkpoint(pair).is_dir()

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
        groups, places = runner.groups_of_runs(pairs, None, trainer, task)
        for group in groups:
            runs = [Run("source", pair, _SEED) for pair in group]
            starts = [self._start(trainer, run) for run in runs]
            kept = self.folder / "unfinished" / tasks.task_name(group[0])
            curves, finals, seconds = runner.train_runs(
                trainer,
                runs,
                [tasks.pair_task(self._dataset, pair) for pair in group],
                starts,
                progress,
                places,
                kept=kept,
            )
            for pair, run, curve, final in zip(group, runs, curves, finals, strict=True):
                if curve.stopped:
                    continue
                source_checkpoints.save_checkpoint(self._checkpoint(pair), final)
                record = runner.make_record("pretrain", run, curve, self._settings, seconds)
                store.write(record, self.folder)
            unfinished.discard(kept)
            for pair, curve in zip(group, curves, strict=True):
                if curve.stopped:
                    raise UserError(
                        f"source model {tasks.task_name(pair)} cannot be used, as "
                        f"{curve.stopped}: lower --learning-rate"
                    )

    def _start(self, trainer: Trainer, run: Run) -> Any:
        return trainer.init_variables(protocol.run_keys(run.seed, run.pair).network)
