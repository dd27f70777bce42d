"""Data sets, most in memory: those that are known, and any other.

`python -m experiments.data --dataset cifar100` prepares a data set, checks it and says what it is.
Images are decoded once, and cached as arrays where that can be written to.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge
from jaxtyping import Int32

from experiments.cli.errors import UserError, exit_status
from experiments.cli.options import (
    Count,
    ImageSize,
    ImagesPerClass,
    PathText,
    Settings,
    check,
    parse_one,
)
from experiments.cli.progress import say
from experiments.data import any_set, arrays_in_npz, class_groups, decoded, stored, tfds_sets
from experiments.data.any_set import NAMES as NAMES
from experiments.data.any_set import Named, Stream
from experiments.data.image_rows import ImageRows
from experiments.data.kinds import KINDS
from experiments.data.moments import channel_moments
from experiments.data.stored import Arrays
from experiments.records.files import JSON

Seed = Annotated[int, Ge(0)]
_LISTED, _USUAL = 20, 5  # groups that a description lists, and classes of each


@dataclasses.dataclass(frozen=True)
class Data(Settings):
    """Which images."""

    # procedural (made up, no files), cifar100, tiny_imagenet (64x64), tiny_imagenet32; a folder of
    # images (FOLDER/class/*.jpg, or FOLDER/train/class/... and FOLDER/test/class/...); an .npz file
    # of images and labels; or any name of TensorFlow Datasets, such as mnist or tfds:mnist
    dataset: str = "procedural"
    # folder of the prepared data sets (TFDS's own setting where not given)
    data_dir: PathText | None = None
    # use the first so many training images of each class (all where not given)
    train_images_per_class: ImagesPerClass | None = None
    # use the first so many test images of each class (all where not given)
    test_images_per_class: ImagesPerClass | None = None
    # pixels a side to which images are brought: the middle square is cut out, then resized by
    # averaging areas, or by cubic interpolation to make it larger (as they are where not given)
    image_size: ImageSize | None = None
    # classes of a group that stands for a superclass (those of the data set, or about ten groups of
    # at most five classes, where not given)
    group_classes: Count | None = None
    # decides which classes are grouped, where groups are drawn
    group_seed: Seed = 0
    # decides which fifth of each class is held out where a data set has no test images
    split_seed: Seed = 0
    # read the images from where they are while training, as large sets need: auto is where they
    # would not fit the device, or all of them decoded would take more than 4 GiB; it changes no
    # result
    stream: Stream = "auto"


class Dataset(NamedTuple):
    """A data set."""

    name: str  # in records: "cifar100", "folder-flowers"; ASCII, no path
    title: str  # for figures
    train_images: ImageRows  # in memory, or decoded when asked for
    train_labels: Int32[np.ndarray, " n"]  # fine classes
    test_images: ImageRows
    test_labels: Int32[np.ndarray, " m"]
    superclass: Int32[np.ndarray, " classes"]  # of each fine class, or its group; −1: in none
    mean: tuple[float, ...]  # of each channel, of values in [0, 1]
    std: tuple[float, ...]
    fingerprint: str  # identifies the arrays
    stream: str = "auto"  # whether training reads the images as it needs them, as `Data.stream`
    recorded: Mapping[str, JSON] = {}  # what else decides numbers
    classes: tuple[str, ...] = ()  # their names, if they are known
    notes: tuple[str, ...] = ()  # lines to be said: what was converted or left out


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    train_images_per_class: int | None = None,
    test_images_per_class: int | None = None,
    image_size: int | None = None,
    group_classes: int | None = None,
    group_seed: int = 0,
    split_seed: int = 0,
    stream: Stream = "auto",
) -> Dataset:
    """Loads a data set and checks it.

    Args:
        name: One of `NAMES`, a folder of images, an `.npz` file, or a name of TFDS.
        data_dir: TFDS's data folder; where not given, TFDS's own setting: the environment variable
            TFDS_DATA_DIR, else `~/tensorflow_datasets`.
        cache_dir: Where decoded arrays are kept; beside the prepared data where not given, or in
            `~/.cache/jaxinit` if that cannot be written to or nothing was prepared.
        train_images_per_class: Keep the first so many of each class; all where not given.
        test_images_per_class: Likewise.
        image_size: Height and width to which images are resized; as they are where not given.
        group_classes: Classes of a group; superclasses, or as `class_groups` has it, where not
            given.
        group_seed: Of the groups.
        split_seed: Of the part that is held out where there are no test images.
        stream: Whether encoded images of files that nobody knows stay so: always, never, or where
            all of them would take more than `any_set.IN_MEMORY`.

    Raises:
        UserError: An unknown name; a data set that is missing, damaged, or cannot be used.
    """
    limits = (train_images_per_class, test_images_per_class)
    if any(limit is not None and limit < 1 for limit in limits):
        raise UserError("fewer than 1 image a class is asked for: ask for 1 or more")
    folder = data_folder(data_dir)
    named = any_set.named(name, folder)
    if named.form != "known":
        seeds = (split_seed, group_classes, group_seed)
        return _load_any(named, folder, cache_dir, limits, image_size, seeds, stream=stream)
    if named.name == "procedural":
        dataset = _load_procedural(*limits, image_size)
    else:
        kind = KINDS[named.name]
        arrays, identity = stored.load(named.name, folder, cache_dir)
        if limits != (None, None):
            arrays = _limit(arrays, *limits)
            identity = stored.fingerprint(arrays)
        dataset = Dataset(named.name, kind.title, *arrays, kind.mean, kind.std, identity)
    if image_size is not None:
        dataset = _resized(dataset, image_size)
    return dataset if group_classes is None else _grouped(dataset, group_classes, group_seed)


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data: as given, or TFDS's own setting."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(default if data_dir is None else data_dir))


def recorded_name(settings: Data) -> str:
    """What records call the data set that the settings name."""
    return any_set.named(settings.dataset, data_folder(settings.data_dir)).recorded


def _load_procedural(train: int | None, test: int | None, side: int | None) -> Dataset:
    from experiments.data import procedural

    train, test = train or 500, test or 100
    _check_memory(100 * (train + test), max(32, side or 32), 3)  # as made, and as resized
    arrays = Arrays(*procedural.generate(0, train, test))
    centre, spread = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    title = "procedural data (made up)"
    return Dataset("procedural", title, *arrays, centre, spread, stored.fingerprint(arrays))


def _load_any(
    named: Named,
    folder: Path,
    cache_dir: str | os.PathLike[str] | None,
    limits: tuple[int | None, int | None],
    side: int | None,
    seeds: tuple[int, int | None, int],
    *,
    stream: Stream,
) -> Dataset:
    split_seed, group_classes, group_seed = seeds
    found = any_set.read(named, folder, split_seed=split_seed, side=side)
    found = any_set.limited(found, *limits)
    roots = stored.cache_roots(folder if named.form == "tfds" else None, cache_dir)
    train_images, test_images = any_set.decode(found, roots, stream=stream)
    size = class_groups.usual_size(len(found.classes)) if group_classes is None else group_classes
    groups = class_groups.draw(len(found.classes), size, group_seed)
    labels = found.train.labels, found.test.labels
    measured = any_set.measure(
        any_set.Rows(train_images, labels[0], test_images, labels[1], groups), roots
    )
    recorded: dict[str, JSON] = {
        **({} if side is None else {"image_size": side}),
        **found.recorded,
        "image_shape": list(train_images.shape[1:]),
        "mean": list(measured.mean),
        "std": list(measured.std),
        "groups": {"classes": size, "seed": group_seed},
    }
    return Dataset(
        named.recorded,
        found.title,
        train_images,
        labels[0],
        test_images,
        labels[1],
        groups,
        *measured,
        recorded=recorded,
        classes=found.classes,
        notes=found.notes,
    )


def _check_memory(images: int, side: int, channels: int) -> None:
    """Makes sure that so many images fit into this machine's memory."""
    needed = images * side * side * channels
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    check(
        needed < memory,
        f"{images} images of {side}×{side} pixels take {needed / 2**30:.0f} GiB of memory, and "
        f"there are {memory / 2**30:.0f}: ask for fewer or smaller ones",
    )


