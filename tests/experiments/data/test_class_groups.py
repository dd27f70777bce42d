"""Groups of classes that stand for superclasses."""

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import class_groups


@pytest.mark.parametrize(
    ("classes", "size", "groups"),
    [(4, 1, 4), (10, 1, 10), (25, 2, 12), (100, 5, 20), (1000, 5, 200)],
)
def test_usual_sizes(classes, size, groups):
    assert class_groups.usual_size(classes) == size
    drawn = class_groups.draw(classes, size, 0)
    assert np.bincount(drawn[drawn >= 0]).tolist() == [size] * groups
    assert (drawn < 0).sum() == classes - size * groups


def test_the_seed_decides():
    first = class_groups.draw(10, 2, 0)
    np.testing.assert_array_equal(class_groups.draw(10, 2, 0), first)
    assert len({tuple(class_groups.draw(10, 2, seed)) for seed in range(9)}) == 9
    with pytest.raises(UserError, match="--group-classes 11 is too large: there are 10 classes"):
        class_groups.draw(10, 11, 0)
