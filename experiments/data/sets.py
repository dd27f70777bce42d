"""Data sets in memory: CIFAR-100 and Tiny ImageNet through TFDS, and the made-up set.

`python -m experiments.data --dataset cifar100` prepares a data set, checks it and says what it is.
Images are decoded once, and cached as arrays beside the prepared data where that can be written to.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from experiments.cli.errors import UserError, exit_status
from experiments.cli.options import Count, Settings, one_of, parse_one
from experiments.data import stored
from experiments.data.kinds import KINDS
from experiments.data.stored import Arrays

NAMES = ("procedural", *KINDS)
DatasetName = Annotated[str, one_of(NAMES)]


@dataclasses.dataclass(frozen=True)
class Data(Settings):
    """Which images."""

    # procedural (made up, no files), cifar100, tiny_imagenet (64x64) or tiny_imagenet32
    dataset: DatasetName = "procedural"
    # folder of the prepared data sets (TFDS's own setting where not given)
    data_dir: str | None = None
    # use the first so many training images of each class (all where not given)
    train_images_per_class: Count | None = None
    # use the first so many test images of each class (all where not given)
    test_images_per_class: Count | None = None
    # read the images from where they are while training, as large sets need: auto is where they
    # would not fit the device; it changes no result
    stream: Literal["auto", "always", "never"] = "auto"


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
    stream: str = "auto"  # whether training reads the images as it needs them, as `Data.stream`


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
    if name not in KINDS:
        raise UserError(f"data set {name!r} is not known: choose one of {', '.join(NAMES)}")
    kind = KINDS[name]
    arrays, identity = stored.load(name, data_folder(data_dir), cache_dir)
    if limits != (None, None):
        arrays = _limit(arrays, *limits)
        identity = stored.fingerprint(arrays)
    return Dataset(name, kind.title, *arrays, kind.mean, kind.std, identity)


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data: as given, or TFDS's own setting."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(default if data_dir is None else data_dir).expanduser()


def _load_procedural(train: int | None, test: int | None) -> Dataset:
    from experiments.data import procedural

    arrays = Arrays(*procedural.generate(0, train or 500, test or 100))
    centre, spread = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    title = "procedural data (made up)"
    return Dataset("procedural", title, *arrays, centre, spread, stored.fingerprint(arrays))


def _limit(arrays: Arrays, train_limit: int | None, test_limit: int | None) -> Arrays:
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


@functools.lru_cache(maxsize=2)
def load_data(settings: Data) -> Dataset:
    """Loads the images that the settings name, and keeps them for the next experiment."""
    loaded = load(
        settings.dataset,
        data_dir=settings.data_dir,
        train_images_per_class=settings.train_images_per_class,
        test_images_per_class=settings.test_images_per_class,
    )
    return loaded._replace(stream=settings.stream)


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What identifies the data, recorded with each run."""
    return {
        "data_set": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "train_images": len(dataset.train_labels),
        "test_images": len(dataset.test_labels),
    }


@dataclasses.dataclass(frozen=True)
class Prepare(Settings):
    """Which data set is prepared."""

    # which data set
    dataset: DatasetName
    # folder of the prepared data sets (TFDS's own setting where not given)
    data_dir: str | None = None
    # the official archive, or the folder it was unpacked in (downloaded where not given)
    archive: str | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Prepares a data set where it is missing, checks it, and says what it is."""
    with exit_status():
        asked = parse_one(Prepare, argv, program="python -m experiments.data", about=main.__doc__)
        folder = data_folder(asked.data_dir)
        kind = KINDS.get(asked.dataset)
        if kind is None and asked.archive:
            raise UserError(
                f"--archive does not go with {asked.dataset}, which is made up: omit it"
            )
        if kind is not None and not stored.shards(kind, folder):
            from experiments.data import tfds_builders

            archive = Path(asked.archive) if asked.archive else None
            tfds_builders.prepare(kind.tfds_name, folder, archive)
        print(describe(load(asked.dataset, data_dir=folder), folder))


def describe(dataset: Dataset, folder: Path) -> str:
    """Says what was loaded, in a few lines."""
    classes = len(dataset.superclass)
    moments = stored.channel_moments(dataset.train_images)
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
