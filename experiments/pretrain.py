"""The source models: one ResNet-18 for each pair of the clustering half, kept as Orbax checkpoints.

`python -m experiments.pretrain` trains them; every other experiment asks for them and trains what
is missing. All models of one folder share every setting that decides their numbers: the folder's
name holds a hash of these, so settings can never mix.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint

import jaxinit
from experiments import config, data, protocol, runner, tracking, training
from experiments.config import Pair
from experiments.errors import UserError, exit_status
from experiments.progress import Progress, say

_SEED = 0


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """What `experiments.pretrain` does."""

    overwrite: bool = config.option(False, "train again what is there already")
    data: config.Data = dataclasses.field(default_factory=config.Data)
    training: config.Training = dataclasses.field(default_factory=config.Training)
    sources: config.Sources = dataclasses.field(default_factory=config.Sources)


QUICK = Pretrain(
    # 400 training images a task: ten whole batches, so that only one step need be compiled.
    data=config.Data(train_images_per_class=40, test_images_per_class=20),
    training=config.Training(epochs=5, batch_size=40, schedule="cosine"),
    sources=config.Sources(sources=2, source_epochs=5, source_schedule="cosine"),
)
PAPER = Pretrain(data=config.Data(dataset="cifar100"), sources=config.Sources(sources=45))
PRESETS = {"quick": QUICK, "paper": PAPER}


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained source model, which stays in its checkpoint until it is asked for."""

    name: str  # where it came from: "cifar100-1a2b3c4d/pair-0-9"
    checkpoint: Path
    template: Any  # {"params": …, "batch_stats": …} of `jax.ShapeDtypeStruct`

    def load(self) -> Any:
        """Reads the whole model: {"params": …, "batch_stats": …}."""
        return load_checkpoint(self.checkpoint, self.template)

    def stored_params(self) -> Any:
        """The tree of parameters, each of which is read whenever an array is made of it.

        So that filters of many models can be clustered, a layer of all at a time.
        """
        return jaxinit.open_checkpoint(self.checkpoint)["params"]


class Sources:
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
        dataset: data.Dataset,
        settings: config.Training,
        sources: config.Sources,
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
        self._settings = {**runner.describe_data(dataset), **self._training.described()}
        text = json.dumps(self._settings, sort_keys=True).encode()
        self.folder = (
            Path(sources.models_dir) / f"{dataset.name}-{hashlib.sha256(text).hexdigest()[:8]}"
        )
        self._pairs = protocol.source_pairs(sources.sources)
        self._overwrite = overwrite

    def names(self) -> tuple[str, ...]:
        """Where each model comes from, without training or loading any."""
        return tuple(f"{self.folder.name}/{runner.task_name(pair)}" for pair in self._pairs)

    def load(self) -> list[Source]:
        """Returns all models, checked, training those that are missing.

        Raises:
            UserError: A folder that cannot be written to, or a damaged checkpoint.
        """
        tracking.check_writable(self.folder)
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
            f"{self.folder}/{runner.task_name(pair)}": self._work([pair])
            for pair in self._pairs
            if self._overwrite or not self._is_done(pair)
        }

    def _work(self, pairs: Sequence[Pair]) -> float:
        task = data.pair_task(self._dataset, self._pairs[0])
        return len(pairs) * self._training.epochs * runner.pixels(self._dataset, task)

    def _is_done(self, pair: Pair) -> bool:
        # The record is written after the checkpoint, so it vouches for it.
        found = tracking.find(
            self.folder, "pretrain", "source", runner.task_name(pair), _SEED, self._settings
        )
        return found is not None and self._checkpoint(pair).is_dir()

    def _checkpoint(self, pair: Pair) -> Path:
        return self.folder / "checkpoints" / runner.task_name(pair)

    def _template(self) -> Any:
        classes = data.pair_task(self._dataset, self._pairs[0]).classes
        network = training.make_network(classes, self._training)
        shape = (1, *self._dataset.train_images.shape[1:])
        return jax.eval_shape(
            lambda key: network.init(key, jnp.zeros(shape), train=False), jax.random.key(0)
        )

    def _train(self, pairs: Sequence[Pair]) -> None:
        task = data.pair_task(self._dataset, pairs[0])
        trainer = training.Trainer(self._dataset, self._training, task.classes)
        progress = self._progress or Progress(self._work(pairs))
        groups, places = runner.groups_of_runs(pairs, None, trainer, task)
        for group in groups:
            runs = [protocol.Run("source", pair, _SEED) for pair in group]
            starts = [self._start(trainer, run) for run in runs]
            curves, finals, seconds = runner.train_runs(
                trainer,
                runs,
                [data.pair_task(self._dataset, pair) for pair in group],
                starts,
                progress,
                places,
            )
            for pair, run, curve, final in zip(group, runs, curves, finals, strict=True):
                if curve.stopped:
                    continue
                save_checkpoint(self._checkpoint(pair), final)
                record = runner.make_record("pretrain", run, curve, self._settings, seconds)
                tracking.write(record, self.folder)
            for pair, curve in zip(group, curves, strict=True):
                if curve.stopped:
                    raise UserError(
                        f"source model {runner.task_name(pair)} cannot be used, as "
                        f"{curve.stopped}: lower --learning-rate"
                    )

    def _start(self, trainer: training.Trainer, run: protocol.Run) -> Any:
        return trainer.init_variables(protocol.run_keys(run.seed, run.pair).network)


