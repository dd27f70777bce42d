"""Data sets as TFDS keeps them: decoded once, checked, and cached as arrays.

The cache lies beside the prepared data where that can be written to.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from experiments.cli.errors import UserError, first_line
from experiments.cli.processes import own_cache
from experiments.data.kinds import KINDS, Kind
from experiments.data.moments import channel_moments
from experiments.records import checksums
from jaxinit import whole_files

_PER_SUPERCLASS = 5
_LARGEST = 2**24  # bytes of a features.json
_CLASS = ("pythonClassName", "python_class_name")  # either is read
CACHE_LAYOUT = 1  # to be raised where the arrays or their order change


class Arrays(NamedTuple):
    """What is cached of a data set."""

    train_images: UInt8[np.ndarray, "n h w c"]
    train_labels: Int32[np.ndarray, " n"]
    test_images: UInt8[np.ndarray, "m h w c"]
    test_labels: Int32[np.ndarray, " m"]
    superclass: Int32[np.ndarray, " classes"]


class Split(NamedTuple):
    """One split as prepared, in the order of its ids."""

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Int32[np.ndarray, " n"]
    coarse: Int32[np.ndarray, " n"]  # coarse labels; −1 where the data set has none
    ids: Sequence[str]


def _command(kind: Kind, folder: Path | str) -> str:
    return f"`python -m experiments.data --dataset {kind.tfds_name} --data-dir {folder}`"


def shards(kind: Kind, folder: Path) -> list[Path]:
    """Lists the files of a prepared data set; none where it is not there."""
    prepared = folder / kind.tfds_name / kind.version
    files = sorted(prepared.glob("*.array_record*"))
    if not files and any(prepared.glob("*.tfrecord*")):
        raise UserError(
            f"the {kind.tfds_name} in {prepared} is in a format that only TensorFlow reads: "
            f"prepare it elsewhere with {_command(kind, 'ANOTHER_FOLDER')}"
        )
    return files


def load(name: str, folder: Path, cache_dir: str | os.PathLike[str] | None) -> tuple[Arrays, str]:
    """Returns the arrays and their fingerprint, from the cache where it has them."""
    kind = KINDS[name]
    if not (files := shards(kind, folder)):
        raise UserError(
            f"there is no {kind.tfds_name} in {folder}: prepare it with {_command(kind, folder)}"
        )
    states = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(repr((CACHE_LAYOUT, states)).encode()).hexdigest()[:12]
    places = [root / f"{name}-{key}" for root in cache_roots(folder, cache_dir)]
    for place in places:
        if (cached := read_cache(place)) is not None:
            return cached
    if kind.halved is not None:
        whole, _ = load(kind.halved, folder, cache_dir)
        arrays = whole._replace(
            train_images=halve(whole.train_images), test_images=halve(whole.test_images)
        )
    else:
        arrays = _read_checked(kind, folder)
    identity = fingerprint(arrays)
    any(write_cache(place, arrays, identity) for place in places)  # the first that can be written
    return arrays, identity


def _read_checked(kind: Kind, folder: Path) -> Arrays:
    prepared = folder / kind.tfds_name / kind.version
    try:
        builder = open_builder(kind, folder)
        return check_splits(
            kind, read_split(builder, "train"), read_split(builder, kind.test_split)
        )
    except Exception as error:  # TFDS and array_record raise whatever their parts raise
        raise UserError(
            f"the {kind.tfds_name} in {prepared} is damaged ({first_line(error)}): delete that "
            f"folder, then prepare it with {_command(kind, folder)}"
        ) from error


def quiet_tfds() -> Any:
    """Imports TFDS without its advice on packages that would be faster."""
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    import tensorflow_datasets as tfds

    return tfds


def open_builder(kind: Kind, folder: Path) -> Any:
    """Returns TFDS's builder of a prepared data set; never asks the network."""
    tfds = quiet_tfds()
    check_features(folder / kind.tfds_name / kind.version)
    if kind.in_tfds:
        return tfds.builder(kind.tfds_name, data_dir=str(folder), file_format="array_record")
    return tfds.builder_from_directory(str(folder / kind.tfds_name / kind.version))


def check_features(place: Path) -> None:
    """Makes sure that features.json names only classes of TFDS, which imports whatever it names.

    Raises:
        ValueError: It names another, or is no such file.
        OSError: It cannot be read.
    """
    file = place / "features.json"
    with file.open("rb") as content:
        text = content.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError("features.json is larger than TFDS writes it")
    try:
        waiting = [json.loads(text)]
    except RecursionError:
        raise ValueError("features.json is too deeply nested") from None
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            for name in (value[key] for key in _CLASS if isinstance(value.get(key), str)):
                if not re.fullmatch(r"tensorflow_datasets(\.\w+)+", name):
                    raise ValueError(f"features.json names {name}, which is no class of TFDS")


def read_split(builder: Any, split: str) -> Split:
    """Decodes a split with TFDS and puts it in the order of its ids, which TFDS shuffles."""
    source = builder.as_data_source(split)
    count = len(source)
    images = np.empty((count, *builder.info.features["image"].shape), np.uint8)
    labels, coarse, ids = np.empty(count, np.int32), np.empty(count, np.int32), []
    for row, example in enumerate(source):
        images[row], labels[row] = example["image"], example["label"]
        coarse[row] = example.get("coarse_label", -1)
        text = example["id"]
        ids.append(text.decode() if isinstance(text, bytes) else str(text))
    order = np.asarray(sorted(range(count), key=ids.__getitem__), np.int64)
    return Split(images[order], labels[order], coarse[order], [ids[row] for row in order])


