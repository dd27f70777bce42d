"""Files of weights: both kinds there and back, an array at a time, and what is refused."""

import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import banks, kernels, weights
from jaxinit.models import registry
from jaxinit.models import torch as torch_weights

BOTH = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])


@pytest.fixture(autouse=True)
def library(request) -> None:
    if "safetensors" in request.node.name:
        pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    network = registry.get("resnet20").make(classes=5)
    images = jnp.zeros((1, 32, 32, 3))
    shapes: Any = jax.eval_shape(
        lambda key: network.init(key, images, train=False), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda s: rng.standard_normal(s.shape, np.float32), shapes)
    return torch_weights.to_torch(drawn)


@BOTH
def test_round_trip(tmp_path, state, suffix):
    path = tmp_path / f"weights{suffix}"
    jaxinit.save_weights(path, state)
    found = jaxinit.open_weights(path)
    assert found.keys() == state.keys()
    for name, value in state.items():
        stored = found[name]
        assert (stored.shape, stored.ndim, stored.dtype) == (value.shape, value.ndim, value.dtype)
        np.testing.assert_array_equal(np.asarray(stored), value)
    assert list(tmp_path.iterdir()) == [path]
    variables = torch_weights.from_torch(found)
    again = torch_weights.from_torch(state)
    jax.tree.map(np.testing.assert_array_equal, variables, again)


@BOTH
def test_a_bank_reads_a_layer_at_a_time(tmp_path, state, suffix, monkeypatch):
    path = tmp_path / f"weights{suffix}"
    jaxinit.save_weights(path, {k: v.astype(np.float16) for k, v in state.items()})
    found, read = jaxinit.open_weights(path), []
    noted = {
        name: weights.StoredArray(a.shape, a.dtype, lambda a=a, n=name: read.append(n) or a.read())
        for name, a in found.items()
    }
    lazy = torch_weights.from_torch(noted, lazy=True)["params"]
    assert not read
    chosen = ("conv1", "layer2_0/conv1")
    key = jax.random.key(0)
    bank = banks.fit(key, [lazy], clusters=2, layers=chosen)
    assert set(read) == {"conv1.weight", "layer2.0.conv1.weight"}
    kernel = kernels.leaves(lazy)["layer2_0", "conv1", "kernel"]
    assert (kernel.shape, kernel.dtype, kernel.ndim) == ((3, 3, 16, 32), np.float16, 4)
    eager = torch_weights.from_torch(found)["params"]
    expected = banks.fit(key, [eager], clusters=2, layers=chosen)
    for name in chosen:
        np.testing.assert_array_equal(bank.filters[name], expected.filters[name])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_narrow_numbers_of_safetensors(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    value = jnp.asarray([[1.5, -2.0, 0.25], [3.0, 4.0, 5.0]], dtype)
    # Transposed: the library safetensors writes memory as it lies.
    jaxinit.save_weights(path, {"a": np.asarray(value).T, "b": value, "none": np.float32(1)})
    found = jaxinit.open_weights(path)
    assert (found["b"].dtype, found["none"].shape) == (np.dtype(dtype), ())
    np.testing.assert_array_equal(np.asarray(found["b"], np.float32), value.astype(jnp.float32))
    np.testing.assert_array_equal(np.asarray(found["a"]), np.asarray(value).T)
    np.testing.assert_array_equal(np.asarray(found["a"].transpose((1, 0))), np.asarray(value))


@pytest.mark.parametrize("suffix", ["safetensors"])
def test_files_of_pytorchs_own_safetensors(tmp_path, suffix):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    values = {"a": torch.arange(6).reshape(2, 3).to(torch.bfloat16), "b": torch.ones(2)}
    save_file(values, tmp_path / f"theirs.{suffix}")
    found = jaxinit.open_weights(tmp_path / f"theirs.{suffix}")
    np.testing.assert_array_equal(np.asarray(found["a"], np.float32), [[0, 1, 2], [3, 4, 5]])


@BOTH
@pytest.mark.parametrize("damage", ["cut", "empty", "other", "pickle"])
def test_damaged_files(tmp_path, state, suffix, damage):
    path = tmp_path / f"weights{suffix}"
    jaxinit.save_weights(path, state)
    whole = path.read_bytes()
    changed = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "other": b"<!DOCTYPE html>" * 20,
        "pickle": pickle.dumps({"conv1.weight": np.ones(3)}),
    }
    path.write_bytes(changed[damage])
    sentence = f"{re.escape(str(path))} is damaged or not a {suffix} file"
    with pytest.raises(ValueError, match=sentence):
        jaxinit.open_weights(path)


@BOTH
def test_a_file_damaged_after_it_was_opened(tmp_path, state, suffix):
    path = tmp_path / f"weights{suffix}"
    jaxinit.save_weights(path, state)
    found = jaxinit.open_weights(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged or not"):
        np.asarray(found["conv1.weight"])


def test_objects_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{"code": 1}], object))
    with pytest.raises(ValueError, match="'a' holds no numbers but object"):
        jaxinit.open_weights(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.ckpt", "a.pth.tar"])
def test_pickles_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"is a pickle, .* safetensors\.torch\.save_file"):
        jaxinit.open_weights(tmp_path / name)
    with pytest.raises(ValueError, match="is a pickle"):
        jaxinit.save_weights(tmp_path / name, {})


def test_other_files_and_numbers_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        jaxinit.open_weights(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"give a \.safetensors or \.npz file"):
        jaxinit.save_weights(tmp_path / "a.h5", {})
    with pytest.raises(ValueError, match=r"'a' is of bfloat16, which a \.npz file cannot hold"):
        jaxinit.save_weights(tmp_path / "a.npz", {"a": jnp.ones(2, jnp.bfloat16)})
    with pytest.raises(ValueError, match="'a' is of complex64"):
        jaxinit.save_weights(tmp_path / "a.npz", {"a": np.ones(2, np.complex64)})
    assert not list(tmp_path.iterdir())


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(ImportError, match=r"say pip install 'jaxinit\[safetensors\]'"):
        jaxinit.open_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_published_weights(depth):
    """Of networks that others trained, whose predictions of noise are at least definite."""
    folder = os.environ.get("JAXINIT_WEIGHTS_DIR")
    if not folder:
        pytest.skip("JAXINIT_WEIGHTS_DIR names no folder with cifar10-resnet20.npz and so on")
    found = jaxinit.open_weights(Path(folder) / f"cifar10-resnet{depth}.npz")
    assert torch_weights.network_of(found) == f"resnet{depth}"
    back = torch_weights.to_torch(torch_weights.from_torch(found))
    for name, stored in found.items():
        np.testing.assert_array_equal(back[name], np.asarray(stored, np.float32))
