"""What is drawn from a bank."""

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import banks, kernels
from tests import small
from tests.jaxinit.banks.two_models import KEY, MODELS


@pytest.fixture
def bank() -> banks.FilterBank:
    return small.bank_for(MODELS[0])


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
