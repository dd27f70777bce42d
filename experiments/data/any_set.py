"""Any data set: what its name stands for, and how it becomes images, labels and what is said.

A name is that of a folder, of an `.npz` file, or of a data set of TFDS. What fits into memory is
decoded once and kept as arrays; the rest is decoded whenever it is asked for.
"""

import contextlib
import hashlib
import math
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from experiments.cli.errors import UserError
from experiments.cli.options import check
from experiments.cli.progress import say
from experiments.data import arrays_in_npz, folders, moments, stored, tfds_sets
from experiments.data.decoded import DecodedRows
from experiments.data.image_rows import ImageRows
from experiments.data.kinds import KINDS
from experiments.data.splits import Splits
from experiments.data.stored import Arrays
from experiments.records import files as files_of_records

IN_MEMORY = 4 * 2**30  # bytes of decoded images, of both parts: more are decoded when asked for
NAMES = ("procedural", *KINDS)
_NO_GROUPS = np.zeros(0, np.int32)  # in the cache, which knows none


Stream = Literal["auto", "always", "never"]


class Named(NamedTuple):
    """What the name of a data set stands for."""

    form: Literal["known", "folder", "npz", "tfds"]
    name: str  # that of `NAMES` or TFDS, or the path

    @property
    def recorded(self) -> str:
        """The name in records: ASCII, and no path."""
        if self.form in ("known", "tfds"):
            return _plain(self.name) if self.form == "tfds" else self.name
        path = Path(os.path.abspath(os.path.expanduser(self.name)))
        own = path.stem if self.form == "npz" else path.name
        return f"{self.form}-{_plain(own)}".rstrip("-")


def named(name: str, folder: Path) -> Named:
    """Finds out what a name stands for.

    Args:
        name: One of `NAMES`, a path, or a name of TFDS, which `tfds:` may precede.
        folder: TFDS's data folder.

    Raises:
        UserError: It stands for nothing.
    """
    own = name.removeprefix("tfds:")
    if own in NAMES:
        return Named("known", own)
    if own != name:
        return Named("tfds", own)
    path = Path(os.path.expanduser(name))
    is_path = "/" in name or os.sep in name
    if path.suffix.lower() == ".npz" and os.path.isfile(path):
        return Named("npz", name)
    if is_path and os.path.isdir(path):
        return Named("folder", name)
    if tfds_sets.is_known(name, folder):
        return Named("tfds", name)
    if os.path.isdir(path):
        return Named("folder", name)
    check(
        not os.path.exists(path),
        f"{name} is a file, but no .npz file: give one, or a folder of images",
    )
    check(not is_path and path.suffix.lower() != ".npz", f"there is no {name}: check the path")
    raise UserError(
        f"data set {name!r} is not known: choose one of {', '.join(NAMES)}, a name that TFDS "
        "knows, a folder of images or an .npz file"
    )


