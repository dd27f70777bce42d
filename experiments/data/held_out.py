"""A part of each class that is held out for testing, drawn by a seed, where none is given."""

from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from experiments.cli.errors import UserError

SHARE = 0.2  # of each class, rounded, and at least one image


def split(
    labels: Int32[np.ndarray, " n"], seed: int, classes: tuple[str, ...], title: str
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " h"]]:
    """Draws which rows are held out; those of a class do not depend on the other classes.

    Args:
        labels: The class of each row.
        seed: Another seed, another part.
        classes: Their names.
        title: What a sentence calls the set.

    Returns:
        The rows to train on and those held out, each in their order.

    Raises:
        UserError: A class has fewer than two images.
    """
    held = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        own = np.flatnonzero(labels == label)
        if len(own) < 2:
            raise UserError(
                f"class {name} of {title} has {len(own)} image, of which none can be held out for "
                "testing: give it two or more, or take it out"
            )
        count = max(1, round(SHARE * len(own)))
        held[np.random.default_rng([seed, label]).permutation(own)[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def described(seed: int) -> dict[str, Any]:
    """What is recorded of the split."""
    return {"held_out": {"share": SHARE, "seed": seed}}
