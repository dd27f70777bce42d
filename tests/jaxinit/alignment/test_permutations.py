"""Permuting channels leaves what a network computes as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import alignment
from jaxinit.alignment import permutations
from tests.jaxinit.alignment.two_networks import BOTH, KEY, assert_same, shuffled
from tests.small import get_kernel, layer_names


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


def test_an_average_of_whole_numbers():
    steps = [{"step": jnp.int32(2)}, {"step": jnp.int32(4)}]
    assert permutations.average(steps)["step"] == 3
