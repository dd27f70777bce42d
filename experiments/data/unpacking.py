"""Official archives: recognised by size and checksum, and unpacked within bounds."""

import hashlib
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from experiments.cli.progress import say

_MOST_BYTES = 2 * 2**30  # of what is unpacked: Tiny ImageNet has a quarter of it
_MOST_FILES = 200_000  # Tiny ImageNet has 120,609


class Archive(NamedTuple):
    """An official archive."""

    url: str
    size: int  # bytes
    sha256: str

    @property
    def name(self) -> str:
        """What its file is called."""
        return self.url.rpartition("/")[2]

    @classmethod
    def of_tfds(cls, infos: Mapping[str, Any] | None) -> "Archive":
        """The one that TFDS knows of a data set."""
        ((url, info),) = (infos or {}).items()
        return cls(url, int(info.size), info.checksum)

    def known_to_tfds(self) -> dict[str, Any]:
        """What TFDS compares a download with."""
        from tensorflow_datasets.core.download import checksums

        info: Any = checksums.UrlInfo  # of sizes of its own, which are numbers
        return {self.url: info(self.size, self.sha256, self.name)}


def unpack(file: Path, folder: Path, official: Archive) -> None:
    """Unpacks an archive, which must be the official one where it is of its size.

    One of another size is taken as it is, as smaller copies are in use, which is said.

    Args:
        file: A .zip, or any tar file.
        folder: Where to.
        official: What it should be.

    Raises:
        ValueError: It is damaged, or too large.
        OSError: It cannot be read, or the folder not be written to.
    """
    if (size := file.stat().st_size) == official.size:
        _check(file, official)
    else:
        say(
            f"{file} has {size} bytes and the official {official.name} {official.size}: it is "
            "taken as it is, as a copy that nobody has checked"
        )
    if zipfile.is_zipfile(file):
        _unpack_zip(file, folder)
    elif tarfile.is_tarfile(file):
        _unpack_tar(file, folder)
    else:
        raise ValueError(f"{file} is neither a zip nor a tar file, or it is damaged")


def _check(file: Path, official: Archive) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != official.sha256:
        raise ValueError(
            f"its SHA-256 is {found[:8]}…, the official archive's {official.sha256[:8]}…: it is "
            f"damaged, get it from {official.url}"
        )


def _unpack_zip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_bounds(len(members), sum(member.file_size for member in members))
        for member in members:
            _check_path(member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(f"{member.filename} in it is a link")
        archive.extractall(folder)  # which reads no more of each than it says


def _unpack_tar(file: Path, folder: Path) -> None:
    with tarfile.open(file) as archive:
        count = size = 0
        for member in archive:
            count, size = count + 1, size + member.size
            _check_bounds(count, size)
            archive.extract(member, folder, filter="data")
        # What is left of the compressed file holds its own checksum, which is then compared.
        assert archive.fileobj is not None
        while archive.fileobj.read(2**20):
            pass


def _check_bounds(count: int, size: int) -> None:
    if count > _MOST_FILES or size > _MOST_BYTES:
        raise ValueError(
            f"it unpacks to more than {_MOST_FILES} files or {_MOST_BYTES // 2**30} GiB"
        )


def _check_path(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} in it is outside the destination")
