"""Starts drawn from a bank."""

import dataclasses

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import initializers, kernels
from tests import small


def test_clustered_slices_are_centres_in_proportion_to_the_clusters_sizes(bank, params):
    made = initializers.clustered(bank)(jax.random.key(7), params)
    name = "layer2_0/conv2"
    slices = np.asarray(kernels.to_slices(small.get_kernel(made, name)))
    centres = np.asarray(bank.filters[name])[:, 0]
    distances = np.abs(slices[:, None] - centres[None]).max(axis=2)
    np.testing.assert_allclose(distances.min(axis=1), 0, atol=1e-7)
    counts = np.bincount(distances.argmin(axis=1), minlength=3)
    sizes = np.asarray(bank.sizes[name])
    expected = sizes / sizes.sum() * len(slices)
    deviation = np.sqrt(expected * (1 - expected / len(slices)))
    assert np.all(np.abs(counts - expected) < 5 * deviation)


def test_clustered_kernel_fits_kernel_init_of_flax(bank):
    from flax import linen

    init = initializers.clustered_kernel(bank, "layer1_0/conv1")
    layer = linen.Conv(8, (3, 3), kernel_init=init)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 9, 9, 3)))
    slices = np.asarray(kernels.to_slices(jnp.asarray(variables["params"]["kernel"])))
    assert len(np.unique(slices, axis=0)) <= 3


def test_bad_input_gets_a_sentence(bank, params):
    key = jax.random.key(0)
    first = dataclasses.replace(bank, kernel_sizes=flax.core.FrozenDict({"conv1": (7, 7)}))
    small = {**params, "conv1": {"kernel": jnp.zeros((5, 5, 3, 8))}}
    with pytest.raises(ValueError, match="layer1_0/conv1"):
        initializers.clustered(first, layers=2)(key, params)
    with pytest.raises(ValueError, match="conv1"):
        initializers.clustered(bank, layers=1)(key, small)
