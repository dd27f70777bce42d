"""The learning rate of each epoch, as a pure function of what was recorded before it."""

import math
import typing
from collections.abc import Sequence
from typing import Literal

Schedule = Literal["published", "published-source", "report", "constant", "cosine"]


def learning_rate(
    schedule: str,
    base: float,
    epoch: int,
    epochs: int,
    *,
    train_losses: Sequence[float],
    val_accuracies: Sequence[float],
) -> float:
    """Returns the learning rate of one epoch.

    Args:
        schedule: "published": a plateau rule for maximising that is fed the training loss, factor
            0.2, patience 5, as in the authors' program: it falls out as 0.01 for 7 epochs, 0.002
            for 6, 0.0004 for 6, …; "published-source": the same with factor 0.5; "report": halved
            whenever the validation accuracy has not risen for five epochs; "constant"; "cosine":
            base · ½(1 + cos(π · epoch / epochs)).
        base: Learning rate of the first epoch.
        epoch: Counted from 0.
        epochs: How many there will be.
        train_losses: Training losses of the epochs before this one.
        val_accuracies: Validation accuracies of the epochs before this one.

    Raises:
        ValueError: An unknown schedule.
    """
    if schedule == "constant":
        return base
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    if schedule == "published":
        return base * 0.2 ** plateaus(train_losses[:epoch], patience=5)
    if schedule == "published-source":
        return base * 0.5 ** plateaus(train_losses[:epoch], patience=5)
    if schedule == "report":
        return base * 0.5 ** plateaus(val_accuracies[:epoch], patience=4)
    raise ValueError(
        f"unknown schedule {schedule!r}: choose one of {', '.join(typing.get_args(Schedule))}"
    )


def plateaus(values: Sequence[float], *, patience: int) -> int:
    """Counts how often a rising quantity has failed to rise for more than `patience` epochs.

    PyTorch's `ReduceLROnPlateau(mode="max")` with its default threshold: a value counts as a rise
    when it exceeds the best so far by a factor of 1 + 1e-4; the count restarts after each failure.

    Args:
        values: One an epoch.
        patience: Epochs without a rise that are forgiven.
    """
    best, bad, failures = -math.inf, 0, 0
    for value in values:
        if value > best * (1 + 1e-4) or best == -math.inf:
            best, bad = value, 0
        else:
            bad += 1
        if bad > patience:
            bad, failures = 0, failures + 1
    return failures
