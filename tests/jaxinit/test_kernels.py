"""Kernels in a tree: how they are stored, put back, and cut into slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import kernels
from jaxinit.kernels import Flip, Part, Place, Reshape, Transpose


def test_slices_by_hand():
    """Tap (a, b) from input i to output o holds 1000a + 100b + 10i + o; row o·3 + i is a slice."""
    a, b, i, o = np.meshgrid(*(np.arange(n) for n in (2, 2, 3, 2)), indexing="ij")
    kernel = jnp.asarray(1000 * a + 100 * b + 10 * i + o, jnp.float32)
    slices = kernels.to_slices(kernel)
    assert slices.shape == (6, 4)
    np.testing.assert_array_equal(slices[0], [0, 100, 1000, 1100])
    np.testing.assert_array_equal(slices[1], [10, 110, 1010, 1110])
    np.testing.assert_array_equal(slices[5], [21, 121, 1021, 1121])


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (3, 4, 6), (2, 3, 4, 5, 6)])
def test_slices_round_trip(shape):
    kernel = jax.random.normal(jax.random.key(0), shape)
    slices = kernels.to_slices(kernel)
    assert slices.shape == (shape[-1] * shape[-2], np.prod(shape[:-2]))
    np.testing.assert_array_equal(kernels.from_slices(slices, shape), kernel)


def test_slices_of_many_kernels():
    many = jax.random.normal(jax.random.key(1), (2, 3, 3, 4, 6))
    looped = jnp.stack([kernels.to_slices(k) for k in many])
    np.testing.assert_array_equal(jax.vmap(kernels.to_slices)(many), looped)


@pytest.mark.parametrize(
    "view",
    [
        (),
        (Transpose((2, 3, 1, 0)),),
        (Flip((0, 1)),),
        (Reshape((3, 2, 4, 10)),),
        (Part((0, 0, 0, 2), (3, 8, 2, 5), (1, 1, 1, 1)),),
        (Transpose((1, 0, 3, 2)), Flip((0,)), Reshape((8, 30)), Part((0, 1), (2, 9), (1, 2))),
    ],
)  # fmt: skip
def test_what_is_put_is_got_and_nothing_else_changes(view):
    params = {"a": {"w": jnp.arange(240.0).reshape(3, 8, 2, 5)}, "b": jnp.ones(2)}
    place = Place(("a", "w"), view)
    before = kernels.get(params, place)
    np.testing.assert_array_equal(before.shape, kernels.shape_after(view, (3, 8, 2, 5)))
    new = -1 - before
    made = kernels.put(params, {place: new})
    np.testing.assert_array_equal(kernels.get(made, place), new)
    assert made["b"] is params["b"]
    assert made["a"]["w"].shape == (3, 8, 2, 5)
    touched = np.asarray(made["a"]["w"] != params["a"]["w"])
    assert touched.sum() == before.size
    np.testing.assert_array_equal(made["a"]["w"][~touched], params["a"]["w"][~touched])


def test_several_parts_of_one_leaf():
    params = [jnp.zeros((3, 2, 2, 1, 1))]
    places = [
        Place((0,), (Part((n, 0, 0, 0, 0), (n + 1, 2, 2, 1, 1), (1,) * 5), Reshape((2, 2, 1, 1))))
        for n in range(3)
    ]
    made = kernels.put(
        params, {place: jnp.full((2, 2, 1, 1), n + 1.0) for n, place in enumerate(places)}
    )
    np.testing.assert_array_equal(made[0][:, 0, 0, 0, 0], [1, 2, 3])


def test_simplified():
    shape = (2, 3, 4, 5)
    twice = (Transpose((3, 2, 1, 0)), Transpose((3, 2, 1, 0)))
    assert kernels.simplified(twice, shape) == ()
    merged = kernels.simplified((Transpose((1, 0, 2, 3)), Transpose((0, 1, 3, 2))), shape)
    assert merged == (Transpose((1, 0, 3, 2)),)
    leaf = jnp.arange(120.0).reshape(shape)
    stepwise = jnp.transpose(jnp.transpose(leaf, (1, 0, 2, 3)), (0, 1, 3, 2))
    np.testing.assert_array_equal(merged[0].apply(leaf), stepwise)
    assert kernels.simplified((Reshape(shape), Part((0,) * 4, shape, (1,) * 4)), shape) == ()


def test_missing_and_odd_leaves():
    with pytest.raises(ValueError, match="the tree has no a/w"):
        kernels.get({"a": {"v": jnp.ones(3)}}, Place(("a", "w"), ()))
    place = Place(("a",), ())
    with pytest.raises(ValueError, match="numbers of type int32"):
        kernels.put({"a": jnp.ones((1, 1, 1, 1), jnp.int32)}, {place: jnp.ones((1, 1, 1, 1))})


@pytest.mark.parametrize("shape", [(64, 3, 7, 7), (16, 3, 3, 3), (64, 64, 3, 3), (8, 8, 3, 3)])
def test_shapes_in_the_order_of_pytorch_are_refused(shape):
    with pytest.raises(ValueError, match=r"looks like \(out, in, height, width\)"):
        kernels.check_channels_last(shape)


@pytest.mark.parametrize("shape", [(1, 7, 4, 4), (7, 1, 4, 4), (7, 7, 4, 4), (3, 5, 8, 8)])
def test_shapes_that_are_in_order_are_taken(shape):
    kernels.check_channels_last(shape)


@pytest.mark.parametrize(
    "shape",
    [(7, 7, 3, 64), (3, 3, 1, 1), (7, 7, 3, 3), (1, 7, 64, 64), (16, 16, 3, 768), (3, 3, 3, 3)],
)
def test_usual_shapes_pass(shape):
    kernels.check_channels_last(shape)


def test_shapes_of_another_rank_are_refused():
    with pytest.raises(ValueError, match="choose 2-D convolutions"):
        kernels.check_channels_last((3, 4, 8))


@jax.tree_util.register_pytree_with_keys_class
class Twins:
    """A node that holds two leaves under one name, once as a key and once as an attribute."""

    def __init__(self, one, other):
        self.both = (one, other)

    def tree_flatten_with_keys(self):
        keys = jax.tree_util.DictKey("a"), jax.tree_util.GetAttrKey("a")
        return tuple(zip(keys, self.both, strict=True)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_two_leaves_of_one_path_are_refused():
    tree = {"conv": Twins(jnp.zeros((3, 3, 1, 1)), jnp.ones((3, 3, 1, 1)))}
    with pytest.raises(ValueError, match="two leaves of the tree have the path 'conv/a': rename"):
        kernels.put(tree, {Place(("conv", "a"), ()): jnp.ones((3, 3, 1, 1))})


def test_a_leaf_of_another_rank_than_was_traced_gets_a_sentence():
    transposed = kernels.Place(("w",), (kernels.Transpose((2, 3, 1, 0)),))
    part = kernels.Place(("w",), (kernels.Part((0, 0), (1, 1), (1, 1)),))
    for place in (transposed, part):
        with pytest.raises(ValueError, match=r"w has the shape \(3,\), not that which"):
            kernels.get({"w": jnp.ones(3)}, place)
