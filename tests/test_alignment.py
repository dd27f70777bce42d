"""Alignment: what permuting leaves as it was, and what matching and grouping find."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import alignment
from jaxinit.alignment import grouping, permutations
from jaxinit.models import resnet
from tests.small import get_kernel, layer_names

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
BOTH = pytest.mark.parametrize("residual_first_stage", [True, False])


def make_network(residual_first_stage: bool) -> tuple[Any, Any]:
    """A network whose batch norms and their statistics are not trivial."""
    network = resnet.ResNet18(10, residual_first_stage)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.jit(lambda key: network.init(key, images, train=False))(KEY)
    rng = np.random.default_rng(0)

    def stir(path, leaf):
        name = path[-1].key
        if name in ("scale", "bias", "mean", "var") and leaf.ndim == 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32))
        return leaf

    return network, jax.tree_util.tree_map_with_path(stir, variables)


@pytest.fixture(scope="module")
def networks():
    return {flag: make_network(flag) for flag in (True, False)}


def shuffled(symmetry, variables, seed=1):
    rng = np.random.default_rng(seed)
    sizes = alignment.sizes(variables, symmetry)
    return {name: rng.permutation(size) for name, size in sizes.items()}


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@BOTH
def test_permuting_leaves_the_function_as_it_was(networks, residual_first_stage):
    network, variables = networks[residual_first_stage]
    symmetry = alignment.resnet18(residual_first_stage=residual_first_stage)
    permuted = alignment.permute(variables, symmetry, shuffled(symmetry, variables))
    names = layer_names(variables["params"])
    for name in names:
        before, after = (get_kernel(v["params"], name) for v in (variables, permuted))
        assert not np.array_equal(before, after)
    images = jax.random.normal(KEY, (16, 16, 16, 3))

    @jax.jit
    def both(variables):
        evaluated = network.apply(variables, images, train=False)
        return evaluated, network.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    # Normalising by 16 values on the 1×1 maps magnifies rounding.
    for a, b, tolerance in zip(both(variables), both(permuted), (1e-5, 2e-4), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.abs(a).max()))


@BOTH
def test_every_array_of_the_network_is_in_the_symmetry(networks, residual_first_stage):
    _, variables = networks[residual_first_stage]
    symmetry = alignment.resnet18(residual_first_stage=residual_first_stage)
    arrays = permutations.flat(variables)
    assert set(arrays) - set(symmetry) == {"params/fc/bias"}
    assert set(symmetry) <= set(arrays)
    sizes = alignment.sizes(variables, symmetry)
    # Four streams and a layer within each of eight blocks; or five layers of their own, three
    # streams and a layer within each of six blocks.
    assert len(sizes) == (12 if residual_first_stage else 14)
    assert sizes["stage4"] == 512


def test_permuting_back_gives_the_network_back(networks):
    _, variables = networks[True]
    symmetry = alignment.resnet18()
    permutations = shuffled(symmetry, variables)
    back = {name: np.argsort(own) for name, own in permutations.items()}
    permuted = alignment.permute(variables, symmetry, permutations)
    assert_same(alignment.permute(permuted, symmetry, back), variables)
    assert_same(alignment.permute(variables, symmetry, {}), variables)


def small(seed: int) -> tuple[dict[str, Any], alignment.Symmetry]:
    """Two linear layers with four hidden channels, and one with three after them."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (5, 4), "b": (4, 3), "c": (3, 2)}
    params = {n: {"kernel": jnp.asarray(rng.standard_normal(s))} for n, s in shapes.items()}
    symmetry = {
        "params/a/kernel": (None, "first"),
        "params/b/kernel": ("first", "second"),
        "params/c/kernel": ("second", None),
    }
    return {"params": params}, symmetry


def likeness(reference, variables, symmetry, permutations):
    permuted = alignment.permute(variables, symmetry, permutations)
    pairs = zip(jax.tree.leaves(reference), jax.tree.leaves(permuted), strict=True)
    return sum(float((a * b).sum()) for a, b in pairs)