def _resized(dataset: Dataset, side: int) -> Dataset:
    images = (np.asarray(dataset.train_images), np.asarray(dataset.test_images))
    _check_memory(sum(map(len, images)), side, images[0].shape[-1])
    train, test = (arrays_in_npz.resized(one, side) for one in images)
    arrays = Arrays(train, dataset.train_labels, test, dataset.test_labels, dataset.superclass)
    return dataset._replace(
        train_images=train,
        test_images=test,
        fingerprint=stored.fingerprint(arrays),
        recorded={**dataset.recorded, "image_size": side},
    )


def _grouped(dataset: Dataset, size: int, seed: int) -> Dataset:
    return dataset._replace(
        superclass=class_groups.draw(len(dataset.superclass), size, seed),
        recorded={**dataset.recorded, "groups": {"classes": size, "seed": seed}},
    )


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
    """How many superclasses the data set has, or groups that stand for them."""
    return int(dataset.superclass.max()) + 1


def called(dataset: Dataset) -> str:
    """Whether the classes are of superclasses, or of groups that were drawn."""
    return "groups" if "groups" in dataset.recorded else "superclasses"


@functools.lru_cache(maxsize=2)
def load_data(settings: Data) -> Dataset:
    """Loads the images that the settings name, says what is to be said, and keeps them."""
    dataset = _load_as_asked(settings)._replace(stream=settings.stream)
    for note in dataset.notes:
        say(f"{dataset.title}: {note}")
    return dataset


