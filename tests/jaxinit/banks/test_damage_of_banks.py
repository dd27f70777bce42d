"""Banks damaged, forged or blown up: refused in one sentence that names the file, or the same."""

import io
import json
import os
import random
import zipfile

import numpy as np
import pytest

from jaxinit import banks
from jaxinit.banks import bank_file
from tests import small
from tests.jaxinit.banks.two_models import MODELS

TRIALS = int(os.environ.get("JAXINIT_DAMAGES", "20"))  # by hand many more


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    file = tmp_path_factory.mktemp("bank") / "bank.npz"
    banks.save(small.bank_for(MODELS[0]), file)
    return file.read_bytes()


def refused(path) -> str | None:
    """What loading says, in one line; None where it goes well."""
    try:
        banks.load(path)
    except ValueError as error:
        sentence = str(error)
    else:
        return None
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_whatever_is_flipped_truncated_or_emptied(tmp_path, content):
    path = tmp_path / "bank.npz"
    path.write_bytes(content)
    whole = banks.load(path)
    for trial in range(TRIALS):
        rng = random.Random(trial)
        changed, place = bytearray(content), rng.randrange(len(content))
        if trial % 4 == 0:
            del changed[place:]
        elif trial % 4 == 1:
            changed[place : place + 50] = bytes(min(50, len(content) - place))
        else:
            changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        if refused(path) is None:
            found = banks.load(path)
            assert found.provenance == whole.provenance
            for name, filters in whole.filters.items():
                np.testing.assert_array_equal(found.filters[name], filters)
                np.testing.assert_array_equal(found.sizes[name], whole.sizes[name])


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def with_header(header: str) -> bytes:
    """A `.npy` whose header is this text."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "header",
    [
        "(",
        "'''",
        "__import__('os').abort()",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 400 + ",)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [[]], 'fortran_order': False, 'shape': (1,)}",
        "(" * 2000 + ")" * 2000,
        "{[]: 1}",
    ],
)
@pytest.mark.parametrize("member", ["metadata.npy", "sizes/conv1.npy"])
def test_headers_that_are_none(tmp_path, content, header, member):
    write(tmp_path / "bank.npz", members(content) | {member: with_header(header)})
    assert "is damaged or not a filter bank" in (refused(tmp_path / "bank.npz") or "")


def test_what_no_layer_names_is_not_unpacked(tmp_path, content, monkeypatch):
    """A gigabyte of zeros takes a megabyte of the file; so much is refused unread."""
    parts = members(content)
    write(tmp_path / "more.npz", parts | {"more.npy": b""})
    assert "it holds more, of no layer" in (refused(tmp_path / "more.npz") or "")
    monkeypatch.setattr(bank_file, "_LARGEST", 10**6)
    write(tmp_path / "large.npz", parts | {"filters/conv1.npy": bytes(10**6)})
    assert "unpacks to more than a bank can be" in (refused(tmp_path / "large.npz") or "")


@pytest.mark.parametrize(
    "forge",
    [
        lambda data: data | {"layers": [*data["layers"], {"name": "none", "kernel_size": [3, 3]}]},
        lambda data: data | {"layers": data["layers"][:1]},
        lambda data: data | {"layers": [[]]},
        lambda data: data | {"clusters": 10**400},
        lambda data: data | {"layers": [{**data["layers"][0], "kernel_size": [10**400]}]},
        lambda data: data | {"version": None},
        lambda data: data | {"version": [4]},
        lambda data: data | {"version": 10**400},
        lambda data: "[" * 100_000,
        lambda data: [],
    ],
)
def test_metadata_that_are_forged(tmp_path, content, forge):
    parts = members(content)
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    data = forge(json.loads(arrays["metadata"].tobytes()))
    if isinstance(data, dict):
        data["checksum"] = bank_file.checksum(data, arrays)
    text = data if isinstance(data, str) else json.dumps(data)
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(text.encode(), np.uint8))
    write(tmp_path / "bank.npz", parts | {"metadata.npy": buffer.getvalue()})
    assert refused(tmp_path / "bank.npz") is not None


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "bank.npz"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert "is not a file" in (refused(path) or "")


def test_saving_keeps_links_and_modes(tmp_path):
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    bank = small.bank_for(MODELS[0])
    banks.save(bank, target)
    target.chmod(0o640)
    link.symlink_to(target.name)
    banks.save(bank, link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.npz", "target.npz"]