def test_matching_gains_what_no_single_permutation_can_add_to():
    (reference, symmetry), (other, _) = small(0), small(1)
    found = alignment.match(KEY, reference, other, symmetry)
    best = likeness(reference, other, symmetry, found)
    for name, size in (("first", 4), ("second", 3)):
        for own in itertools.permutations(range(size)):
            changed = {**found, name: np.array(own)}
            assert likeness(reference, other, symmetry, changed) <= best + 1e-5
    everything = itertools.product(
        itertools.permutations(range(4)), itertools.permutations(range(3))
    )
    values = [
        likeness(reference, other, symmetry, {"first": np.array(a), "second": np.array(b)})
        for a, b in everything
    ]
    assert best > np.quantile(values, 0.9)


def test_matching_never_loses_where_a_permutation_acts_on_two_axes():
    symmetry = {"params/in": (None, "h"), "params/loop": ("h", "h"), "params/out": ("h", None)}
    shapes = {"in": (2, 6), "loop": (6, 6), "out": (6, 2)}

    def drawn(seed):
        rng = np.random.default_rng(seed)
        return {"params": {n: jnp.asarray(rng.standard_normal(s)) for n, s in shapes.items()}}

    gained = 0
    for seed in range(40):
        reference, other = drawn(2 * seed), drawn(2 * seed + 1)
        start = likeness(reference, other, symmetry, {})
        values = []  # after each number of sweeps
        for sweeps in range(4):
            found = alignment.match(KEY, reference, other, symmetry, max_sweeps=sweeps)
            values.append(likeness(reference, other, symmetry, found))
        assert values == sorted(values)
        assert values[0] == start
        gained += values[-1] > start
    assert gained > 30
    reference, order = drawn(0), np.array([3, 0, 5, 1, 2, 4])
    copy = alignment.permute(reference, symmetry, {"h": order})
    found = alignment.match(KEY, reference, copy, symmetry)
    assert_same(alignment.permute(copy, symmetry, found), reference)


def test_matching_finds_the_order_that_was_taken_away(networks):
    _, variables = networks[True]
    symmetry = alignment.resnet18()
    permuted = alignment.permute(variables, symmetry, shuffled(symmetry, variables))
    found = alignment.match(KEY, variables, permuted, symmetry)
    assert_same(alignment.permute(permuted, symmetry, found), variables)


def test_activations_find_the_order_that_was_taken_away(networks):
    network, variables = networks[True]
    symmetry = alignment.resnet18()
    permuted = alignment.permute(variables, symmetry, shuffled(symmetry, variables))
    images = jax.random.normal(KEY, (24, 16, 16, 3))
    record = jax.jit(lambda v: alignment.activations(network, v, images, symmetry))
    reference = record(variables)
    assert {name: rows.shape[1] for name, rows in reference.items()} == alignment.sizes(
        variables, symmetry
    )
    found = alignment.match_activations(reference, record(permuted))
    assert_same(alignment.permute(permuted, symmetry, found), variables)


def grouped_by_hand(kernels: np.ndarray) -> np.ndarray:
    """The description, in loops: groups of (model, filter), one of each model in each group."""
    models, *_, outputs = kernels.shape
    vectors = kernels.transpose(0, 4, 3, 1, 2).reshape(models, outputs, -1)
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    left = [set(range(outputs)) for _ in range(models)]
    members = np.zeros((models, outputs), int)
    for group in range(outputs):
        chosen = [unit[0, group]]
        members[0, group] = group
        for model in range(1, models):
            costs = {
                f: sum(
                    np.linalg.norm(np.fft.fft(unit[model, f]).real - np.fft.fft(c).real)
                    for c in chosen
                )
                for f in left[model]
            }
            best = min(costs, key=lambda f: costs[f])
            left[model].remove(best)
            members[model, group] = best
            chosen.append(unit[model, best])
    return members


def test_groups_are_those_of_the_description():
    kernels = np.random.default_rng(0).standard_normal((4, 3, 3, 2, 10)).astype(np.float32)
    groups = alignment.group_filters(jnp.asarray(kernels))
    members = grouped_by_hand(kernels)
    np.testing.assert_array_equal(groups.members, members)
    for group in range(10):
        mean = np.mean([kernels[m, ..., members[m, group]] for m in range(4)], axis=0)
        np.testing.assert_allclose(groups.means[..., group], mean, atol=1e-6)


