"""Tasks: some classes of a data set, as rows of its images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from experiments.cli.errors import UserError
from experiments.cli.options import Pair, check
from experiments.data import sets
from experiments.data.sets import Dataset


class Task(NamedTuple):
    """Some classes of a data set, as rows of its images, with labels from 0."""

    name: str  # "pair-10-14" or "all"
    train_index: Int32[np.ndarray, " n"]
    train_labels: Int32[np.ndarray, " n"]
    test_index: Int32[np.ndarray, " m"]
    test_labels: Int32[np.ndarray, " m"]
    classes: int

    @property
    def size(self) -> tuple[int, int]:
        """How many training and test images it has."""
        return len(self.train_labels), len(self.test_labels)


def pair_task(dataset: Dataset, pair: tuple[int, int]) -> Task:
    """The task of two superclasses; labels are re-mapped in ascending order of the fine label.

    Raises:
        UserError: The data set lacks one of them, or they are the same.
    """
    count = sets.superclass_count(dataset)
    if pair[0] == pair[1] or min(pair) < 0 or max(pair) >= count:
        raise UserError(
            f"{pair[0]}-{pair[1]} is no pair of {dataset.title}: give two different "
            f"{sets.called(dataset)} of 0 to {count - 1}"
        )
    return _task(dataset, f"pair-{pair[0]}-{pair[1]}", np.isin(dataset.superclass, pair))


def task_of(dataset: Dataset, pair: tuple[int, int] | None) -> Task:
    """The task of a pair, or of all classes where that is None."""
    return whole_task(dataset) if pair is None else pair_task(dataset, pair)


def whole_task(dataset: Dataset) -> Task:
    """The task of all classes."""
    return _task(dataset, "all", np.ones(len(dataset.superclass), bool))


def _task(dataset: Dataset, name: str, chosen: np.ndarray) -> Task:
    new_label = (np.cumsum(chosen) - 1).astype(np.int32)
    train = np.flatnonzero(chosen[dataset.train_labels]).astype(np.int32)
    test = np.flatnonzero(chosen[dataset.test_labels]).astype(np.int32)
    return Task(
        name=name,
        train_index=train,
        train_labels=new_label[dataset.train_labels[train]],
        test_index=test,
        test_labels=new_label[dataset.test_labels[test]],
        classes=int(chosen.sum()),
    )


def check_pairs(pairs: Sequence[Pair], dataset: Dataset) -> None:
    """Raises a `UserError` where the data set lacks a superclass."""
    count = sets.superclass_count(dataset)
    for pair in pairs:
        check(
            min(pair) >= 0 and max(pair) < count,
            f"pair {pair[0]}-{pair[1]} is out of range: {dataset.title} has "
            f"{sets.called(dataset)} 0 to {count - 1}",
        )


def task_name(pair: Pair | None) -> str:
    """Names the task of a pair of superclasses: "pair-10-14"; or of all classes: "all"."""
    return "all" if pair is None else f"pair-{pair[0]}-{pair[1]}"


def sample(
    dataset: Dataset, task: Task, count: int, *, normalize: bool
) -> Float32[np.ndarray, "n h w c"]:
    """Training images of a task, evenly over its classes, as the network sees them.

    Args:
        dataset: Holds them.
        task: Whose images.
        count: How many at most.
        normalize: By the data set's mean and deviation; otherwise values are in [0, 1].
    """
    by_class = np.argsort(task.train_labels, kind="stable")
    chosen = by_class[np.linspace(0, len(by_class) - 1, min(count, len(by_class))).astype(int)]
    images = np.asarray(dataset.train_images[np.sort(task.train_index[chosen])], np.float32) / 255
    if not normalize:
        return images
    mean, std = (np.asarray(of, np.float32) for of in (dataset.mean, dataset.std))
    return (images - mean) / std