def save_checkpoint(folder: Path, variables: Any) -> None:
    """Writes variables with Orbax, whole or not at all, over what is there.

    Raises:
        UserError: The folder cannot be written to.
    """
    try:
        with (
            tracking.writing_to(folder.parent),
            orbax.checkpoint.StandardCheckpointer() as checkpointer,
        ):
            checkpointer.save(folder.absolute(), variables, force=True)
    except UserError:
        raise
    except Exception as error:  # Orbax raises whatever its parts raise
        reason = str(error).split("\n")[0]
        raise UserError(
            f"cannot write the checkpoint {folder} ({reason}): free some space, or choose another "
            "folder with --models-dir"
        ) from error


def load_checkpoint(folder: Path, template: Any) -> Any:
    """Reads variables that were saved with `save_checkpoint`.

    Args:
        folder: Of the checkpoint.
        template: A tree of `jax.ShapeDtypeStruct` that the checkpoint must match.

    Raises:
        UserError: It is missing, damaged, or of another network.
    """
    advice = "delete the folder and start again, it will be trained anew"
    try:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore(folder.absolute(), template)
    except Exception as error:  # Orbax raises whatever its parts raise
        raise UserError(
            f"checkpoint {folder} is damaged or of another network: {advice}"
        ) from error
    shapes = jax.tree.map(lambda leaf: leaf.shape, variables)
    if shapes != jax.tree.map(lambda leaf: leaf.shape, template):
        raise UserError(f"checkpoint {folder} is of another network: {advice}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"checkpoint {folder} holds numbers that are not finite: {advice}")
    return variables


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the source models."""
    with exit_status():
        settings = config.parse(
            PRESETS,
            argv,
            program="python -m experiments.pretrain",
            description=(__doc__ or "").split("\n")[0],
        )
        runner.setup_jax()
        dataset = runner.load_data(settings.data)
        sources = Sources(
            dataset, settings.training, settings.sources, overwrite=settings.overwrite
        )
        sources.load()
        records = tracking.read_all(sources.folder)
        accuracies = [record.curves["val_acc_top1"][-1] for record in records]
        for record, accuracy in zip(records, accuracies, strict=True):
            print(
                f"{record.task}: {accuracy:.1f} % after {len(record.curves['train_loss'])} epochs"
            )
        print(f"checkpoints in {sources.folder / 'checkpoints'}")


if __name__ == "__main__":
    sys.exit(main())
