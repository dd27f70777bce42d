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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint

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
    # 640 training images a task: five whole batches, so that only one step need be compiled.
    data=config.Data(train_images_per_class=64, test_images_per_class=30),
    sources=config.Sources(sources=3, source_epochs=8, source_schedule="cosine"),
)
PAPER = Pretrain(data=config.Data(dataset="cifar100"), sources=config.Sources(sources=45))
PRESETS = {"quick": QUICK, "paper": PAPER}


class Source(NamedTuple):
    """A trained source model."""

    name: str  # where it came from: "cifar100-1a2b3c4d/pair-0-9"
    variables: Any  # {"params": …, "batch_stats": …}


class Sources:
    """The source models of one data set and one way of training them.

    Args:
        dataset: Its superclasses 0–9 are the clustering half.
        settings: Of the training, but for the epochs and the schedule.
        sources: How many models, their epochs and schedule, where they are kept.
        overwrite: Train again what is there.
    """

    def __init__(
        self,
        dataset: data.Dataset,
        settings: config.Training,
        sources: config.Sources,
        *,
        overwrite: bool = False,
    ) -> None:
        self._dataset = dataset
        self._training = dataclasses.replace(
            settings, epochs=sources.source_epochs, schedule=sources.source_schedule
        )
        self._settings = {
            **runner.describe_data(dataset),
            "network": "resnet18",
            "training": dataclasses.asdict(self._training),
        }
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
        """Returns all models, training those that are missing.

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
        return [
            Source(name, load_checkpoint(self._checkpoint(pair), template))
            for name, pair in zip(self.names(), self._pairs, strict=True)
        ]

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
        tasks = [data.pair_task(self._dataset, pair) for pair in pairs]
        trainer = training.Trainer(self._dataset, self._training, tasks[0].classes)
        progress = Progress(len(pairs) * self._training.epochs)
        size = runner.at_once(None)
        for first in range(0, len(pairs), size):
            group = slice(first, first + size)
            runs = [protocol.Run("source", pair, _SEED) for pair in pairs[group]]
            starts = [self._start(trainer, run) for run in runs]
            curves, finals, seconds = runner.train_runs(
                trainer, runs, tasks[group], starts, progress
            )
            for run, curve, final in zip(runs, curves, finals, strict=True):
                self._keep(run, curve, final, seconds)

    def _start(self, trainer: training.Trainer, run: protocol.Run) -> Any:
        return trainer.init_variables(protocol.run_keys(run.seed, run.pair).network)

    def _keep(
        self, run: protocol.Run, curves: training.Curves, variables: Any, seconds: float
    ) -> None:
        if curves.stopped:
            raise UserError(
                f"source model {runner.task_name(run.pair)} cannot be used, as {curves.stopped}: "
                "lower --learning-rate"
            )
        save_checkpoint(self._checkpoint(run.pair), variables)
        record = runner.make_record("pretrain", run, curves, self._settings, seconds)
        tracking.write(record, self.folder)


def save_checkpoint(folder: Path, variables: Any) -> None:
    """Writes variables with Orbax, whole or not at all, over what is there.

    Raises:
        UserError: The folder cannot be written to.
    """
    with (
        tracking.writing_to(folder.parent),
        orbax.checkpoint.StandardCheckpointer() as checkpointer,
    ):
        checkpointer.save(folder.absolute(), variables, force=True)


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
        runner.setup_compilation_cache()
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
