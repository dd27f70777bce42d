"""Orders that were taken away are found again."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import alignment
from tests.jaxinit.alignment.two_networks import KEY, assert_same, shuffled


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


def test_matching_is_never_worse_than_nothing_where_axes_are_tied():
    """Nor where weights have half precision; ⟨reference, permuted⟩ by NumPy in float64."""
    rng = np.random.default_rng(0)
    axes = {"in": (None, "h"), "loop": ("h", "h"), "cube": ("h", None, "h", "h")}
    symmetry = {f"params/{name}": own for name, own in axes.items()}
    better = 0
    for case in range(200):
        size, dtype = rng.integers(2, 6), (jnp.float32, jnp.float16, jnp.bfloat16)[case % 3]
        shapes = [tuple(size if a else 2 for a in own) for own in axes.values()]
        networks = [
            {"params": dict(zip(axes, (200 * rng.standard_normal(s) for s in shapes), strict=True))}
            for _ in range(2)
        ]
        reference, other = jax.tree.map(lambda a, t=dtype: np.asarray(a, t), networks)
        found = alignment.match(KEY, reference, other, symmetry)["h"]

        def alike(order, reference=reference, other=other):
            total = 0.0
            for name, own in axes.items():
                moved = np.asarray(other["params"][name], np.float64)
                for axis in (a for a, tied in enumerate(own) if tied):
                    moved = np.take(moved, order, axis)
                total += np.vdot(np.asarray(reference["params"][name], np.float64), moved)
            return total

        assert alike(found) >= alike(np.arange(size))
        better += alike(found) > alike(np.arange(size))
    assert better > 100


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


def test_bad_input_gets_a_sentence(networks):
    _, variables = networks[True]
    symmetry = alignment.resnet18()
    with pytest.raises(ValueError, match="the symmetry is of another one"):
        alignment.match(KEY, {"params": {}}, variables, symmetry)
    with pytest.raises(ValueError, match="different permutations"):
        alignment.match_activations({"a": jnp.ones((2, 2))}, {})
    with pytest.raises(ValueError, match="record both on the same inputs"):
        alignment.match_activations({"a": jnp.ones((2, 2))}, {"a": jnp.ones((3, 2))})
    with pytest.raises(ValueError, match="'a' are not finite"):
        alignment.match_activations({"a": jnp.full((2, 2), jnp.nan)}, {"a": jnp.ones((2, 2))})
    sick = jax.tree.map(lambda leaf: leaf * jnp.nan, variables)
    with pytest.raises(ValueError, match="is not finite"):
        alignment.match(KEY, variables, sick, symmetry)
