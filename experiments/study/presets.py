"""What every experiment is told, and the values that the presets share."""

import dataclasses
from typing import Any

from experiments.cli.options import Settings
from experiments.data.sets import Data
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import PresetCount, PresetPairs
from experiments.runs.sources import Sources
from experiments.study.clustering import Clustering
from experiments.training.hyperparameters import Training


@dataclasses.dataclass(frozen=True)
class Experiment(Settings):
    """What every experiment is told; each adds what it varies."""

    clustering: Clustering = dataclasses.field(default_factory=Clustering)
    data: Data = dataclasses.field(default_factory=Data)
    training: Training = dataclasses.field(default_factory=Training)
    sources: Sources = dataclasses.field(default_factory=Sources)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)


# 400 training images a task: ten whole batches, so that only one step need be compiled.
QUICK_DATA = Data(train_images_per_class=40, test_images_per_class=20)
QUICK_TRAINING = Training(epochs=5, batch_size=40, schedule="cosine")
QUICK_SOURCES = Sources(sources=PresetCount(2), source_epochs=5, source_schedule="cosine")


def quick(experiment: str) -> dict[str, Any]:
    """What the quick presets share: the embedded images, few of them, few epochs, two tasks."""
    return {
        "clustering": Clustering(restarts=1, most_slices=2**17),
        "data": QUICK_DATA,
        "training": QUICK_TRAINING,
        "sources": QUICK_SOURCES,
        "evaluation": Evaluation(
            pairs=PresetPairs(((10, 11), (16, 19))), seeds=1, output=f"output/{experiment}"
        ),
    }


def reduced(experiment: str) -> dict[str, Any]:
    """What the reduced presets share: the paper's grid thinned for a machine without a GPU.

    CIFAR-100, whole tasks, three pairs, two seeds, five epochs; six source models of ten epochs;
    2¹⁷ slices of each layer clustered.
    """
    return {
        "clustering": Clustering(restarts=1, most_slices=2**17),
        "data": Data(dataset="cifar100"),
        "training": Training(epochs=5),
        "sources": Sources(sources=PresetCount(6), source_epochs=10),
        "evaluation": Evaluation(
            pairs=PresetPairs(((10, 11), (11, 18), (16, 19))),
            seeds=2,
            output=f"output/reduced/{experiment}",
        ),
    }


def paper(experiment: str) -> dict[str, Any]:
    """What the paper's presets share: CIFAR-100, ten pairs, five seeds."""
    return {
        "data": Data(dataset="cifar100"),
        "evaluation": Evaluation(output=f"output/paper/{experiment}"),
    }