def _load_as_asked(settings: Data) -> Dataset:
    own = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Data)}
    return load(own.pop("dataset"), **own)


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What identifies the data, recorded with each run."""
    return {
        "data_set": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "train_images": len(dataset.train_labels),
        "test_images": len(dataset.test_labels),
        **dataset.recorded,
    }


@dataclasses.dataclass(frozen=True)
class Prepare(Data):
    """Which data set is prepared and described."""

    # the official archive, or the folder it was unpacked in (downloaded where not given)
    archive: PathText | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Prepares a data set where it is missing, checks it, and says what it is."""
    with exit_status():
        asked = parse_one(Prepare(), argv, program="python -m experiments.data", about=main.__doc__)
        folder = data_folder(asked.data_dir)
        named = any_set.named(asked.dataset, folder)
        kind = KINDS.get(named.name) if named.form == "known" else None
        check(
            kind is not None or not asked.archive,
            f"--archive does not go with {asked.dataset}: omit it",
        )
        check(
            asked.archive is None or os.path.exists(asked.archive),
            f"there is no archive {asked.archive}: give the path of the official archive",
        )
        if kind is not None and not stored.shards(kind, folder):
            from experiments.data import tfds_builders

            _check_home(folder)
            archive = Path(asked.archive) if asked.archive else None
            tfds_builders.prepare(kind.tfds_name, folder, archive)
        if named.form == "tfds" and tfds_sets.version(named.name, folder) is None:
            _check_home(folder)
            tfds_sets.prepare(named.name, folder)
        print(describe(_load_as_asked(asked), _place(named, folder)))


def _check_home(folder: Path) -> None:
    check(
        not str(folder).startswith("~"),
        f"there is no home folder for {folder}: say with --data-dir where to prepare data",
    )


def _place(named: Named, folder: Path) -> str:
    if named == ("known", "procedural"):
        return "made up in memory"
    return f"in {folder if named.form in ('known', 'tfds') else named.name}"


def describe(dataset: Dataset, place: str) -> str:
    """Says what was loaded, in a few lines."""
    train, test = map(images_per_class, (dataset.train_labels, dataset.test_labels))
    known = (dataset.mean, dataset.std) if "mean" in dataset.recorded else None  # measured already
    moments = known or channel_moments(dataset.train_images)
    mean, std = (", ".join(f"{x:.4f}" for x in moment) for moment in moments)
    _, height, width, channels = dataset.train_images.shape
    size = f"{height}×{width} pixels, {channels} channel{'s' if channels > 1 else ''}"
    lines = [
        f"{dataset.title}, {place}: {len(dataset.superclass)} classes in "
        f"{superclass_count(dataset)} {called(dataset)}",
        f"{train} training and {test} test images a class, {size}",
        f"mean ({mean}), std ({std}) of the training images",
        *_groups(dataset),
        *dataset.notes,
        f"fingerprint {dataset.fingerprint}",
    ]
    return "\n".join(lines)


def images_per_class(labels: Int32[np.ndarray, " n"]) -> str:
    """Says how many rows a class has: "500", or "13 to 500" where classes differ."""
    counts = np.bincount(labels)
    fewest, most = int(counts.min()), int(counts.max())
    return str(most) if fewest == most else f"{fewest} to {most}"


def _groups(dataset: Dataset) -> list[str]:
    """Lists which classes are in which group, where groups were drawn and are few."""
    if called(dataset) != "groups":
        return []
    names = dataset.classes or tuple(map(str, range(len(dataset.superclass))))
    lines = []
    for group in range(min(_LISTED, superclass_count(dataset))):
        own = [names[label] for label in np.flatnonzero(dataset.superclass == group)]
        lines.append(f"  group {group}: {decoded.listed(own, _USUAL)}")
    left = int((dataset.superclass < 0).sum())
    more = superclass_count(dataset) - len(lines)
    return [
        *lines,
        *([f"  and {more} more groups"] if more else []),
        *([f"  in no group: {left} classes"] if left else []),
    ]
