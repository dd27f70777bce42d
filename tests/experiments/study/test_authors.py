"""Whose setting is that of the authors' curves, and from whom these are withheld."""

import dataclasses

import numpy as np
import pytest

from experiments.data.sets import Data
from experiments.records import published
from experiments.runs.sources import Sources
from experiments.runs.variants import Variant
from experiments.study import authors, presets
from experiments.study.presets import Experiment
from experiments.study.question import Question
from experiments.training.hyperparameters import Training
from jaxinit import initializers
from tests.experiments.small import make_dataset

PAPER = Experiment(**presets.paper("clusters"))
REDUCED = Experiment(**presets.reduced("clusters"))
OF_SOURCES = {"pretrained", "euclidean-k3"}
ALL = {"random", "gabor-1", *OF_SOURCES}


def images(name="cifar100", train=500, test=100, classes=20):
    small = make_dataset(1, 1, superclasses=classes // 5, name=name)
    labels = np.arange(classes, dtype=np.int32)
    return small._replace(
        train_labels=np.repeat(labels, train), test_labels=np.repeat(labels, test)
    )


def variant(name, training=None, **settings):
    return Variant(name, name, initializers.unchanged, settings, training)


QUESTION = Question(
    [
        variant("random"),
        variant("gabor-1", layers=1),
        variant("pretrained", source="cifar100-1/pair-0-9"),
        variant("euclidean-k3", first={"sources": ["cifar100-1/pair-0-9"]}),
        variant("fourier-k3", sources=["cifar100-1/pair-0-9"]),
    ],
    [],
    {
        "random": published.RANDOM,
        "gabor-1": published.for_gabor(1),
        "pretrained": published.PRETRAINED,
        "euclidean-k3": published.for_clusters("euclidean", 3),
        "fourier-k3": published.for_clusters("fourier", 3),  # None, as theirs is of real parts
    },
)


def shown(settings, dataset=None, question=QUESTION):
    return set(authors.configurations(question, settings, dataset or images()))


def trained(settings=PAPER, **changes):
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **changes))


def from_sources(settings=PAPER, **changes):
    return dataclasses.replace(settings, sources=dataclasses.replace(settings.sources, **changes))


def test_the_papers_preset_has_the_authors_setting():
    assert shown(PAPER) == ALL


@pytest.mark.parametrize(
    "change",
    [
        {"augment": False},
        {"normalize": False},
        {"precision": "bfloat16"},
        {"network": "custom"},
        {"network": "vgg11"},
        {"freeze_stem": True},
        {"learning_rate": 0.1},
        {"batch_size": 64},
        {"momentum": 0.0},
        {"weight_decay": 0.0},
        {"schedule": "cosine"},
    ],
)
def test_all_curves_are_withheld_from_training_of_another_kind(change):
    assert shown(trained(**change)) == set()


def test_curves_are_compared_epoch_by_epoch():
    assert shown(trained(epochs=5)) == ALL


@pytest.mark.parametrize(
    "change",
    [{"source_epochs": 10}, {"source_schedule": "cosine"}, {"source_augment": False},
     {"source_dataset": "tiny_imagenet"}],
)  # fmt: skip
def test_other_source_models_withhold_the_curves_of_what_is_made_of_them_alone(change):
    assert shown(from_sources(**change)) == ALL - OF_SOURCES


def test_the_reduced_preset_keeps_the_curves_of_starts_without_source_models():
    """Its five epochs are compared; its source models of ten epochs are not theirs."""
    assert REDUCED.sources.source_epochs == 10
    assert shown(REDUCED) == ALL - OF_SOURCES


@pytest.mark.parametrize(
    "dataset",
    [
        images(train=40),
        images(train=499),
        images(test=20),
        images("procedural"),
        images("tiny_imagenet32", test=50),
        images("tiny_imagenet", test=50),
    ],
)
def test_all_curves_are_withheld_on_other_images(dataset):
    assert shown(PAPER, dataset) == set()


def test_a_variant_trained_otherwise_than_the_others_loses_its_own_curve():
    changed = [
        dataclasses.replace(v, training=Training(learning_rate=0.1)) if v.name == "random" else v
        for v in QUESTION.variants
    ]
    question = dataclasses.replace(QUESTION, variants=changed)
    assert shown(PAPER, question=question) == ALL - {"random"}


def test_sources_trained_otherwise_than_a_variant_are_not_theirs():
    changed = [dataclasses.replace(v, training=Training()) for v in QUESTION.variants]
    question = dataclasses.replace(QUESTION, variants=changed)
    assert shown(trained(normalize=False), question=question) == ALL - OF_SOURCES


def test_aligned_networks_are_custom_ones():
    question = Question(
        [variant("random"), variant("aligned-1", sources=["cifar100-1/pair-0-9"])],
        [],
        {"random": published.CUSTOM_RANDOM, "aligned-1": published.for_alignment(1)},
    )
    assert shown(trained(network="custom"), question=question) == {"random", "aligned-1"}
    assert shown(PAPER, question=question) == set()
    reduced = trained(REDUCED, network="custom")
    assert shown(reduced, question=question) == {"random"}


def test_tiny_imagenet_is_not_augmented_and_its_sources_are_of_cifar100():
    question = Question(
        [variant("random"), variant("pretrained", source="cifar100-1/pair-0-9")],
        [],
        {name: published.for_tiny_imagenet(name) for name in ("random", "pretrained")},
    )
    settings = Experiment(
        data=Data(dataset="tiny_imagenet"),
        training=Training(augment=False),
        sources=Sources(sources=6, source_dataset="cifar100"),
    )
    whole = images("tiny_imagenet", test=50)
    assert shown(settings, whole, question) == {"random", "pretrained"}
    assert shown(trained(settings, augment=True), whole, question) == set()
    assert shown(from_sources(settings, source_dataset=None), whole, question) == {"random"}
    assert shown(settings, images("tiny_imagenet", train=100, test=50), question) == set()
