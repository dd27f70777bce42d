"""Source models on one half of the classes, comparisons on the other, for any number of them."""

import dataclasses
import itertools

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.runs import protocol
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import PresetCount, PresetPairs
from experiments.runs.sources import SourceModels, Sources
from experiments.study import presets, tuning
from experiments.training.hyperparameters import Training
from tests.experiments.small import make_dataset


def of_groups(count, name="folder-set"):
    """A data set in which each group is one class."""
    dataset = make_dataset(1, 1, superclasses=1, name=name)
    drawn = {"groups": {"classes": 1, "seed": 0}}
    return dataset._replace(superclass=np.arange(count, dtype=np.int32), recorded=drawn)


@pytest.mark.parametrize("size", range(2, 12))
def test_any_half_is_covered_evenly(size):
    pairs = protocol.source_pairs(1000, size)
    assert sorted(pairs) == list(itertools.combinations(range(size), 2))
    turn = size // 2
    for start in range(0, len(pairs), turn):
        held = [s for pair in pairs[start : start + turn] for s in pair]
        assert len(held) == len(set(held))


def test_the_two_halves():
    assert protocol.source_pairs(99, protocol.sources_half(8)) == (
        (0, 3), (1, 2), (0, 1), (2, 3), (0, 2), (1, 3),
    )  # fmt: skip
    assert protocol.comparison_pairs(2, 8) == ((4, 7), (5, 6))
    assert protocol.comparison_pairs(9, 5) == ((3, 4), (2, 3), (2, 4))
    assert protocol.sources_half(5) == 2
    assert protocol.comparison_pairs(9, 2) == ()


def test_pairs_of_presets_mean_those_of_the_data():
    quick = presets.quick("x")["evaluation"]
    assert quick.fitted(of_groups(20)).pairs == ((10, 11), (16, 19))
    assert quick.fitted(of_groups(10)).pairs == protocol.comparison_pairs(2, 10)
    assert quick.fitted(of_groups(4)).pairs == ((2, 3),)
    tuned = tuning.on_tuning_pairs(presets.quick("x"), 4)["evaluation"]
    assert tuned.shared_classes
    assert tuned.fitted(of_groups(20)).pairs == tuning.PAIRS
    assert tuned.fitted(of_groups(8)).pairs == protocol.source_pairs(4, 4)
    assert Evaluation().fitted(of_groups(40)).pairs == protocol.comparison_pairs(10, 40)
    named = Evaluation(pairs=((0, 1),))
    assert named.fitted(of_groups(8)) is named


def test_too_few_groups_get_a_sentence():
    for count in (2, 1):
        with pytest.raises(UserError, match="too few to compare on pairs of half of them: say"):
            Evaluation().fitted(of_groups(count))
    assert Evaluation(whole=True).fitted(of_groups(2)).whole
    with pytest.raises(UserError, match="3 classes in 3 groups, too few for source models"):
        models(of_groups(3)).names()


def test_how_many_source_models_there_can_be():
    assert Sources().fitted(of_groups(20)).sources == 10
    assert Sources().fitted(of_groups(8)).sources == 6
    assert Sources(sources=PresetCount(45)).fitted(of_groups(4)).sources == 1
    with pytest.raises(UserError, match="--sources 7 is out of range: say 1 to 6"):
        Sources(sources=7).fitted(of_groups(8))
    with pytest.raises(UserError, match="--sources 46 is out of range: say 1 to 45"):
        Sources(sources=46).fitted(of_groups(20))
    assert len(models(of_groups(8)).names()) == 6


def models(dataset, **options):
    return SourceModels(dataset, Training(), Sources(**options))


def test_classes_of_source_models_are_refused_unless_asked_for():
    data = of_groups(20, "cifar100")
    own = models(data, sources=1)  # of the groups 0 and 9 alone
    apart = Evaluation(pairs=((10, 11), (1, 2)))
    own.check_apart(data, apart)
    for wrong, words in (
        (Evaluation(pairs=((10, 11), (8, 9))), "--pairs 8-9 has classes that source models are"),
        (Evaluation(whole=True), "--whole has .*: give pairs of the groups 10 to 19, another"),
    ):
        with pytest.raises(UserError, match=words):
            own.check_apart(data, wrong)
        own.check_apart(data, dataclasses.replace(wrong, shared_classes=True))
        own.check_apart(of_groups(20, "folder-other"), wrong)


def test_tiny_imagenet_has_the_same_classes_in_both_sizes():
    small, large = of_groups(40, "tiny_imagenet32"), of_groups(40, "tiny_imagenet")
    with pytest.raises(UserError, match="has classes that source models"):
        models(small, sources=3).check_apart(large, Evaluation(pairs=((0, 39),)))


def test_pairs_that_presets_name_are_pairs():
    assert PresetPairs(((1, 2),)) == ((1, 2),)
    assert isinstance(presets.paper("x")["evaluation"].pairs, PresetPairs)
