"""Which of an experiment's variants have the setting of one of the authors' configurations.

Theirs: the defaults of `Training` (Tiny ImageNet without augmentation; `custom` networks where they
align), all images of each class, and, where a start is made of source models, sources of CIFAR-100
trained as the defaults of `Sources` say. Only the number of epochs may be another, as curves are
compared epoch by epoch.
"""

import dataclasses

from experiments.data.sets import Dataset
from experiments.records import published
from experiments.runs.sources import Sources
from experiments.runs.variants import Variant, sources_named
from experiments.study.presets import Experiment
from experiments.study.question import Question
from experiments.training.hyperparameters import Training

# Training and test images of each class.
_IMAGES = {"cifar100": (500, 100), "tiny_imagenet": (500, 50)}
_SOURCE_DATA = "cifar100"
_OF_SOURCES = ("source_epochs", "source_schedule", "source_augment")


def configurations(question: Question, settings: Experiment, dataset: Dataset) -> dict[str, str]:
    """Returns, by variant, the authors' configurations of the same setting, and no others.

    Args:
        question: Names those that ask the same of a variant.
        settings: How the variants are trained, and their source models.
        dataset: The images that they are trained on.
    """
    if not _has_all_images(dataset):
        return {}
    variants = {variant.name: variant for variant in question.variants}
    return {
        name: theirs
        for name, theirs in question.authors.items()
        if theirs
        and name in variants
        and published.data_set(theirs) == dataset.name
        and _is_theirs(variants[name], theirs, settings, dataset)
    }


def _has_all_images(dataset: Dataset) -> bool:
    classes = len(dataset.superclass)
    images = (len(dataset.train_labels) / classes, len(dataset.test_labels) / classes)
    return images == _IMAGES.get(dataset.name)


def _is_theirs(variant: Variant, theirs: str, settings: Experiment, dataset: Dataset) -> bool:
    def learns_as_theirs(training: Training) -> bool:
        return training == dataclasses.replace(_training(theirs), epochs=training.epochs)

    if not learns_as_theirs(variant.training or settings.training):
        return False
    if not sources_named(variant.settings):
        return True
    sources, default = settings.sources, Sources()
    return (
        learns_as_theirs(settings.training)  # from which that of the source models follows
        and (sources.source_dataset or dataset.name) == _SOURCE_DATA
        and all(getattr(sources, name) == getattr(default, name) for name in _OF_SOURCES)
    )


def _training(theirs: str) -> Training:
    """How the networks of a configuration were trained."""
    return Training(
        augment=published.data_set(theirs) != "tiny_imagenet",
        network="custom" if theirs.startswith("custom_") else "resnet18",
    )