def _plain(text: str) -> str:
    """Brings a text to the letters, digits, dashes and underscores of ASCII."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", ascii_only).strip("-")


def read(known: Named, folder: Path, *, split_seed: int, side: int | None) -> Splits:
    """Reads labels and what images say of themselves; decodes none that is encoded.

    Args:
        known: What the name stands for, none of `NAMES`.
        folder: TFDS's data folder.
        split_seed: Of the part that is held out where there are no test images.
        side: To which the images are resized; as they are where None.

    Raises:
        UserError: There is no such data set, or one that cannot be used.
    """
    if known.form == "tfds":
        return tfds_sets.read(known.name, folder, split_seed=split_seed, side=side)
    reader = arrays_in_npz.read if known.form == "npz" else folders.read
    path = Path(os.path.expanduser(known.name))
    return reader(path, known.recorded, split_seed=split_seed, side=side)


def limited(found: Splits, train: int | None, test: int | None) -> Splits:
    """Keeps at most the first so many images of each class, in their order; all where None."""
    notes = list(found.notes)
    parts = []
    for part, most, what in ((found.train, train, "training"), (found.test, test, "test")):
        counts = np.bincount(part.labels)
        parts.append(part if most is None else part.only(_first(part.labels, most)))
        if most is not None and (fewer := int((counts < most).sum())):
            notes.append(
                f"{fewer} of {len(counts)} classes have fewer than {most} {what} images (the "
                f"smallest {counts.min()}): all of theirs are taken"
            )
    return found._replace(train=parts[0], test=parts[1], notes=tuple(notes))


def _first(labels: np.ndarray, most: int) -> np.ndarray:
    order = np.argsort(labels, kind="stable")
    own = labels[order]
    place = np.arange(len(own)) - np.searchsorted(own, own)  # among those of its class
    return np.sort(order[place < most])


def decode(
    found: Splits, cache_roots: Sequence[Path], *, stream: Stream
) -> tuple[ImageRows, ImageRows]:
    """Decodes the images of both parts, or leaves them encoded where they take too much memory.

    Args:
        found: The parts.
        cache_roots: Folders for decoded arrays, of which the first that can be written to is used.
        stream: Whether they stay encoded: always, never, or where they take more than `IN_MEMORY`.

    Returns:
        The training and the test images.

    Raises:
        UserError: One cannot be decoded.
    """
    train, test = found.train.images, found.test.images
    size = sum(math.prod(one.shape) for one in (train, test))
    if not isinstance(train, DecodedRows) or not isinstance(test, DecodedRows):
        return train, test
    if stream == "always" or (stream == "auto" and size > IN_MEMORY):
        return train, test
    places = [root / f"decoded-{_key(train, test)}" for root in cache_roots]
    for place in places:
        if (cached := stored.read_cache(place)) is not None:
            return cached[0].train_images, cached[0].test_images
    arrays = Arrays(_array(train), found.train.labels, _array(test), found.test.labels, _NO_GROUPS)
    any(stored.write_cache(place, arrays, stored.fingerprint(arrays)) for place in places)
    return arrays.train_images, arrays.test_images


def _key(*parts: Any) -> str:
    states = [part.state() if isinstance(part, DecodedRows) else part for part in parts]
    return hashlib.sha256(repr((stored.CACHE_LAYOUT, states)).encode()).hexdigest()[:12]


def _array(images: DecodedRows) -> UInt8[np.ndarray, "n h w c"]:
    made, done = np.empty(images.shape, np.uint8), 0
    for block in moments.blocks(images):
        made[done : done + len(block)] = block
        done += len(block)
    return made


class Rows(NamedTuple):
    """`Arrays`, the images of which may be encoded still."""

    train_images: ImageRows
    train_labels: Int32[np.ndarray, " n"]
    test_images: ImageRows
    test_labels: Int32[np.ndarray, " m"]
    superclass: Int32[np.ndarray, " classes"]


class Measured(NamedTuple):
    """What is measured of images and labels."""

    mean: tuple[float, ...]  # of each channel of the training images, of values in [0, 1]
    std: tuple[float, ...]  # likewise; 1 where a channel never changes
    fingerprint: str


def measure(arrays: Rows, cache_roots: Sequence[Path]) -> Measured:
    """Measures the training images' channels, and identifies all that decides a run's numbers.

    The fingerprint is of images, labels, superclasses, and of the shapes and types of them all;
    whether images are decoded already makes no difference.

    Args:
        arrays: Images may be encoded still.
        cache_roots: Folders for what was measured of encoded images.
    """
    encoded = isinstance(arrays.train_images, DecodedRows)
    states = (
        [a if isinstance(a, DecodedRows) else np.asarray(a).tolist() for a in arrays]
        if encoded
        else []
    )
    files = [root / f"measured-{_key(*states)}.json" for root in cache_roots if encoded]
    for file in files:
        with contextlib.suppress(UserError, KeyError):  # measured anew where it is damaged
            found = files_of_records.read_json(file)
            if found["of"] == file.name:
                return Measured(tuple(found["mean"]), tuple(found["std"]), found["fingerprint"])
    if encoded:
        say(f"measuring {len(arrays.train_labels) + len(arrays.test_labels)} images, once")
    measured = _measure(arrays)
    for file in files:
        with contextlib.suppress(UserError, OSError):
            content = {"schema_version": files_of_records.SCHEMA_VERSION, "of": file.name}
            files_of_records.write_json({**content, **measured._asdict()}, file)
            break
    return measured


def _measure(arrays: Rows) -> Measured:
    digest = hashlib.sha256(repr([(a.shape, a.dtype.str) for a in arrays]).encode())
    histogram = moments.Histogram(arrays.train_images.shape[-1])
    for block in moments.blocks(arrays.train_images):
        histogram.add(block)
        digest.update(np.ascontiguousarray(block).data)
    for block in moments.blocks(arrays.test_images):
        digest.update(np.ascontiguousarray(block).data)
    for labels in (arrays.train_labels, arrays.test_labels, arrays.superclass):
        digest.update(np.ascontiguousarray(labels).data)
    mean, std = histogram.moments()
    return Measured(
        tuple(mean.tolist()),
        tuple(np.where(std > 0, std, 1.0).tolist()),
        digest.hexdigest()[:12],
    )
