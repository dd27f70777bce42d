"""Groups of classes drawn by a seed, which stand for superclasses where a data set has none."""

import numpy as np
from jaxtyping import Int32

from experiments.cli.options import check

_USUAL = 5  # classes of a group, as of a superclass of CIFAR-100
_GROUPS = 10  # that there should be, if there are enough classes


def usual_size(classes: int) -> int:
    """How many classes a group has where that is not said: five, or less for ten groups."""
    return max(1, min(_USUAL, classes // _GROUPS))


def draw(classes: int, size: int, seed: int) -> Int32[np.ndarray, " classes"]:
    """Draws the group of each class; −1 for the last few, if the sizes do not divide.

    Args:
        classes: How many there are.
        size: Of a group.
        seed: Another seed, other groups.

    Raises:
        UserError: There are fewer classes than one group has.
    """
    check(
        size <= classes,
        f"--group-classes {size} is too large: there are {classes} classes in all",
    )
    groups = np.full(classes, -1, np.int32)
    order = np.random.default_rng(seed).permutation(classes)[: classes // size * size]
    groups[order] = np.arange(len(order)) // size
    return groups
