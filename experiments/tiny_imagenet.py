"""Experiments 9 to 11: an unseen data set, Tiny ImageNet, from source models of CIFAR-100.

All 200 classes in one task, without augmentation (figure 9 and table 1). The pretrained network's
last layer has other classes and keeps its random start.
"""

import dataclasses
import sys

from experiments.cli.options import Count
from experiments.data.sets import Data
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import PresetCount
from experiments.runs.sources import Sources
from experiments.study import conduct, presets, starts
from experiments.study.clustering import Clustering
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question
from experiments.training.hyperparameters import Training


@dataclasses.dataclass(frozen=True)
class TinyImageNet(Experiment):
    """What `experiments.tiny_imagenet` compares."""

    # number of clusters
    clusters: Count = 3


_QUICK, _REDUCED = presets.quick("tiny_imagenet"), presets.reduced("tiny_imagenet")
PRESETS = {
    "quick": TinyImageNet(
        **_QUICK
        | {
            "clustering": dataclasses.replace(_QUICK["clustering"], distances=("fourier",)),
            "training": dataclasses.replace(_QUICK["training"], epochs=3, augment=False),
            # One made-up data set is both, so that nothing is needed.
            "evaluation": dataclasses.replace(
                _QUICK["evaluation"], whole=True, shared_classes=True
            ),
        }
    ),
    "reduced": TinyImageNet(
        **_REDUCED
        | {
            "clustering": dataclasses.replace(
                _REDUCED["clustering"], distances=("fourier", "fourier_real")
            ),
            "data": Data(dataset="tiny_imagenet32"),
            "training": dataclasses.replace(_REDUCED["training"], augment=False),
            "sources": dataclasses.replace(_REDUCED["sources"], source_dataset="cifar100"),
            "evaluation": dataclasses.replace(_REDUCED["evaluation"], whole=True, seeds=1),
        }
    ),
    "paper": TinyImageNet(
        clustering=Clustering(distances=("fourier", "fourier_real")),
        data=Data(dataset="tiny_imagenet"),
        training=Training(augment=False),
        sources=Sources(sources=PresetCount(6), source_dataset="cifar100"),
        evaluation=Evaluation(whole=True, output="output/paper/tiny_imagenet"),
    ),
}


def ask(settings: TinyImageNet, made_of: Ingredients) -> Question:
    """Lists random, pretrained and clustered initialisation."""
    variants = [starts.random(), made_of.pretrained()]
    authors = {"random": "tiny_imagenet_random_models"}
    authors["pretrained"] = "tiny_imagenet_pretrained_models"
    for distance in settings.clustering.distances:
        variants.append(made_of.clustered(distance, settings.clusters))
        # What they call Fourier is the distance between real parts.
        if (distance, settings.clusters, settings.sources.sources) == ("fourier_real", 3, 6):
            authors[variants[-1].name] = "tiny_imagenet_clustered_models"
    shown = tuple(variant.name for variant in variants)
    return Question(variants, [Figure("figure9", "An unseen data set", shown)], authors)


ENTRY = conduct.entry(
    "tiny_imagenet",
    __doc__,
    PRESETS,
    ask,
    varies="random, pretrained and clustered, on an unseen data set",
    number=9,
    sections=(Section("an unseen data set", ("figure9", "final_accuracy"), 9),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
