"""Trains the source models: one ResNet-18 for each pair of the clustering half.

Every other experiment asks for them too, and trains what is missing.
"""

import dataclasses
import sys
from collections.abc import Sequence

from experiments.cli import options, processes
from experiments.cli.errors import exit_status
from experiments.cli.options import Settings
from experiments.data import sets
from experiments.data.sets import Data
from experiments.records import store
from experiments.runs.protocol import PresetCount
from experiments.runs.sources import SourceModels, Sources
from experiments.study import presets
from experiments.training.hyperparameters import Training


@dataclasses.dataclass(frozen=True)
class Pretrain(Settings):
    """What `experiments.pretrain` does."""

    # train again what is there already
    overwrite: bool = False
    # the images
    data: Data = dataclasses.field(default_factory=Data)
    # how each model is trained
    training: Training = dataclasses.field(default_factory=Training)
    # which models, and where they are kept
    sources: Sources = dataclasses.field(default_factory=Sources)


QUICK = Pretrain(
    data=presets.QUICK_DATA, training=presets.QUICK_TRAINING, sources=presets.QUICK_SOURCES
)
PAPER = Pretrain(data=Data(dataset="cifar100"), sources=Sources(sources=PresetCount(45)))
PRESETS = {"quick": QUICK, "paper": PAPER}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the source models."""
    with exit_status(tables=False):
        settings = options.parse(
            PRESETS,
            argv,
            program="python -m experiments.pretrain",
            about=__doc__,
        )
        processes.setup_jax()
        dataset = sets.load_data(settings.data)
        sources = SourceModels(
            dataset, settings.training, settings.sources, overwrite=settings.overwrite
        )
        sources.load()
        records = store.read_all(sources.folder)
        accuracies = [record.curves["val_acc_top1"][-1] for record in records]
        for record, accuracy in zip(records, accuracies, strict=True):
            print(
                f"{record.task}: {accuracy:.1f} % after {len(record.curves['train_loss'])} epochs"
            )
        print(f"checkpoints in {sources.folder / 'checkpoints'}")


if __name__ == "__main__":
    sys.exit(main())
