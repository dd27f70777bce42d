"""Images that stay encoded until rows of them are asked for, and what a set of them has in common.

Where the images come from is an `Encoded`: files of a folder, or records of TFDS.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from experiments.cli.errors import UserError
from experiments.data import image_files
from experiments.data.image_files import Header

_NAMED = 3  # files that a line about conversions names
_READ = 256  # images that are read at a time


class Encoded(Protocol):
    """Encoded images. Pickles, and opens its files in each process anew."""

    def __len__(self) -> int:
        """How many."""
        ...

    def read(self, rows: Sequence[int]) -> list[Path | bytes]:
        """The files, or their content."""
        ...

    def name(self, row: int) -> str:
        """What a sentence calls an image."""
        ...

    def state(self) -> Any:
        """What changes whenever the files do: names, sizes, times."""
        ...


class Common(NamedTuple):
    """What all images of a set are brought to."""

    height: int
    width: int
    channels: int
    side: int | None  # that they are resized to, where they are


class DecodedRows:
    """Images that are decoded whenever rows of them are asked for, an `ImageRows`.

    Args:
        encoded: Where they come from.
        rows: Which of these, in order.
        common: Their size and channels.
    """

    def __init__(self, encoded: Encoded, rows: Int64[np.ndarray, " n"], common: Common) -> None:
        self._encoded, self._rows, self._common = encoded, rows, common

    @property
    def shape(self) -> tuple[int, ...]:
        """Images, height, width, channels."""
        return (len(self._rows), *self._common[:3])

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of unsigned bytes."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._rows)

    def only(self, rows: Any) -> "DecodedRows":
        """Some of the rows, still encoded."""
        return DecodedRows(self._encoded, self._rows[rows], self._common)

    def state(self) -> str:
        """Changes whenever the files, the rows or what they are brought to do."""
        content = (self._encoded.state(), self._rows.tolist(), self._common)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def __getitem__(self, rows: Any, /) -> UInt8[np.ndarray, "m h w c"]:
        """Decodes these rows.

        Raises:
            UserError: One cannot be decoded, or is of another size than its file's header said.
        """
        chosen = self._rows[rows].tolist()
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        sources = self._encoded.read(chosen)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without Python's lock
            for place, image in enumerate(pool.map(self._decode, chosen, sources)):
                images[place] = image
        return images

    def _decode(self, row: int, source: Path | bytes) -> Any:
        try:
            image = image_files.decode(source, self._common.channels, self._common.side)
            if image.shape != self._common[:3]:
                raise ValueError(f"it is {image.shape[0]}×{image.shape[1]} once decoded")
        except ValueError as error:
            raise unusable(self._encoded.name(row), error) from error
        return image


def unusable(name: str, error: Exception) -> UserError:
    """The sentence about an image that cannot be used."""
    return UserError(f"{name} cannot be used ({error}): mend it or take it out of the data set")


def survey(parts: Iterable[Encoded]) -> Iterator[tuple[str, Header]]:
    """Reads what each image says of itself before it is decoded, with its name.

    Raises:
        UserError: One is no image.
    """
    for encoded in parts:
        for start in range(0, len(encoded), _READ):
            rows = range(start, min(start + _READ, len(encoded)))
            for row, source in zip(rows, encoded.read(rows), strict=True):
                try:
                    yield encoded.name(row), image_files.header(source)
                except ValueError as error:
                    raise unusable(encoded.name(row), error) from error


def common(
    headers: Mapping[str, Header], side: int | None, title: str, channels: int | None = None
) -> Common:
    """What the images of a set are brought to.

    Channels are 1 where all images are grey, 4 where all are RGBA, else 3.

    Args:
        headers: Of all images.
        side: That they are resized to; as they are where None.
        title: What a sentence calls the set.
        channels: Where the data set says how many it has.

    Raises:
        UserError: They differ in size and are not to be resized.
    """
    if channels not in (1, 3, 4):
        grey, modes = all(h.grey for h in headers.values()), {h.mode for h in headers.values()}
        channels = 1 if grey else 4 if modes == {"RGBA"} else 3
    if side is not None:
        return Common(side, side, channels, side)
    sizes: dict[tuple[int, int], str] = {}
    for name, header in headers.items():
        sizes.setdefault(header.size, name)
    if len(sizes) > 1:
        shown = ", ".join(f"{name} is {h}×{w}" for (h, w), name in list(sizes.items())[:2])
        raise UserError(
            f"the images of {title} differ in size ({shown}): say with --image-size to how many "
            "pixels a side all are brought"
        )
    return Common(*next(iter(sizes)), channels, None)


def conversions(headers: Mapping[str, Header], channels: int) -> list[str]:
    """Says in one line which images are converted, if any, by kind, count and name.

    Args:
        headers: Of all images.
        channels: Of the set.
    """
    found: dict[str, list[str]] = {}
    for name, header in headers.items():
        kinds = [*header.odd]
        kinds += ["grey"] if header.grey and channels > 1 else []
        kinds += ["colour"] if not header.grey and channels == 1 else []
        kinds += ["transparent"] if header.transparent and channels < 4 else []
        for kind in kinds:
            found.setdefault(kind, []).append(name)
    if not found:
        return []
    said = [
        f"{len(names)} {kind} image{'s' if len(names) > 1 else ''} ({listed(names)})"
        for kind, names in found.items()
    ]
    only_one = len(said) == 1 and len(next(iter(found.values()))) == 1
    return [f"{', '.join(said)} {'was' if only_one else 'were'} converted"]


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """The first few names."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
