"""Any data set of TFDS that is prepared as array_record, read without TensorFlow."""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.errors import UserError, first_line
from experiments.cli.options import check
from experiments.data import splits, stored
from experiments.data.splits import Labelled, Splits
from experiments.records import locks

_TEST = ("test", "validation")
_READ = 1000  # records at a time


class Records:
    """The images of one split of a prepared data set, an `Encoded`.

    Args:
        folder: Of one version, with its `dataset_info.json`.
        split: Its name.
        image: The feature that is the image.
    """

    def __init__(self, folder: Path, split: str, image: str) -> None:
        self.folder, self.split, self.image = folder, split, image

    def __reduce__(self) -> Any:
        return Records, (self.folder, self.split, self.image)

    @functools.cached_property
    def source(self) -> Any:
        """TFDS's data source, with images left encoded."""
        tfds = stored.quiet_tfds()
        builder = _builder(self.folder)
        skipped = {
            name: tfds.decode.SkipDecoding()
            for name, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        }
        return builder.as_data_source(self.split, decoders=skipped)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: Sequence[int]) -> list[Path | bytes]:
        """The content of the images' files."""
        return [example[self.image] for example in self._examples(rows)]

    def labels(self, label: str) -> np.ndarray:
        """The class of every image, by the feature that says it."""
        starts = range(0, len(self), _READ)
        rows = [range(start, min(start + _READ, len(self))) for start in starts]
        return np.array([e[label] for own in rows for e in self._examples(own)], np.int32)

    def name(self, row: int) -> str:
        """The split and the place in it."""
        return f"{self.split} {row}"

    def state(self) -> Any:
        """Names, sizes and times of the prepared files, and the split."""
        known = [(file.name, file.stat()) for file in sorted(self.folder.iterdir())]
        states = [(name, own.st_size, own.st_mtime_ns) for name, own in known]
        return str(self.folder.resolve()), self.split, self.image, states

    def _examples(self, rows: Sequence[int]) -> Any:
        try:
            return self.source.__getitems__(list(rows))
        except Exception as error:  # TFDS and array_record raise whatever their parts raise
            raise _damaged(self.folder, error) from error


class _Features(NamedTuple):
    image: str
    label: str
    channels: int | None
    classes: tuple[str, ...]


def read(name: str, folder: Path, *, split_seed: int, side: int | None) -> Splits:
    """Finds a prepared data set and reads its labels; decodes no image.

    Args:
        name: Of TFDS: `mnist`, `cifar10_corrupted/brightness_1`, `mnist:3.0.1`.
        folder: TFDS's data folder.
        split_seed: Of the part that is held out where there is one split alone.
        side: To which the images are resized; as they are where None.

    Raises:
        UserError: It is not prepared, only TensorFlow can read it, or it is not of images with a
            class each.
    """
    place = version(name, folder)
    if place is None:
        raise not_there(name, folder)
    check(
        any(place.glob("*.array_record*")),
        f"the {name} in {place} is in a format that only TensorFlow reads: where TensorFlow is "
        f"installed, convert it with `tfds convert_format --dataset_version_dir={place} "
        "--out_file_format=array_record`",
    )
    try:
        info = _builder(place).info
    except Exception as error:  # TFDS raises whatever its parts raise
        raise _damaged(place, error) from error
    features = _features(name, info)
    filled = [split for split, own in info.splits.items() if own.num_examples]
    check(
        "train" in filled or len(filled) == 1,
        f"{name} has the splits {', '.join(filled) or 'none'}: one that is called train is needed",
    )
    train_split = "train" if "train" in filled else filled[0]
    train = _labelled(place, train_split, features)
    check(_is_labelled(train), f"{train_split} of {name} has images without a class")
    others = {s: _labelled(place, s, features) for s in _TEST if s in filled and s != train_split}
    tested_on = next((split for split, part in others.items() if _is_labelled(part)), None)
    test = None if tested_on is None else others[tested_on]
    train, test, classes = _present(name, train, test, features.classes)
    tested = train.labels if test is None else test.labels
    splits.check_classes(name, train.labels, tested, classes)
    notes = () if tested_on is None else (f"the test images are those of {tested_on}",)
    return splits.of_encoded(
        name,
        train,
        test,
        classes,
        split_seed=split_seed,
        side=side,
        channels=features.channels,
        notes=notes,
    )


def is_known(name: str, folder: Path) -> bool:
    """Whether a data set of this name is prepared in a folder, or TFDS could prepare it."""
    own = name.partition(":")[0].partition("/")[0]
    if not own.isidentifier():
        return False
    if any((folder / own).rglob("dataset_info.json")):
        return True
    return own in stored.quiet_tfds().list_builders(with_community_datasets=False)


