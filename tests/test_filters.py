"""Which convolutions a tree has, in which order, and their 2-D slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import filters


def conv(seed=0.0):
    return {"kernel": jnp.full((3, 3, 2, 4), seed)}


@pytest.fixture
def params():
    return {
        "layer10_0": {"conv1": conv(5.0)},
        "layer2_0": {
            "conv2": conv(3.0),
            "shortcut_conv": conv(9.0),
            "conv1": conv(2.0),
            "bn1": {"scale": jnp.ones(4), "bias": jnp.zeros(4)},
        },
        "fc": {"kernel": jnp.ones((4, 10)), "bias": jnp.zeros(10)},
        "conv1": conv(1.0),
        "shortcut_all": {"conv1": conv(9.0)},
    }


NAMES = ("conv1", "layer2_0/conv1", "layer2_0/conv2", "layer10_0/conv1")


def test_order_is_natural_and_shortcuts_are_left_out(params):
    assert filters.layer_names(params) == NAMES
    assert filters.layer_names(jax.eval_shape(lambda: params)) == NAMES


def test_order_survives_a_pass_through_jax(params):
    assert filters.layer_names(jax.tree.map(lambda leaf: leaf + 1, params)) == NAMES


def test_a_tree_without_convolutions():
    assert filters.layer_names({"fc": {"kernel": jnp.ones((4, 10))}}) == ()


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        (None, NAMES),
        (0, ()),
        (2, NAMES[:2]),
        (4, NAMES),
        (slice(1, None), NAMES[1:]),
        (slice(None, None, 2), NAMES[::2]),
        (slice(-1, None), NAMES[-1:]),
        ([2, 0], (NAMES[0], NAMES[2])),
        ((), ()),
        (["layer10_0/conv1", "conv1"], (NAMES[0], NAMES[3])),
        ((3, 3), (NAMES[3],)),
    ],
)
def test_select_layers(params, layers, chosen):
    assert filters.select_layers(params, layers) == chosen


@pytest.mark.parametrize("layers", [-1, 5])
def test_a_number_of_layers_that_the_network_lacks(params, layers):
    with pytest.raises(ValueError, match=rf"layers={layers} is out of range.*4 convolutions"):
        filters.select_layers(params, layers)


@pytest.mark.parametrize("layer", [4, -1, "conv2", "layer2_0/shortcut_conv", "fc"])
def test_a_layer_that_the_network_lacks(params, layer):
    with pytest.raises(ValueError, match=f"layer {layer!r} is not in the network.*0 to 3"):
        filters.select_layers(params, [layer])


def test_get_and_set_kernels(params):
    assert float(filters.get_kernel(params, "layer2_0/conv2")[0, 0, 0, 0]) == 3
    new = jnp.full((3, 3, 2, 4), 7.0)
    changed = filters.set_kernels(params, {"layer2_0/conv2": new})
    assert filters.get_kernel(changed, "layer2_0/conv2") is new
    assert jax.tree.structure(changed) == jax.tree.structure(params)
    same = [a is b for a, b in zip(jax.tree.leaves(changed), jax.tree.leaves(params), strict=True)]
    assert same.count(False) == 1
    assert float(filters.get_kernel(params, "layer2_0/conv2")[0, 0, 0, 0]) == 3


def test_slices_by_hand():
    """Tap (a, b) from input i to output o holds 1000a + 100b + 10i + o; row o·3 + i is a slice."""
    a, b, i, o = np.meshgrid(*(np.arange(n) for n in (2, 2, 3, 2)), indexing="ij")
    kernel = jnp.asarray(1000 * a + 100 * b + 10 * i + o, jnp.float32)
    slices = filters.to_slices(kernel)
    assert slices.shape == (6, 4)
    np.testing.assert_array_equal(slices[0], [0, 100, 1000, 1100])
    np.testing.assert_array_equal(slices[1], [10, 110, 1010, 1110])
    np.testing.assert_array_equal(slices[5], [21, 121, 1021, 1121])


def test_slices_round_trip():
    kernel = jax.random.normal(jax.random.key(0), (3, 5, 4, 6))
    np.testing.assert_array_equal(
        filters.from_slices(filters.to_slices(kernel), (3, 5, 4, 6)), kernel
    )
    kernels = jax.random.normal(jax.random.key(1), (2, 3, 3, 4, 6))
    looped = jnp.stack([filters.to_slices(k) for k in kernels])
    np.testing.assert_array_equal(jax.vmap(filters.to_slices)(kernels), looped)
