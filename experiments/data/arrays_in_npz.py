"""Images and labels in an `.npz` file, as MedMNIST and Keras name them; nothing is unpickled."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from experiments.cli.errors import UserError, first_line
from experiments.cli.options import check
from experiments.data import held_out, image_files, splits
from experiments.data.splits import Part, Splits

_FEW = 4  # channels; more at the end, after few, are taken for a width
_TRAIN = (
    *(("train_images", "train_labels"), ("x_train", "y_train")),
    *(("images", "labels"), ("x", "y")),
)
_TEST = (
    *(("test_images", "test_labels"), ("x_test", "y_test")),
    *(("val_images", "val_labels"), ("x_val", "y_val")),
)


def read(file: Path, title: str, *, split_seed: int, side: int | None) -> Splits:
    """Reads the arrays.

    Labels may be any integers, or texts; classes are in their order.

    Args:
        file: With one of the pairs of keys `train_images` and `train_labels`, `x_train` and
            `y_train`, `images` and `labels`, `x` and `y`; and, if there are test images, of
            `test_images` and `test_labels`, `x_test` and `y_test`, or likewise with `val`.
        title: For figures and sentences.
        split_seed: Of the part that is held out where there are no test images.
        side: To which the images are resized; as they are where None.

    Raises:
        UserError: The file cannot be read, or its arrays are not images and labels.
    """
    check(
        zipfile.is_zipfile(file),
        f"{file} is no .npz file: write it with numpy.savez, with the names of its arrays",
    )
    try:
        with np.load(file, allow_pickle=False) as found:
            train_keys, test_keys = _keys(found, _TRAIN), _keys(found, _TEST)
            known = ", ".join(found.files) or "none"
            arrays = {key: found[key] for key in (*train_keys, *test_keys)}
    except Exception as error:  # NumPy and zipfile raise whatever their parts raise
        raise UserError(
            f"{file} cannot be read ({first_line(error)}): write it anew with numpy.savez, "
            "without objects"
        ) from error
    check(
        bool(train_keys),
        f"{file} has the arrays {known}: name them train_images, train_labels, test_images and "
        "test_labels, or images and labels",
    )
    images, own = _checked(file, arrays, train_keys)
    classes, labels = np.unique(own, return_inverse=True)
    names = tuple(str(one) for one in classes)
    train = Part(_sized(images, side), labels.astype(np.int32))
    if not test_keys:
        splits.check_classes(title, train.labels, train.labels, names)
        kept, held = held_out.split(train.labels, split_seed, names, title)
        recorded = held_out.described(split_seed)
        return Splits(title, train.only(kept), train.only(held), names, recorded, ())
    test_images, own = _checked(file, arrays, test_keys)
    unknown = np.setdiff1d(own, classes)
    check(
        not unknown.size,
        f"{test_keys[1]} in {file} names the class {''.join(map(str, unknown[:1]))}, which "
        f"{train_keys[1]} does not: take its images out",
    )
    test = Part(_sized(test_images, side), np.searchsorted(classes, own).astype(np.int32))
    check(
        test.images.shape[1:] == train.images.shape[1:],
        f"{file} has images of {_text(images)} in {train_keys[0]} and of {_text(test_images)} in "
        f"{test_keys[0]}: bring them to one shape",
    )
    splits.check_classes(title, train.labels, test.labels, names)
    return Splits(title, train, test, names, {}, (f"the test images are {test_keys[0]}",))


def _keys(found: Any, pairs: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return next((pair for pair in pairs if set(pair) <= set(found.files)), ())


def _checked(
    file: Path, arrays: Mapping[str, np.ndarray], keys: tuple[str, ...]
) -> tuple[UInt8[np.ndarray, "n h w c"], np.ndarray]:
    """Makes sure that two arrays are images and the class of each."""
    images, labels = (arrays[key] for key in keys)
    named = f"the array {keys[0]} in {file}"
    check(images.dtype == np.uint8, f"{named} is {images.dtype}: give bytes (uint8, 0 to 255)")
    check(
        images.ndim in (3, 4) and images.size > 0,
        f"{named} has the shape {_text(images, 0)}: give n × height × width × channels, or n × "
        "height × width of grey images",
    )
    check(
        images.ndim == 3 or images.shape[1] not in (1, 3, 4) or images.shape[3] <= _FEW,
        f"{named} has the shape {_text(images, 0)}, with channels before height and width: put "
        "them last",
    )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    named = f"the array {keys[1]} in {file}"
    check(
        labels.shape == images.shape[:1],
        f"{named} has the shape {_text(labels, 0)} and {keys[0]} holds {len(images)} images: give "
        "one class an image",
    )
    check(labels.dtype.kind in "iuU", f"{named} is {labels.dtype}: give integers or texts")
    return images if images.ndim == 4 else images[..., None], labels


def _sized(images: UInt8[np.ndarray, "n h w c"], side: int | None) -> np.ndarray:
    return images if side is None else resized(images, side)


def resized(images: UInt8[np.ndarray, "n h w c"], side: int) -> UInt8[np.ndarray, "n s s c"]:
    """Brings images in memory to another size, as `image_files.resized` one."""
    made = np.empty((len(images), side, side, images.shape[3]), np.uint8)
    for row, image in enumerate(images):
        made[row] = image_files.resized(image, side)
    return made


def _text(array: np.ndarray, first: int = 1) -> str:
    return "×".join(map(str, array.shape[first:])) or "()"
