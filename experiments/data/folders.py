"""A folder of images: a folder a class, alone or below `train` and `test`, `val` or `validation`.

Whatever is hidden, has no ending of an image or is in no class is left out, and said to be.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.errors import UserError
from experiments.data import decoded, splits
from experiments.data.image_files import EXTENSIONS
from experiments.data.splits import Labelled, Splits

_TRAIN, _TEST = ("train", "training"), ("test", "val", "validation", "valid")
_LAYOUTS = "lay images out as FOLDER/class/*.jpg, or FOLDER/train/class/… and FOLDER/test/class/…"


class Files(NamedTuple):
    """Image files below a folder, an `Encoded`."""

    folder: Path
    names: tuple[str, ...]  # relative, with slashes

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: Sequence[int]) -> list[Path | bytes]:
        """The files."""
        return [self.folder / self.names[row] for row in rows]

    def name(self, row: int) -> str:
        """The file below the folder."""
        return self.names[row]

    def state(self) -> Any:
        """Names, sizes and times of all files."""
        known = [(self.folder / name).stat() for name in self.names]
        return str(self.folder.resolve()), self.names, [(k.st_size, k.st_mtime_ns) for k in known]


def read(folder: Path, title: str, *, split_seed: int, side: int | None) -> Splits:
    """Lists the images of a folder and reads what each says of itself; decodes none.

    Classes are in the order of their names, images of a class in that of theirs.

    Args:
        folder: Of one of the two layouts.
        title: For figures and sentences.
        split_seed: Of the part that is held out where there are no test images.
        side: To which the images are resized; as they are where None.

    Raises:
        UserError: The folder has no images, a class has too few, or one cannot be used.
    """
    try:
        train_folder = _train_folder(folder)
        listing = _listing(train_folder or folder)
        classes = tuple(name for name, (images, _) in listing.items() if images)
        if not classes:
            raise UserError(f"{folder} has no folders with images in them: {_LAYOUTS}")
        others = [name for _, rest in listing.values() for name in rest]
        train, test, notes = _labelled(folder, listing, classes), None, []
        if train_folder is not None and (test_folder := _test_folder(folder, classes)) is not None:
            of_test = _listing(test_folder)
            others += [name for _, rest in of_test.values() for name in rest]
            test = _labelled(folder, of_test, classes)
            notes.append(f"the test images are those in {test_folder.name}")
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder} ({error.strerror})") from error
    if others:
        names = [Path(name).relative_to(folder).as_posix() for name in others]
        notes.append(f"left out, as no images of a class: {len(names)} ({decoded.listed(names)})")
    tested = train.labels if test is None else test.labels
    splits.check_classes(title, train.labels, tested, classes)
    return splits.of_encoded(
        title, train, test, classes, split_seed=split_seed, side=side, notes=tuple(notes)
    )


Listing = dict[str, tuple[list[Path], list[Path]]]  # of each class: its images, and the rest


def _listing(folder: Path) -> Listing:
    """Lists what is below a folder, by the folders in it; "" is the folder itself."""
    found: Listing = {"": ([], [])}
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or _hidden(path.name):
            found[""][1].append(path)
            continue
        files = sorted(_files(path))
        images = [file for file in files if _is_image(file)]
        rest = [file for file in files if not _is_image(file)]
        found[path.name] = (images, rest if images else [*rest, path])
    return found


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        hidden = [name for name in folders if _hidden(name)]
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(where) / name for name in (*files, *hidden))


def _train_folder(folder: Path) -> Path | None:
    """The folder of training images, where there is one: not a class that has such a name."""
    for path in sorted(folder.iterdir()):
        if path.name.lower() in _TRAIN and path.is_dir():
            listing = _listing(path)
            if not any(map(_is_image, listing[""][1])) and any(own for own, _ in listing.values()):
                return path
    return None


def _test_folder(folder: Path, classes: tuple[str, ...]) -> Path | None:
    """The first folder of test images that has no class but those of the training images."""
    below = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    refused: list[str] = []
    for path in (below[name] for name in _TEST if name in below):
        own = {name for name, (images, _) in _listing(path).items() if images}
        if own and own <= set(classes):
            return path
        strange = min(own - set(classes), default=None)
        refused.append(
            f"{path} has no folders with images in them"
            if strange is None
            else f"{path} has the class {strange}, which the training images have not"
        )
    if refused:
        raise UserError(f"{refused[0]}: lay its images out in folders of the same classes")
    return None


def _labelled(root: Path, listing: Listing, classes: tuple[str, ...]) -> Labelled:
    images = [listing[name][0] if name in listing else [] for name in classes]
    names = tuple(path.relative_to(root).as_posix() for own in images for path in own)
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(own) for own in images])
    return Labelled(Files(root, names), labels)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _is_image(path: Path) -> bool:
    return not _hidden(path.name) and path.suffix.lower() in EXTENSIONS and path.is_file()
