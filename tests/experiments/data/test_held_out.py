"""What is held out of each class."""

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import held_out

LABELS = np.array([0] * 10 + [1] * 2 + [2] * 7, np.int32)
NAMES = ("a", "b", "c")


def test_a_fifth_of_each_class_and_at_least_one():
    kept, held = held_out.split(LABELS, 0, NAMES, "set")
    assert np.bincount(LABELS[held]).tolist() == [2, 1, 1]
    assert sorted([*kept, *held]) == list(range(19))
    assert list(kept) == sorted(kept)
    assert list(held) == sorted(held)


def test_the_seed_decides_and_other_classes_do_not():
    held = held_out.split(LABELS, 0, NAMES, "set")[1]
    np.testing.assert_array_equal(held_out.split(LABELS, 0, NAMES, "set")[1], held)
    others = {tuple(held_out.split(LABELS, seed, NAMES, "set")[1]) for seed in range(9)}
    assert len(others) > 5
    fewer = held_out.split(LABELS[:12], 0, NAMES[:2], "set")[1]
    np.testing.assert_array_equal(fewer, held[:3])


def test_a_class_of_one_image():
    with pytest.raises(UserError, match="class c of set has 1 image, of which none can be held"):
        held_out.split(LABELS[:13], 0, NAMES, "set")
