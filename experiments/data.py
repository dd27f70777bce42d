"""Data sets as arrays: CIFAR-100 and Tiny ImageNet through TFDS, the made-up set, and their tasks.

`python -m experiments.data --dataset cifar100` prepares a data set, checks it and says what it is.
Images are decoded once, and cached as arrays beside the prepared data where that can be written to.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from experiments.errors import UserError, exit_status

CIFAR100_CLASSES, CIFAR100_SUPERCLASSES = 100, 20
TINY_IMAGENET_CLASSES = 200
_NEIGHBOURS = 5  # classes of a superclass


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


class Arrays(NamedTuple):
    """What is cached of a data set."""

    train_images: UInt8[np.ndarray, "n h w 3"]
    train_labels: Int32[np.ndarray, " n"]
    test_images: UInt8[np.ndarray, "m h w 3"]
    test_labels: Int32[np.ndarray, " m"]
    superclass: Int32[np.ndarray, " classes"]


class _Kind(NamedTuple):
    title: str
    tfds_name: str  # also the folder
    version: str
    test_split: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
_TINY = ("tiny_imagenet", "1.0.0", "validation", *_IMAGENET)
KINDS = {
    "cifar100": _Kind("CIFAR-100", "cifar100", "3.0.2", "test", *_CIFAR),
    "tiny_imagenet": _Kind("Tiny ImageNet", *_TINY),
    "tiny_imagenet32": _Kind("Tiny ImageNet at 32×32", *_TINY),
}
NAMES = ("procedural", *KINDS)


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
    if name == "procedural":
        return _load_procedural(*limits)
    if name not in KINDS:
        raise UserError(f"data set {name!r} is not known: choose one of {', '.join(NAMES)}")
    kind = KINDS[name]
    folder = data_folder(data_dir)
    arrays = _load_cached(kind, folder, cache_dir)
    if name == "cifar100":
        check_normalization(arrays.train_images, kind.mean, kind.std, folder)
    if name == "tiny_imagenet32":
        arrays = arrays._replace(
            train_images=halve(arrays.train_images), test_images=halve(arrays.test_images)
        )
    return _make(name, kind.title, arrays, kind.mean, kind.std, *limits)


def _load_procedural(train: int | None, test: int | None) -> Dataset:
    from experiments import procedural

    arrays = Arrays(*procedural.generate(0, train or 500, test or 100))
    centre, spread = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return _make("procedural", "procedural data (made up)", arrays, centre, spread, None, None)


def _make(
    name: str,
    title: str,
    arrays: Arrays,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    train_limit: int | None,
    test_limit: int | None,
) -> Dataset:
    train = first_of_each_class(arrays.train_labels, train_limit)
    test = first_of_each_class(arrays.test_labels, test_limit)
    kept = arrays._replace(
        train_images=arrays.train_images[train],
        train_labels=arrays.train_labels[train],
        test_images=arrays.test_images[test],
        test_labels=arrays.test_labels[test],
    )
    return Dataset(name, title, *kept, mean, std, fingerprint(kept))


def fingerprint(arrays: Arrays) -> str:
    """Identifies images and labels: twelve hexadecimal digits of a SHA-256."""
    digest = hashlib.sha256()
    for array in arrays[:4]:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:12]


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


def halve(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Halves both sides by area averaging: each pixel is the rounded mean of four."""
    n, height, width, channels = images.shape
    small = np.empty((n, height // 2, width // 2, channels), np.uint8)
    for start in range(0, n, 5000):  # a block at a time, as sums take two bytes
        block = images[start : start + 5000].astype(np.uint16)
        sums = block[:, ::2, ::2] + block[:, 1::2, ::2] + block[:, ::2, 1::2] + block[:, 1::2, 1::2]
        small[start : start + 5000] = (sums + 2) // 4
    return small


def superclass_count(dataset: Dataset) -> int:
    """How many superclasses the data set has."""
    return int(dataset.superclass.max()) + 1


def pair_task(dataset: Dataset, pair: tuple[int, int]) -> Task:
    """The task of two superclasses; labels are re-mapped in ascending order of the fine label."""
    return _task(dataset, f"pair-{pair[0]}-{pair[1]}", np.isin(dataset.superclass, pair))


def whole_task(dataset: Dataset) -> Task:
    """The task of all classes."""
    return _task(dataset, "all", np.ones(len(dataset.superclass), bool))


def _task(dataset: Dataset, name: str, chosen: np.ndarray) -> Task:
    new_label = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)
    rows = []
    for labels in (dataset.train_labels, dataset.test_labels):
        index = np.flatnonzero(new_label[labels] >= 0).astype(np.int32)
        rows += [index, new_label[labels[index]]]
    return Task(name, *rows, int(chosen.sum()))


# Reading prepared data


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data: as given, or TFDS's own setting."""
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return Path(default if data_dir is None else data_dir).expanduser()


def _advice(kind: _Kind, folder: Path) -> str:
    return (
        f"prepare it with `python -m experiments.data --dataset {kind.tfds_name} "
        f"--data-dir {folder}`"
    )


def _load_cached(kind: _Kind, folder: Path, cache_dir: str | os.PathLike[str] | None) -> Arrays:
    prepared = folder / kind.tfds_name / kind.version
    files = sorted(prepared.glob("*.array_record*"))
    if not files:
        raise UserError(f"there is no {kind.tfds_name} in {folder}: {_advice(kind, folder)}")
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(repr((str(prepared.resolve()), states)).encode()).hexdigest()[:12]
    places = [_cache_root(folder, cache_dir) / f"{kind.tfds_name}-{key}"]
    for place in places:
        if (arrays := _read_cache(place)) is not None:
            return arrays
    try:
        arrays = read_arrays(kind, folder)
    except Exception as error:  # TFDS and array_record raise whatever their parts raise
        raise UserError(
            f"the {kind.tfds_name} in {prepared} is damaged ({_first_line(error)}): delete that "
            f"folder, then {_advice(kind, folder)}"
        ) from error
    check_arrays(kind, arrays, folder)
    _write_cache(places[0], arrays)
    return arrays


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _quiet_tfds() -> Any:
    """Imports TFDS without its advice on packages that would be faster."""
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    import tensorflow_datasets as tfds

    return tfds


def read_arrays(kind: _Kind, folder: Path) -> Arrays:
    """Decodes a prepared data set with TFDS, in its own order."""
    tfds = _quiet_tfds()
    if kind.tfds_name == "cifar100":
        builder = tfds.builder("cifar100", data_dir=str(folder), file_format="array_record")
    else:
        builder = tfds.builder_from_directory(str(folder / kind.tfds_name / kind.version))
    splits, coarse = [], np.full(TINY_IMAGENET_CLASSES, -1, np.int32)
    for split in ("train", kind.test_split):
        source = builder.as_data_source(split)
        images = np.empty((len(source), *builder.info.features["image"].shape), np.uint8)
        labels = np.empty(len(source), np.int32)
        for row, example in enumerate(source):
            images[row], labels[row] = example["image"], example["label"]
            if "coarse_label" in example:
                coarse[labels[row]] = example["coarse_label"]
        splits += [images, labels]
    if kind.tfds_name == "cifar100":
        superclass = coarse[:CIFAR100_CLASSES]
    else:
        superclass = np.arange(TINY_IMAGENET_CLASSES, dtype=np.int32) // _NEIGHBOURS
    return Arrays(*splits, superclass)


def check_arrays(kind: _Kind, arrays: Arrays, folder: Path) -> None:
    """Checks counts and superclasses.

    Raises:
        UserError: They are not the data set's.
    """
    wrong = None
    train = np.bincount(arrays.train_labels, minlength=len(arrays.superclass))
    test = np.bincount(arrays.test_labels, minlength=len(arrays.superclass))
    expected_test = 100 if kind.tfds_name == "cifar100" else 50
    if kind.tfds_name == "cifar100" and set(train) != {500}:
        wrong = f"{train.min()} to {train.max()} training images a class instead of 500"
    elif len(set(train)) != 1 or train[0] == 0:
        # Copies of Tiny ImageNet with fewer training images are in use; all classes must agree.
        wrong = f"{train.min()} to {train.max()} training images a class, not as many of each"
    elif set(test) != {expected_test}:
        wrong = f"{test.min()} to {test.max()} test images a class instead of {expected_test}"
    elif set(np.bincount(arrays.superclass)) != {_NEIGHBOURS}:
        wrong = "superclasses that do not hold five classes each"
    if wrong:
        raise UserError(
            f"the {kind.tfds_name} in {folder} has {wrong}: delete "
            f"{folder / kind.tfds_name / kind.version}, then {_advice(kind, folder)}"
        )


def check_normalization(
    images: UInt8[np.ndarray, "n h w 3"],
    mean: Sequence[float],
    std: Sequence[float],
    folder: Path,
) -> None:
    """Checks that the images have the mean and deviation they are normalised by, within 0.01.

    Raises:
        UserError: They have not.
    """
    values = np.arange(256) / 255
    for channel in range(3):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        found_mean = float(counts @ values / counts.sum())
        found_std = float((counts @ (values - found_mean) ** 2 / counts.sum()) ** 0.5)
        if abs(found_mean - mean[channel]) > 0.01 or abs(found_std - std[channel]) > 0.01:
            raise UserError(
                f"the images in {folder} have mean {found_mean:.3f} and deviation {found_std:.3f} "
                f"in channel {channel} instead of {mean[channel]:.3f} and {std[channel]:.3f}: "
                "delete the data set and prepare it again"
            )


# The cache of decoded arrays


def _cache_root(folder: Path, cache_dir: str | os.PathLike[str] | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    if os.access(folder, os.W_OK):
        return folder / "jaxinit-cache"
    return Path.home() / ".cache" / "jaxinit" / "data"


def _read_cache(place: Path) -> Arrays | None:
    """Returns None where there is no cache, or a damaged one."""
    try:
        arrays = Arrays(*(np.load(place / f"{n}.npy", allow_pickle=False) for n in Arrays._fields))
        vouched = (place / "fingerprint").read_text()
    except (OSError, ValueError, EOFError):
        return None
    return arrays if fingerprint(arrays) == vouched else None


def _write_cache(place: Path, arrays: Arrays) -> None:
    """Writes the cache, whole or not at all; a full disk only costs the next start time."""
    partial = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=place.parent))
        for name, array in zip(Arrays._fields, arrays, strict=True):
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        (partial / "fingerprint").write_text(fingerprint(arrays))
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    except OSError:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


