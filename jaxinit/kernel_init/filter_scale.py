"""How much larger than 7×7 a kernel is: lengths of filters are given for that size, the paper's."""

import math
from collections.abc import Sequence

_SIDE = 7


def of(size: Sequence[int]) -> float:
    """The geometric mean of the sides that have more than one tap, over 7; 1 where none has.

    Args:
        size: Taps along each spatial axis.

    Example:
        >>> of((14, 14, 1))
        2.0
    """
    long = [side for side in size if side > 1]
    return math.prod(long) ** (1 / len(long)) / _SIDE if long else 1.0
