"""Archives that are the official ones, damaged, too large, or lead elsewhere."""

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from typing import Any

import pytest

from experiments.data import unpacking
from experiments.data.unpacking import Archive

CONTENT = os.urandom(3000)
NONE = Archive("https://example.org/a.zip", -1, "")


def as_zip(path, names=("a/b.txt",), content=CONTENT, mode=0o644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return path


def as_tar(path, names=("a/b.txt",), kind=tarfile.REGTYPE, mode: Any = "w:gz"):
    with tarfile.open(path, mode) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(CONTENT) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(CONTENT))
    return path


@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_it_is_unpacked_whatever_it_is_called(make, tmp_path):
    unpacking.unpack(make(tmp_path / "download"), tmp_path / "to", NONE)
    assert (tmp_path / "to" / "a" / "b.txt").read_bytes() == CONTENT


@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_any_flipped_bit_of_the_official_archive_is_found(make, tmp_path):
    file = make(tmp_path / "download")
    whole = file.read_bytes()
    official = Archive("https://example.org/a", len(whole), hashlib.sha256(whole).hexdigest())
    unpacking.unpack(file, tmp_path / "to", official)
    for place in range(0, len(whole), 97):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"its SHA-256 is .*: it is damaged, get it from"):
            unpacking.unpack(file, tmp_path / "never", official)
    assert not (tmp_path / "never").exists()


def test_a_flipped_bit_of_another_tar_is_found_by_its_own_checksum(tmp_path):
    file = as_tar(tmp_path / "a.tar.gz")
    whole = file.read_bytes()
    middle = len(whole) // 2
    for place in (middle, len(whole) - 7):  # of the content, and of the checksum at the end
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((ValueError, OSError)):
            unpacking.unpack(file, tmp_path / "to", NONE)


@pytest.mark.parametrize("make", [as_zip, as_tar])
@pytest.mark.parametrize("name", ["../b.txt", "a/../../b.txt"])
def test_paths_that_lead_elsewhere(make, name, tmp_path):
    with pytest.raises((ValueError, tarfile.FilterError), match="outside the destination"):
        unpacking.unpack(make(tmp_path / "archive", [name]), tmp_path / "to", NONE)
    assert not (tmp_path / "b.txt").exists()


def test_links_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a/b\.txt in it is a link"):
        unpacking.unpack(as_zip(tmp_path / "z", mode=stat.S_IFLNK), tmp_path / "to", NONE)
    with pytest.raises(tarfile.FilterError):
        unpacking.unpack(as_tar(tmp_path / "t", kind=tarfile.SYMTYPE), tmp_path / "to", NONE)


@pytest.mark.parametrize("make", [as_zip, as_tar])
@pytest.mark.parametrize(("bound", "most"), [("_MOST_FILES", 3), ("_MOST_BYTES", 10_000)])
def test_bounds(make, bound, most, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, bound, most)
    unpacking.unpack(make(tmp_path / "few", ["1", "2", "3"]), tmp_path / "to", NONE)
    with pytest.raises(ValueError, match="it unpacks to more than"):
        unpacking.unpack(make(tmp_path / "many", ["1", "2", "3", "4"]), tmp_path / "to", NONE)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08"])
def test_what_is_no_archive(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises((ValueError, EOFError)):
        unpacking.unpack(tmp_path / "file", tmp_path / "to", NONE)