def test_optimal_groups_are_as_near_as_any():
    kernels = np.random.default_rng(1).standard_normal((2, 3, 3, 2, 5)).astype(np.float32)
    between = np.asarray(grouping._between(jnp.asarray(kernels)))[1, 0]

    def total(members):
        return sum(between[f, g] for g, f in enumerate(members))

    best = min(total(order) for order in itertools.permutations(range(5)))
    optimal, greedy = (
        alignment.group_filters(jnp.asarray(kernels), optimal=o).members[1].tolist()
        for o in (True, False)
    )
    assert total(optimal) == pytest.approx(best)
    assert total(greedy) > best  # here greed does not pay


@pytest.mark.parametrize("optimal", [False, True])
def test_layers_are_grouped_in_turn(networks, optimal):
    """Copies of one network in other orders come back, layer after layer."""
    _, variables = networks[False]
    symmetry = alignment.resnet18(residual_first_stage=False)
    copies = [
        alignment.permute(variables, symmetry, shuffled(symmetry, variables, seed))
        for seed in (1, 2)
    ]
    aligned, means = alignment.align_layers([variables, *copies], symmetry, 4, optimal=optimal)
    assert tuple(means) == layer_names(variables["params"])[:4]
    for name, mean in means.items():
        kernel = get_kernel(variables["params"], name)
        np.testing.assert_allclose(mean, kernel, atol=1e-6)
        for network in aligned:
            np.testing.assert_array_equal(get_kernel(network["params"], name), kernel)
    # What reads the last of them follows; further on nothing is in order yet.
    names = layer_names(variables["params"])
    for name, same in ((names[4], True), (names[6], False)):
        kernels = [get_kernel(v["params"], name) for v in (variables, aligned[1])]
        ours, theirs = (np.sort(np.asarray(k), axis=3) for k in kernels)
        assert np.array_equal(ours, theirs) == same


def test_average_of_aligned_copies_is_the_network(networks):
    _, variables = networks[True]
    mean = alignment.average([variables, variables, variables])
    for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_bad_input_gets_a_sentence(networks):
    _, variables = networks[True]
    symmetry = alignment.resnet18()
    with pytest.raises(ValueError, match=r"'stage1' has 3 places, but axis \d of .* has 64"):
        alignment.permute(variables, symmetry, {"stage1": np.arange(3)})
    for wrong in ([0, 1, 1], [0, 1, 3], [-1, 0, 1], [1, 2, 3]):
        with pytest.raises(ValueError, match="'first' must have each of the channels 0 to 2 once"):
            alignment.permute({}, {}, {"first": np.array(wrong)})
    with pytest.raises(ValueError, match="the symmetry is of another one"):
        alignment.match(KEY, {"params": {}}, variables, symmetry)
    with pytest.raises(ValueError, match="different permutations"):
        alignment.match_activations({"a": jnp.ones((2, 2))}, {})
    with pytest.raises(ValueError, match="record both on the same inputs"):
        alignment.match_activations({"a": jnp.ones((2, 2))}, {"a": jnp.ones((3, 2))})
    with pytest.raises(ValueError, match="shares its channels with a residual stream"):
        alignment.align_layers([variables], symmetry, 2)
    with pytest.raises(ValueError, match="at least one network"):
        alignment.align_layers([], symmetry, 2)
    with pytest.raises(ValueError, match="at least one network"):
        alignment.average([])
    for other, what in (
        ({"a": jnp.ones(3)}, "a"),
        ({"a": jnp.ones(2), "b": jnp.ones(1)}, "b"),
        ({}, "a"),
        ([], "a"),
    ):
        with pytest.raises(ValueError, match=f"network 1 differs from the first in {what}: "):
            alignment.average([{"a": jnp.ones(2)}, other])
    with pytest.raises(ValueError, match="the kind of its tree"):
        alignment.average([[jnp.ones(2)], (jnp.ones(2),)])
    with pytest.raises(ValueError, match="keep their order: leave it out"):
        alignment.align_layers([variables], {}, 2)