def check_splits(kind: Kind, train: Split, test: Split) -> Arrays:
    """Checks ids, counts, superclasses and normalisation.

    Raises:
        ValueError: They are not the data set's.
    """
    if kind.numbered:
        check_ids(train.ids, "train")
        check_ids(test.ids, "test")
    check_counts(train.labels, kind.classes, kind.train_per_class, "training")
    check_counts(test.labels, kind.classes, kind.test_per_class, "test")
    if kind.coarse:
        labels = np.append(train.labels, test.labels)
        superclass = superclass_of(labels, np.append(train.coarse, test.coarse), kind.classes)
    else:
        superclass = np.arange(kind.classes, dtype=np.int32) // _PER_SUPERCLASS
    check_normalization(train.images, kind)
    return Arrays(train.images, train.labels, test.images, test.labels, superclass)


def check_ids(ids: Sequence[str], split: str) -> None:
    """Checks that the ids count from 0 without a gap, as `train_00000`, and stand in this order."""
    for number, found in enumerate(ids):
        if found != (expected := f"{split}_{number:05d}"):
            raise ValueError(f"image {number} of {split} is {found!r} instead of {expected!r}")


def check_counts(
    labels: Int32[np.ndarray, " n"], classes: int, per_class: int | None, what: str
) -> None:
    """Checks that there are as many images of each class: `per_class`, or any number if None."""
    counts = np.bincount(labels, minlength=classes)
    expected = counts[0] if per_class is None else per_class
    if len(counts) > classes:
        raise ValueError(f"a label is {labels.max()}, but there are {classes} classes")
    if expected == 0 or (counts != expected).any():
        wanted = "as many of each" if per_class is None else f"{per_class} of each"
        found = " to ".join(str(count) for count in sorted({counts.min(), counts.max()}))
        raise ValueError(
            f"there are {found} {what} images of a class, but there should be {wanted}"
        )


def superclass_of(
    labels: Int32[np.ndarray, " n"], coarse: Int32[np.ndarray, " n"], classes: int
) -> Int32[np.ndarray, " classes"]:
    """Finds the superclass of each class.

    Raises:
        ValueError: Images of a class have different ones, or a superclass has not five classes.
    """
    superclass = np.zeros(classes, np.int32)
    superclass[labels] = coarse
    if (differing := labels[superclass[labels] != coarse]).size:
        raise ValueError(f"images of class {differing[0]} have different coarse labels")
    sizes = np.bincount(superclass, minlength=classes // _PER_SUPERCLASS)
    if (sizes != _PER_SUPERCLASS).any():
        raise ValueError(f"superclass {np.argmax(sizes != _PER_SUPERCLASS)} has not five classes")
    return superclass


def check_normalization(images: UInt8[np.ndarray, "n h w 3"], kind: Kind) -> None:
    """Checks that the images have about the mean and deviation that they are normalised by.

    Raises:
        ValueError: They have not.
    """
    for what, found, expected in zip(
        ("mean", "std"), channel_moments(images), (kind.mean, kind.std), strict=True
    ):
        if (np.abs(found - expected) > kind.tolerance).any():
            numbers = ", ".join(f"{x:.3f}" for x in found)
            raise ValueError(f"the channels have {what} {numbers} instead of about {expected}")


def halve(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Halves both sides by area averaging: each pixel is the rounded mean of four."""
    n, height, width, channels = images.shape
    small = np.empty((n, height // 2, width // 2, channels), np.uint8)
    for start in range(0, n, 5000):  # a block at a time, as sums take two bytes
        block = images[start : start + 5000].astype(np.uint16)
        sums = block[:, ::2, ::2] + block[:, 1::2, ::2] + block[:, ::2, 1::2] + block[:, 1::2, 1::2]
        small[start : start + 5000] = (sums + 2) // 4
    return small


# The cache of decoded arrays


def cache_roots(folder: Path | None, cache_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Where decoded arrays may lie: as given, else beside prepared data, else with the user."""
    if cache_dir is not None:
        return [Path(os.path.expanduser(cache_dir))]
    user = own_cache("data")
    roots = [] if user is None else [user]
    # Asked for, as root can write even where it should not.
    if folder is None or not folder.stat().st_mode & 0o200:
        return roots
    return [folder / "jaxinit-cache", *roots]


def read_cache(place: Path) -> tuple[Arrays, str] | None:
    """Returns what is cached and its fingerprint; None where nothing is, or it is damaged."""
    files = [place / f"{name}.npy" for name in Arrays._fields]
    if not all(file.is_file() for file in (*files, place / "fingerprint")):
        return None
    try:
        arrays = Arrays(*(np.load(file, allow_pickle=False) for file in files))
        vouched, checksum = (place / "fingerprint").read_text().split()
    except Exception:  # NumPy raises whatever its parts raise
        return None
    return (arrays, vouched) if _checksum(place, arrays, vouched) == checksum else None


def _checksum(place: Path, arrays: Arrays, identity: str) -> str:
    """Of a cache: of all its arrays, their fingerprint, and where it lies."""
    return checksums.of_arrays({
        f"{place.name} {identity} {name}": array
        for name, array in zip(Arrays._fields, arrays, strict=True)
    })  # fmt: skip


def write_cache(place: Path, arrays: Arrays, identity: str) -> bool:
    """Writes the cache, whole or not at all; a full disk only costs the next start time.

    What killed processes left half written beside it is removed.
    """
    partial = whole_files.partial(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        whole_files.clean(place.parent)
        partial.mkdir()
        for name, array in zip(Arrays._fields, arrays, strict=True):
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        (partial / "fingerprint").write_text(f"{identity}\n{_checksum(place, arrays, identity)}\n")
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        return False
    return True


def fingerprint(arrays: Arrays) -> str:
    """Identifies images and labels: twelve hexadecimal digits of a SHA-256."""
    digest = hashlib.sha256()
    for array in arrays[:4]:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]
