"""How a bank is made of models."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import banks, distances, kernels, kmeans
from tests import small
from tests.jaxinit.banks.two_models import KEY, MODELS, SHAPES, fit, layer_slices, model


@pytest.fixture(scope="module")
def bank() -> banks.FilterBank:
    return fit(sources=["pair (0, 1)", "pair (0, 2) – ü"])


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


@pytest.mark.parametrize("distance", distances.names())
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
    name = "layer1_0/conv2"
    settings = {"clusters": 2 * 10, "most_slices": 21, "layers": [name]}
    thinned = fit(**settings, representative="member", members_per_cluster=1)
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
        {"conv1": {"kernel": rng.standard_normal((3, 3, 32, 32), np.float32)}} for _ in range(4)
    ]
    slices = jnp.concatenate([kernels.to_slices(jnp.asarray(m["conv1"]["kernel"])) for m in models])
    inertia = []
    for most in (2**24, 2**11):
        bank = banks.fit(KEY, models, clusters=8, restarts=1, most_slices=most)
        assert bank.sizes["conv1"].sum() == min(most, 4 * 32 * 32)
        inertia.append(kmeans.assign(slices, bank.filters["conv1"][:, 0])[1].sum())
    assert inertia[1] / inertia[0] < 1.02


def test_same_key_same_bank_other_key_another(bank):
    again = fit()
    other = banks.fit(jax.random.key(1), MODELS, clusters=4, restarts=1)
    for name in SHAPES:
        np.testing.assert_array_equal(again.filters[name], bank.filters[name])
        assert not np.array_equal(other.filters[name], bank.filters[name])


def broken(name: str, value: Any) -> dict[str, Any]:
    tree = model(2)
    tree[name]["kernel"] = value(tree[name]["kernel"])
    return tree


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models": []}, "at least one model"),
        ({"clusters": 0}, "clusters=0"),
        (
            {"clusters": 49, "layers": 1},
            "layer conv1 has 48 slices over all models, too few for 49 clusters",
        ),
        ({"distance": "l1"}, "'l1' is not known"),
        ({"representative": "mode"}, "'mode' is not known: choose one of centroid"),
        ({"representative": "inverse", "distance": "fourier"}, "'fourier' has no inverse"),
        ({"representative": "inverse", "distance": "cosine"}, "'cosine' has no inverse"),
        ({"layers": ["conv9"]}, "'conv9' is not in the network"),
        ({"models": [model(0), {"fc": {}}], "layers": 1}, "model 1 has no layer conv1"),
        (
            {"models": [model(0), broken("conv1", lambda k: k[:5])]},
            r"layer conv1 has shape \(5, 7, 3, 8\) in model 1, but \(7, 7, 3, 8\) in model 0",
        ),
        (
            {
                "models": [model(0), broken("conv1", lambda k: k * np.float32("inf"))],
                "layers": 1,
            },
            "layer conv1 of model 1 is not finite",
        ),
        (
            {
                "models": [model(0), broken("conv1", lambda k: np.where(k == k.max(), np.nan, k))],
                "most_slices": 10,
                "layers": 1,
            },
            "layer conv1 of model 1 is not finite",
        ),
        ({"most_slices": 1}, "most_slices=1 leaves none to each of 2 models"),
    ],
)
def test_bad_input_to_fit(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        fit(**change)


def test_every_distance_is_offered_by_name():
    for name in distances.names():
        made = fit(distance=name, layers=["layer1_0/conv1"])
        assert made.provenance == dataclasses.replace(fit(layers=1).provenance, distance=name)
        assert distances.get(made.provenance.distance).name == name


def test_a_bank_of_live_taps_alone():
    """What met no data neither decides the clusters nor is drawn."""
    rng = np.random.default_rng(4)
    kernel = rng.normal(0, 1, (3, 3, 16, 16)).astype(np.float32)
    kernel[1, 1] = np.where(rng.random((16, 16)) < 0.5, -0.3, 0.3)
    model = {"conv1": {"kernel": jnp.asarray(kernel)}}
    centre = {"conv1": (slice(1, 2), slice(1, 2))}
    bank = banks.fit(KEY, [model], clusters=2, live=centre)
    found = np.asarray(bank.filters["conv1"])[:, 0]
    np.testing.assert_allclose(np.sort(found[:, 4]), [-0.3, 0.3], atol=1e-6)
    assert not np.delete(found, 4, axis=1).any()
    bank = banks.fit(
        KEY, [model], clusters=2, live=centre, distance="fourier_real",
        representative="inverse",
    )  # fmt: skip
    assert not np.delete(np.asarray(bank.filters["conv1"])[:, 0], 4, axis=1).any()
    bank = banks.fit(KEY, [model], clusters=2)
    blind = np.asarray(bank.filters["conv1"])[:, 0]
    assert np.abs(blind[:, 4]).max() < 0.15  # the others' noise averages the centre away


def test_a_bank_remembers_how_many_members_it_keeps():
    settings = {"layers": ["layer1_0/conv2"], "members_per_cluster": 5}
    assert fit(representative="member", **settings).provenance.members == 5
    assert fit(representative="medoid", **settings).provenance.members == 1