# Preparing


def prepare(name: str, folder: Path, archive: Path | None = None) -> None:
    """Downloads a data set, or takes a local archive, and prepares it for TFDS.

    Args:
        name: "cifar100" or "tiny_imagenet".
        folder: TFDS's data folder.
        archive: The official archive or the folder it was unpacked in; downloaded where None.

    Raises:
        UserError: No network, a damaged archive, a folder that cannot be written to.
    """
    tfds = _quiet_tfds()
    from experiments import tfds_builders

    if archive is not None and not archive.exists():
        raise UserError(f"there is no archive {archive}: give the path of the official archive")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        builder = tfds_builders.builder(name, folder, archive)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except Exception as error:  # TFDS raises whatever its parts raise
        source = "the network" if archive is None else str(archive)
        remedy = (
            "check the connection and that the folder can be written to, or download the archive "
            "elsewhere and give it as --archive"
            if archive is None
            else "check that it is the official archive and that the folder can be written to"
        )
        raise UserError(
            f"{name} could not be prepared in {folder} from {source} ({_first_line(error)}): "
            f"{remedy}"
        ) from error


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
        if options.dataset in KINDS:
            kind, folder = KINDS[options.dataset], data_folder(options.data_dir)
            if not any((folder / kind.tfds_name / kind.version).glob("*.array_record*")):
                prepare(kind.tfds_name, folder, options.archive)
        dataset = load(options.dataset, data_dir=options.data_dir)
        classes = len(dataset.superclass)
        print(
            f"{dataset.title}: {classes} classes in {superclass_count(dataset)} superclasses, "
            f"{len(dataset.train_labels) // classes} training and "
            f"{len(dataset.test_labels) // classes} test images a class, "
            f"{'×'.join(map(str, dataset.train_images.shape[1:]))}, {dataset.fingerprint}"
        )


if __name__ == "__main__":
    sys.exit(main())
