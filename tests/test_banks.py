import dataclasses
import io
import json
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import banks, distances, kernels, kmeans
from jaxinit.banks import bank_file
from tests import small

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
SHAPES = {"conv1": (7, 7, 3, 8), "layer1_0/conv1": (3, 3, 8, 8), "layer1_0/conv2": (3, 3, 8, 8)}


def model(seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    tree: dict[str, Any] = {"fc": {"kernel": np.zeros((8, 2), np.float32)}}
    for name, shape in shapes.items():
        node = tree
        for part in name.split("/"):
            node = node.setdefault(part, {})
        node["kernel"] = rng.standard_normal(shape, dtype=np.float32)
    return tree


MODELS = [model(0), model(1)]


def fit(**settings: Any) -> banks.FilterBank:
    return banks.fit(KEY, MODELS, **{"clusters": 4, "restarts": 1, **settings})


@pytest.fixture(scope="module")
def bank() -> banks.FilterBank:
    return fit(sources=["pair (0, 1)", "pair (0, 2) – ü"])


def layer_slices(name: str) -> np.ndarray:
    own = [jnp.asarray(small.get_kernel(m, name)) for m in MODELS]
    return np.concatenate([kernels.to_slices(kernel) for kernel in own])


def test_what_a_bank_holds(bank):
    assert set(bank.filters) == set(bank.sizes) == set(bank.inertia) == set(SHAPES)
    assert bank.kernel_sizes["conv1"] == (7, 7)
    assert bank.filters["conv1"].shape == (4, 1, 49)
    np.testing.assert_array_equal(bank.sizes["layer1_0/conv1"].sum(), 2 * 64)
    assert bank.provenance.models == 2
    assert bank.provenance.sources == ("pair (0, 1)", "pair (0, 2) – ü")


def test_centroids_are_those_of_k_means(bank):
    x = layer_slices("layer1_0/conv2")
    labels, squares = kmeans.assign(x, bank.filters["layer1_0/conv2"][:, 0])
    for j in range(4):
        np.testing.assert_allclose(
            bank.filters["layer1_0/conv2"][j, 0], x[np.asarray(labels) == j].mean(0), atol=0.05
        )
    np.testing.assert_allclose(bank.inertia["layer1_0/conv2"], squares.sum(), rtol=1e-2)


@pytest.mark.parametrize("distance", ["euclidean", "fourier", "fourier_real", "cosine"])
def test_medoids_and_members_are_real_slices(distance):
    name = "layer1_0/conv1"
    x = layer_slices(name)
    for representative in ("medoid", "member"):
        made = fit(distance=distance, representative=representative, layers=[name])
        candidates = np.asarray(made.filters[name]).reshape(-1, 9)
        assert {row.tobytes() for row in candidates} <= {row.tobytes() for row in x}
    assert made.filters[name].shape == (4, 16, 9)


def test_representatives_by_hand():
    # 1×1 slices are numbers. Two clusters: {0, 1, 2.6} (mean 1.2, nearest 1) and {10, 12}.
    numbers = jnp.array([0.0, 1.0, 2.6, 10.0, 12.0])
    tree = {"conv1": {"kernel": numbers.reshape(1, 1, 5, 1)}}
    expected = {"centroid": [1.2, 11], "medoid": [1, 10], "inverse": [1.2, 11]}
    for representative, values in expected.items():
        made = banks.fit(KEY, [tree], clusters=2, representative=representative, layers="conv1")
        order = np.argsort(np.asarray(made.filters["conv1"]).ravel())
        np.testing.assert_allclose(
            np.asarray(made.filters["conv1"]).ravel()[order], values, rtol=1e-6
        )
        np.testing.assert_array_equal(np.asarray(made.sizes["conv1"])[order], [3, 2])
    members = banks.fit(
        KEY, [tree], clusters=2, representative="member", members_per_cluster=3, layers="conv1"
    ).filters["conv1"]
    low, high = sorted(np.asarray(members)[..., 0].tolist(), key=sum)
    np.testing.assert_allclose(sorted(low), [0, 1, 2.6])  # each of them, once
    assert set(high) == {10.0, 12.0}  # fewer than three: one of them is repeated


def test_inverse_of_the_real_parts_is_the_symmetric_part_of_the_centroid():
    name, settings = "layer1_0/conv1", {"distance": "fourier_real", "layers": 2}
    centroids = fit(representative="centroid", **settings).filters[name][:, 0].reshape(4, 3, 3)
    inverses = fit(representative="inverse", **settings).filters[name][:, 0].reshape(4, 3, 3)
    reflected = jnp.roll(centroids[:, ::-1, ::-1], (1, 1), (1, 2))
    # The centres of k-means are a step of Lloyd's before the means of their members.
    np.testing.assert_allclose(inverses, (centroids + reflected) / 2, atol=0.1)


def test_magnitude_clusters_average_opposed_filters_towards_zero():
    x = np.random.default_rng(0).standard_normal(9).astype(np.float32)
    kernel = jnp.asarray(np.stack([x, -x] * 8)).reshape(16, 1, 3, 3).transpose(2, 3, 1, 0)
    tree = {"conv1": {"kernel": kernel}}
    shrunk = banks.fit(KEY, [tree], clusters=1, distance="fourier")
    np.testing.assert_allclose(shrunk.filters["conv1"], 0, atol=1e-6)
    kept = banks.fit(KEY, [tree], clusters=1, distance="fourier", representative="medoid")
    np.testing.assert_allclose(np.abs(kept.filters["conv1"][0, 0]), np.abs(x), rtol=1e-6)


def test_layers_do_not_depend_on_which_others_are_chosen(bank):
    alone = fit(layers=["layer1_0/conv2"])
    assert list(alone.filters) == ["layer1_0/conv2"]
    np.testing.assert_array_equal(alone.filters["layer1_0/conv2"], bank.filters["layer1_0/conv2"])


class Stored:
    """What is read when an array is made of it, and notes that."""

    def __init__(self, array: np.ndarray, note: list[str], name: str) -> None:
        self.shape, self.ndim = array.shape, array.ndim
        self._array, self._note, self._name = array, note, name

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._note.append(self._name)
        return self._array


def test_each_layer_is_read_once_and_in_turn(bank):
    note: list[str] = []

    def stored(path: Any, leaf: np.ndarray) -> Stored:
        return Stored(leaf, note, "/".join(key.key for key in path[:-1]))

    models = [jax.tree_util.tree_map_with_path(stored, m) for m in MODELS]
    made = banks.fit(KEY, models, clusters=4, restarts=1, sources=bank.provenance.sources)
    assert note == [name for name in SHAPES for _ in MODELS]
    jax.tree.map(np.testing.assert_array_equal, made, bank)


def test_of_many_slices_so_many_are_drawn_evenly_from_each_model(bank):
    whole = fit(most_slices=2 * 64, sources=bank.provenance.sources)
    jax.tree.map(np.testing.assert_array_equal, whole, bank)
    thinned = fit(clusters=2 * 10, most_slices=21, representative="member", members_per_cluster=1)
    for name in SHAPES:
        own = [small.get_kernel(m, name) for m in MODELS]
        rows = np.concatenate([k.reshape(-1, k.shape[2] * k.shape[3]).T for k in own])
        match = (np.asarray(thinned.filters[name]) == rows[None]).all(-1).argmax(-1)
        # As many clusters as slices: each stands for one, of a run of its own.
        bounds = np.arange(21) * len(rows) // 20
        places = np.searchsorted(bounds, np.sort(match), side="right") - 1
        np.testing.assert_array_equal(places, np.arange(20))


def test_clusters_of_drawn_slices_are_as_good():
    rng = np.random.default_rng(3)
    models = [
        {"conv1": {"kernel": rng.standard_normal((3, 3, 64, 64), np.float32)}} for _ in range(4)
    ]
    slices = jnp.concatenate([kernels.to_slices(jnp.asarray(m["conv1"]["kernel"])) for m in models])
    inertia = []
    for most in (2**24, 2**12):
        bank = banks.fit(KEY, models, clusters=8, restarts=1, most_slices=most)
        assert bank.sizes["conv1"].sum() == min(most, 4 * 64 * 64)
        inertia.append(kmeans.assign(slices, bank.filters["conv1"][:, 0])[1].sum())
    assert inertia[1] / inertia[0] < 1.02


def test_same_key_same_bank_other_key_another(bank):
    again = fit()
    other = banks.fit(jax.random.key(1), MODELS, clusters=4, restarts=1)
    for name in SHAPES:
        np.testing.assert_array_equal(again.filters[name], bank.filters[name])
        assert not np.array_equal(other.filters[name], bank.filters[name])


def made_by_hand(rows: list[list[list[float]]], sizes: list[float]) -> banks.FilterBank:
    taps = jnp.array(rows, jnp.float32)
    provenance = banks.Provenance("euclidean", "member", len(sizes), 1, (), "0")
    return banks.FilterBank(
        {"conv": taps},
        {"conv": jnp.array(sizes, jnp.float32)},
        {"conv": jnp.array(0.0)},
        flax.core.FrozenDict({"conv": (1, taps.shape[2])}),
        provenance,
    )


def test_draws_follow_the_sizes_and_never_take_an_empty_cluster():
    hand = made_by_hand([[[0.0]], [[1.0]], [[2.0]], [[3.0]]], [0, 30, 70, 0])
    drawn = np.asarray(banks.draw(KEY, hand, "conv", (1, 1, 200, 200)))
    assert set(np.unique(drawn)) == {1.0, 2.0}
    assert abs((drawn == 1).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / drawn.size)
    # Independent across both channels.
    ones = (drawn == 1)[0, 0]
    assert abs(np.corrcoef(ones[:, :-1].ravel(), ones[:, 1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(ones[:-1].ravel(), ones[1:].ravel())[0, 1]) < 0.03


def test_draws_take_the_members_of_a_cluster_evenly_and_slices_whole():
    hand = made_by_hand([[[0, 10], [1, 11]], [[2, 12], [3, 13]]], [1, 3])
    drawn = np.asarray(banks.draw(KEY, hand, "conv", (1, 2, 100, 200)))
    np.testing.assert_array_equal(drawn[0, 1], drawn[0, 0] + 10)
    share = np.bincount(drawn[0, 0].astype(int).ravel()) / 20_000
    np.testing.assert_allclose(share, [1 / 8, 1 / 8, 3 / 8, 3 / 8], atol=0.02)


def test_drawn_slices_keep_their_orientation(bank):
    drawn = banks.draw(KEY, bank, "conv1", (7, 7, 3, 16))
    known = {row.tobytes() for row in np.asarray(bank.filters["conv1"][:, 0])}
    assert {row.tobytes() for row in np.asarray(kernels.to_slices(drawn))} <= known


def test_draw_under_jit_vmap_and_in_another_dtype(bank):
    shape, keys = (3, 3, 5, 6), jax.random.split(KEY, 3)

    def draw(key: jax.Array, bank: banks.FilterBank) -> jax.Array:
        return banks.draw(key, bank, "layer1_0/conv1", shape)

    compiled, mapped = jax.jit(draw), jax.vmap(draw, in_axes=(0, None))(keys, bank)
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(draw(key, bank), compiled(key, bank))
        np.testing.assert_array_equal(draw(key, bank), mapped[i])
    assert not np.array_equal(mapped[0], mapped[1])
    half = banks.draw(keys[0], bank, "layer1_0/conv1", shape, jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, mapped[0].astype(jnp.bfloat16))


def test_a_bank_is_a_pytree(bank):
    doubled = jax.tree.map(lambda a: 2 * a, bank)
    assert doubled.provenance == bank.provenance
    np.testing.assert_array_equal(doubled.sizes["conv1"], 2 * bank.sizes["conv1"])
    hash(jax.tree.structure(bank))


@pytest.mark.parametrize("representative", ["centroid", "member"])
def test_a_bank_comes_back_from_its_file(tmp_path, representative):
    made = fit(representative=representative, sources=["a", "ü"])
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
        banks.save(fit(layers=1), path)
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
    elif kind == "not JSON":
        arrays["metadata"] = np.frombuffer(b"{", np.uint8)
    if kind not in ("foreign", "not JSON"):
        arrays["metadata"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


DAMAGES = ["truncated", "empty", "text", "flipped", "array", "pickle", "foreign", "other format"]
DAMAGES += ["no layer", "shape", "not finite", "no members", "not JSON"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named(tmp_path, bank, kind):
    path = tmp_path / "bank.npz"
    banks.save(bank, path)
    path.write_bytes(damage(path.read_bytes(), kind))
    with pytest.raises(ValueError, match=r"bank\.npz is damaged or not a filter bank"):
        banks.load(path)


def test_a_later_version_is_named(tmp_path, bank, monkeypatch):
    monkeypatch.setattr(bank_file, "_VERSION", 7)
    banks.save(bank, tmp_path / "bank.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"version 7, but this jaxinit reads versions 1 to 3"):
        banks.load(tmp_path / "bank.npz")
    with pytest.raises(FileNotFoundError):
        banks.load(tmp_path / "none.npz")


def broken(name: str, value: Any) -> dict[str, Any]:
    tree = model(2)
    tree[name]["kernel"] = value(tree[name]["kernel"])
    return tree


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models": []}, "at least one model"),
        ({"clusters": 0}, "clusters=0"),
        ({"clusters": 49}, "layer conv1 has 48 slices over all models, too few for 49 clusters"),
        ({"distance": "l1"}, "'l1' is not known"),
        ({"representative": "mode"}, "'mode' is not known: choose one of centroid"),
        ({"representative": "inverse", "distance": "fourier"}, "'fourier' has no inverse"),
        ({"representative": "inverse", "distance": "cosine"}, "'cosine' has no inverse"),
        ({"layers": ["conv9"]}, "'conv9' is not in the network"),
        ({"models": [model(0), {"fc": {}}]}, "model 1 has no layer conv1"),
        (
            {"models": [model(0), broken("conv1", lambda k: k[:5])]},
            r"layer conv1 has shape \(5, 7, 3, 8\) in model 1, but \(7, 7, 3, 8\) in model 0",
        ),
        (
            {"models": [model(0), broken("conv1", lambda k: k * np.float32("inf"))]},
            "layer conv1 of model 1 is not finite",
        ),
        (
            {
                "models": [model(0), broken("conv1", lambda k: np.where(k == k.max(), np.nan, k))],
                "most_slices": 10,
            },
            "layer conv1 of model 1 is not finite",
        ),
        ({"most_slices": 1}, "most_slices=1 leaves none to each of 2 models"),
    ],
)
def test_bad_input_to_fit(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        banks.fit(KEY, **{"models": MODELS, "clusters": 4, **change})


@pytest.mark.parametrize(
    ("layer", "shape", "sentence"),
    [
        ("conv2", (7, 7, 3, 8), "no layer 'conv2': it has conv1, layer1_0/conv1"),
        ("conv1", (3, 3, 3, 8), r"shape \(3, 3, 3, 8\) cannot be drawn.*slices are 7×7"),
        ("conv1", (7, 7), r"shape \(7, 7\) cannot be drawn"),
    ],
)
def test_bad_input_to_draw(bank, layer, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        banks.draw(KEY, bank, layer, shape)


def test_every_distance_is_offered_by_name():
    for name in ("euclidean", "fourier", "fourier_real", "cosine"):
        made = fit(distance=name, layers=["layer1_0/conv1"])
        assert made.provenance == dataclasses.replace(fit(layers=1).provenance, distance=name)
        assert distances.get(made.provenance.distance).name == name