def version(name: str, folder: Path) -> Path | None:
    """Finds a prepared data set in TFDS's data folder: the newest version, if none is named.

    Raises:
        UserError: It has several configurations, and the name says none.
    """
    path, _, wanted = name.partition(":")
    found = sorted(info.parent for info in (folder / path).rglob("dataset_info.json"))
    configs = {place.parent for place in found}
    if len(configs) > 1:
        raise UserError(
            f"{name} in {folder} has several configurations: say which, for instance "
            f"tfds:{found[0].parent.relative_to(folder).as_posix()}"
        )
    chosen = [place for place in found if wanted in ("", place.name)]
    return max(chosen, key=_numbers, default=None)


def prepare(name: str, folder: Path) -> None:
    """Has TFDS download a data set and prepare it as array_record.

    What a killed preparation of it has left in the folder is removed.

    Raises:
        UserError: TFDS does not know it, needs TensorFlow for it, or has no network.
    """
    import requests

    tfds = stored.quiet_tfds()
    if not is_known(name, folder):
        raise _unknown(name)
    with locks.held(folder / "preparation"):
        if version(name, folder) is not None:  # another process has prepared it in the meantime
            return
        try:
            made = tfds.builder(name, data_dir=str(folder), file_format="array_record")
            for left in made.data_path.parent.glob("incomplete.*"):
                shutil.rmtree(left, ignore_errors=True)
            for url in list(made.url_infos or {})[:1]:
                # Asked first, as without a network TFDS tries for minutes.
                requests.head(url, timeout=20, allow_redirects=True)
            made.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
        except Exception as error:  # TFDS raises whatever its parts raise
            raise UserError(
                f"{name} could not be prepared here ({first_line(error)}): {_remedy(name)}"
            ) from error


def not_there(name: str, folder: Path) -> UserError:
    """The sentence about a data set that is not prepared."""
    if not is_known(name, folder):
        return _unknown(name)
    return UserError(
        f"there is no {name} in {folder}: prepare it with `python -m experiments.data --dataset "
        f"tfds:{name} --data-dir {folder}`, or {_remedy(name)}"
    )


def _unknown(name: str) -> UserError:
    return UserError(f"TFDS knows no data set {name!r}: check the name")


def _remedy(name: str) -> str:
    return (
        f"where TensorFlow is installed run `tfds build {name.partition(':')[0]} "
        "--file_format=array_record --data_dir=FOLDER`, and give that folder as --data-dir"
    )


def _numbers(place: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else -1 for part in place.name.split("."))


def _builder(place: Path) -> Any:
    tfds = stored.quiet_tfds()
    stored.check_features(place)
    return tfds.builder_from_directory(str(place), file_format="array_record")


def _damaged(place: Path, error: Exception) -> UserError:
    return UserError(
        f"the data set in {place} is damaged ({first_line(error)}): delete that folder and "
        "prepare it again"
    )


def _features(name: str, info: Any) -> _Features:
    """The image and the class: those that are supervised, else the only ones of their kinds."""
    tfds = stored.quiet_tfds()
    features = dict(info.features) if hasattr(info.features, "items") else {}
    images = [n for n, own in features.items() if isinstance(own, tfds.features.Image)]
    labels = [n for n, own in features.items() if isinstance(own, tfds.features.ClassLabel)]
    image, label = (info.supervised_keys or (None, None))[:2]
    image = image if image in images else images[0] if len(images) == 1 else None
    label = label if label in labels else labels[0] if len(labels) == 1 else None
    if image is None or label is None:
        raise UserError(
            f"{name} has the features {', '.join(sorted(features)) or 'none'}, of which not one is "
            "an image and one its class: choose a data set for the classification of images"
        )
    kind = np.dtype(features[image].np_dtype)
    check(kind.kind == "u", f"the images of {name} are {kind}: choose a data set of bytes")
    channels = features[image].shape[-1]
    return _Features(image, label, channels, tuple(features[label].names))


def _labelled(place: Path, split: str, features: _Features) -> Labelled:
    records = Records(place, split, features.image)
    return Labelled(records, records.labels(features.label))


def _is_labelled(part: Labelled) -> bool:
    return len(part.labels) > 0 and bool(part.labels.min() >= 0)


def _present(
    name: str, train: Labelled, test: Labelled | None, names: tuple[str, ...]
) -> tuple[Labelled, Labelled | None, tuple[str, ...]]:
    """Leaves out the classes that no training image is of."""
    present = np.unique(train.labels)
    if test is not None:
        unknown = np.setdiff1d(test.labels, present)
        check(
            not unknown.size,
            f"{name} has test images of {''.join(names[n] for n in unknown[:1])}, but no training "
            "images: take another data set",
        )

    def relabelled(part: Labelled) -> Labelled:
        return part._replace(labels=np.searchsorted(present, part.labels).astype(np.int32))

    kept = tuple(names[label] for label in present)
    return relabelled(train), None if test is None else relabelled(test), kept
