"""Data sets as arrays: CIFAR-100 and Tiny ImageNet through TFDS, the made-up set, and their tasks.

`python -m experiments.data --dataset cifar100` prepares a data set, checks it and says what it is.
Images are decoded once, and cached as arrays beside the prepared data where that can be written to.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from experiments import prepared
from experiments.errors import UserError, exit_status

NAMES = ("procedural", *prepared.KINDS)


class Dataset(NamedTuple):
    """A data set in memory."""

    name: str  # "cifar100", "tiny_imagenet", "tiny_imagenet32" or "procedural"
    title: str  # for figures
    train_images: UInt8[np.ndarray, "n h w 3"]
    train_labels: Int32[np.ndarray, " n"]  # fine classes
    test_images: UInt8[np.ndarray, "m h w 3"]
    test_labels: Int32[np.ndarray, " m"]
    superclass: Int32[np.ndarray, " classes"]  # of each fine class
    mean: tuple[float, float, float]  # of each channel, of values in [0, 1]
    std: tuple[float, float, float]
    fingerprint: str  # identifies the arrays


class Task(NamedTuple):
    """Some classes of a data set, as rows of its images, with labels from 0."""

    name: str  # "pair-10-14" or "all"
    train_index: Int32[np.ndarray, " n"]
    train_labels: Int32[np.ndarray, " n"]
    test_index: Int32[np.ndarray, " m"]
    test_labels: Int32[np.ndarray, " m"]
    classes: int


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    train_images_per_class: int | None = None,
    test_images_per_class: int | None = None,
) -> Dataset:
    """Loads a data set into memory and checks it.

    Args:
        name: One of `NAMES`.
        data_dir: TFDS's data folder; where not given, TFDS's own setting: the environment variable
            TFDS_DATA_DIR, else `~/tensorflow_datasets`.
        cache_dir: Where decoded arrays are kept; beside the prepared data where not given, or in
            `~/.cache/jaxinit` if that cannot be written to.
        train_images_per_class: Keep the first so many of each class; all where not given.
        test_images_per_class: Likewise.

    Raises:
        UserError: An unknown name; a data set that is missing or damaged.
    """
    limits = (train_images_per_class, test_images_per_class)
    if any(limit is not None and limit < 1 for limit in limits):
        raise UserError("fewer than 1 image a class is asked for: ask for 1 or more")
    if name == "procedural":
        return _load_procedural(*limits)
    if name not in prepared.KINDS:
        raise UserError(f"data set {name!r} is not known: choose one of {', '.join(NAMES)}")
    kind = prepared.KINDS[name]
    arrays, identity = prepared.load(name, data_folder(data_dir), cache_dir)
    if limits != (None, None):
        arrays = _limit(arrays, *limits)
        identity = prepared.fingerprint(arrays)
    return Dataset(name, kind.title, *arrays, kind.mean, kind.std, identity)


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data: as given, or TFDS's own setting."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(default if data_dir is None else data_dir).expanduser()


def _load_procedural(train: int | None, test: int | None) -> Dataset:
    from experiments import procedural

    arrays = prepared.Arrays(*procedural.generate(0, train or 500, test or 100))
    centre, spread = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    title = "procedural data (made up)"
    return Dataset("procedural", title, *arrays, centre, spread, prepared.fingerprint(arrays))


def _limit(
    arrays: prepared.Arrays, train_limit: int | None, test_limit: int | None
) -> prepared.Arrays:
    train = first_of_each_class(arrays.train_labels, train_limit)
    test = first_of_each_class(arrays.test_labels, test_limit)
    return arrays._replace(
        train_images=arrays.train_images[train],
        train_labels=arrays.train_labels[train],
        test_images=arrays.test_images[test],
        test_labels=arrays.test_labels[test],
    )


def first_of_each_class(labels: Int32[np.ndarray, " n"], count: int | None) -> Any:
    """Indexes the first `count` rows of each class, in their order; all where None.

    Raises:
        UserError: A class has fewer.
    """
    if count is None:
        return slice(None)
    fewest = int(np.bincount(labels).min())
    if count > fewest:
        raise UserError(
            f"{count} images a class are asked for, but there are {fewest}: ask for less"
        )
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    return np.sort((order[starts[:, None] + np.arange(count)]).ravel())


def superclass_count(dataset: Dataset) -> int:
    """How many superclasses the data set has."""
    return int(dataset.superclass.max()) + 1


def pair_task(dataset: Dataset, pair: tuple[int, int]) -> Task:
    """The task of two superclasses; labels are re-mapped in ascending order of the fine label.

    Raises:
        UserError: The data set lacks one of them, or they are the same.
    """
    count = superclass_count(dataset)
    if pair[0] == pair[1] or min(pair) < 0 or max(pair) >= count:
        raise UserError(
            f"{pair[0]}-{pair[1]} is no pair of {dataset.title}: give two different superclasses "
            f"of 0 to {count - 1}"
        )
    return _task(dataset, f"pair-{pair[0]}-{pair[1]}", np.isin(dataset.superclass, pair))


def task(dataset: Dataset, pair: tuple[int, int] | None) -> Task:
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


def main(argv: Sequence[str] | None = None) -> None:
    """Prepares a data set where it is missing, checks it, and says what it is."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.data", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--dataset", choices=NAMES, required=True, help="which data set")
    parser.add_argument("--data-dir", help="folder of the data (default: TFDS's own setting)")
    parser.add_argument(
        "--archive", type=Path, help="the official archive, or its folder (default: download it)"
    )
    options = parser.parse_args(argv)
    with exit_status():
        folder = data_folder(options.data_dir)
        kind = prepared.KINDS.get(options.dataset)
        if kind is not None and not prepared.shards(kind, folder):
            from experiments import tfds_builders

            tfds_builders.prepare(kind.tfds_name, folder, options.archive)
        dataset = load(options.dataset, data_dir=folder)
        print(describe(dataset, folder))


def describe(dataset: Dataset, folder: Path) -> str:
    """Says what was loaded, in a few lines."""
    classes = len(dataset.superclass)
    moments = prepared.channel_moments(dataset.train_images)
    mean, std = (", ".join(f"{x:.4f}" for x in moment) for moment in moments)
    place = "made up in memory" if dataset.name == "procedural" else f"in {folder}"
    return (
        f"{dataset.title}, {place}: {classes} classes in {superclass_count(dataset)} superclasses\n"
        f"{len(dataset.train_labels) // classes} training and "
        f"{len(dataset.test_labels) // classes} test images a class, "
        f"{'×'.join(map(str, dataset.train_images.shape[1:3]))} pixels\n"
        f"mean ({mean}), std ({std}) of the training images\n"
        f"fingerprint {dataset.fingerprint}"
    )


if __name__ == "__main__":
    sys.exit(main())
