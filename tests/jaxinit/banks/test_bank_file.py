"""Banks come back from their files, and damaged files are named."""

import dataclasses
import hashlib
import io
import json
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import banks
from jaxinit.banks import bank_file
from tests import small
from tests.jaxinit.banks.two_models import KEY, MODELS, fit


@pytest.fixture
def bank() -> banks.FilterBank:
    return small.bank_for(MODELS[0])


@pytest.mark.parametrize("representative", ["centroid", "member"])
def test_a_bank_comes_back_from_its_file(tmp_path, representative):
    made = fit(representative=representative, layers=1, sources=["a", "ü"])
    path = tmp_path / "bank.npz"
    banks.save(made, path)
    banks.save(made, path)  # replaces what is there
    assert [p.name for p in tmp_path.iterdir()] == ["bank.npz"]
    back = banks.load(path)
    assert jax.tree.structure(back) == jax.tree.structure(made)
    jax.tree.map(np.testing.assert_array_equal, back, made)
    np.testing.assert_array_equal(
        banks.draw(KEY, back, "conv1", (7, 7, 3, 8)), banks.draw(KEY, made, "conv1", (7, 7, 3, 8))
    )


def test_a_bank_of_17_layers_and_10_clusters_is_small(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {f"layer{i}/conv": (3, 3) if i else (7, 7) for i in range(17)}
    bank = banks.FilterBank(
        {n: rng.standard_normal((10, 1, h * w), np.float32) for n, (h, w) in sizes.items()},
        {n: rng.integers(1, 10**6, 10).astype(np.float32) for n in sizes},
        {n: np.float32(rng.random()) for n in sizes},
        flax.core.FrozenDict(sizes),
        banks.Provenance("fourier", "centroid", 10, 45, tuple(map(str, range(45))), "0.1.0"),
    )
    banks.save(bank, tmp_path / "bank.npz")
    assert (tmp_path / "bank.npz").stat().st_size < 30_000


def test_a_failed_save_leaves_what_was_there(tmp_path, bank, monkeypatch):
    path = tmp_path / "bank.npz"
    banks.save(bank, path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="full"):
        banks.save(jax.tree.map(lambda a: 2 * a, bank), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["bank.npz"]


def damage(content: bytes, kind: str) -> bytes:
    if kind == "truncated":
        return content[: len(content) // 2]
    if kind == "empty":
        return b""
    if kind == "text":
        return b"not a bank"
    if kind == "flipped":
        middle = len(content) // 3
        return (
            content[:middle]
            + bytes(255 - b for b in content[middle : middle + 40])
            + content[middle + 40 :]
        )
    buffer = io.BytesIO()
    if kind == "array":
        np.save(buffer, np.zeros(3))
        return buffer.getvalue()
    if kind == "pickle":
        np.savez(buffer, metadata=np.array([{"format": 1}], object))
        return buffer.getvalue()
    arrays: dict[str, np.ndarray] = dict(np.load(io.BytesIO(content)))
    metadata = json.loads(arrays["metadata"].tobytes())
    if kind == "foreign":
        arrays = {"x": np.zeros(3)}
    elif kind == "other format":
        metadata["format"] = "something else"
    elif kind == "no layer":
        del arrays["sizes/conv1"]
    elif kind == "shape":
        arrays["filters/conv1"] = arrays["filters/conv1"][:, :, :9]
    elif kind == "not finite":
        arrays["filters/conv1"] = arrays["filters/conv1"] * np.float32("nan")
    elif kind == "no members":
        arrays["sizes/conv1"] = arrays["sizes/conv1"] * 0
    elif kind == "too few members said":
        arrays["filters/conv1"] = np.repeat(arrays["filters/conv1"], 2, axis=1)
    elif kind == "not JSON":
        arrays["metadata"] = np.frombuffer(b"{", np.uint8)
    if kind == "another number":
        arrays["sizes/conv1"] = arrays["sizes/conv1"] + np.float32(1)
    elif kind == "another word":
        metadata["distance"] = "fourier"
    elif kind == "an earlier version, changed":
        metadata["version"], metadata["clusters"] = 3, 3
        arrays["sizes/conv1"] = arrays["sizes/conv1"] + np.float32(1)
    elif kind == "no checksum":
        del metadata["checksum"]
    elif kind not in ("foreign", "not JSON"):  # found by what it is
        metadata["checksum"] = bank_file.checksum(metadata, arrays)
    if kind not in ("foreign", "not JSON"):
        arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


DAMAGES = ["truncated", "empty", "text", "flipped", "array", "pickle", "foreign", "other format"]
DAMAGES += ["no layer", "shape", "not finite", "no members", "too few members said", "not JSON"]
DAMAGES += ["another number", "another word", "no checksum"]
DAMAGES += ["an earlier version, changed"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named(tmp_path, bank, kind):
    path = tmp_path / "bank.npz"
    banks.save(bank, path)
    path.write_bytes(damage(path.read_bytes(), kind))
    with pytest.raises(ValueError, match=r"bank\.npz is damaged or not a filter bank"):
        banks.load(path)


def test_a_file_names_its_checksum(tmp_path, bank):
    """That of its contents, by another road: whoever reads the file can make it anew."""
    banks.save(bank, tmp_path / "bank.npz")
    with np.load(tmp_path / "bank.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    metadata = json.loads(arrays.pop("metadata").tobytes())
    named = metadata.pop("checksum")
    parts = [json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()]
    for name, array in sorted(arrays.items()):
        parts += [f"\0{name}\0<f4\0{array.shape}\0".encode(), array.astype("<f4").tobytes()]
    assert named == hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_later_version_is_named(tmp_path, bank, monkeypatch):
    monkeypatch.setattr(bank_file, "_VERSION", 7)
    banks.save(bank, tmp_path / "bank.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"version 7, but this jaxinit reads versions 1 to 4"):
        banks.load(tmp_path / "bank.npz")
    with pytest.raises(FileNotFoundError):
        banks.load(tmp_path / "none.npz")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_earlier_versions_are_read(tmp_path, bank, version):
    """They name no checksum, the first two no members: as many as a cluster has slices."""
    members = {name: jnp.repeat(own, 3, axis=1) for name, own in bank.filters.items()}
    provenance = dataclasses.replace(bank.provenance, representative="member", members=3)
    bank = dataclasses.replace(bank, filters=members, provenance=provenance)
    path = tmp_path / "bank.npz"
    banks.save(bank, path)
    arrays: dict[str, np.ndarray] = dict(np.load(path))
    metadata = json.loads(arrays["metadata"].tobytes())
    assert metadata["version"] == 4
    del metadata["checksum"]
    if version < 3:
        assert metadata.pop("members") == 3
    if version == 1:
        del metadata["normalized"]
    text = json.dumps({**metadata, "version": version}).encode()
    np.savez(path, allow_pickle=False, **{**arrays, "metadata": np.frombuffer(text, np.uint8)})
    found = banks.load(path)
    assert jax.tree.structure(found) == jax.tree.structure(bank)
    jax.tree.map(np.testing.assert_array_equal, found, bank)
