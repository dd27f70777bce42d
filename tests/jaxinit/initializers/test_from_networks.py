"""Starts taken from trained networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import initializers
from tests.jaxinit.initializers.comparing import changed_layers, same

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_pretrained_takes_everything_of_the_same_shape(params):
    source = jax.tree.map(lambda leaf: leaf + 1, params)
    assert same(initializers.pretrained(source)(jax.random.key(0), params), source)
    head = {"kernel": jnp.zeros((16, 3)), "bias": jnp.zeros(3)}
    made = initializers.pretrained(source)(jax.random.key(0), {**params, "fc": head})
    assert same(made["fc"], head)
    assert same(made["layer1_0"], source["layer1_0"])
    part = initializers.pretrained(source, layers=2)(jax.random.key(0), params)
    assert changed_layers(params, part) == ["conv1", "layer1_0/conv1"]


def test_whole_filters_are_those_of_the_sources_with_their_inputs(params):
    sources = [jax.tree.map(lambda leaf, by=by: by * leaf, params) for by in (2, 3)]
    made = initializers.whole_filters(sources, layers=1)(jax.random.key(0), params)
    assert changed_layers(params, made) == ["conv1"]
    real = np.concatenate([s["conv1"]["kernel"] for s in sources], axis=3).reshape(-1, 16).T
    drawn = np.asarray(made["conv1"]["kernel"]).reshape(-1, 8).T
    nearest = np.abs(drawn[:, None] - real[None]).max(axis=2)
    np.testing.assert_array_equal(nearest.min(axis=1), 0)
    assert len(set(nearest.argmin(axis=1))) > 3  # of 16, and not the first alone


def test_bad_input_gets_a_sentence(params):
    key = jax.random.key(0)
    small = {**params, "conv1": {"kernel": jnp.zeros((5, 5, 3, 8))}}
    with pytest.raises(ValueError, match="another network"):
        initializers.pretrained({"conv1": params["conv1"]})(key, params)
    with pytest.raises(ValueError, match="conv1"):
        initializers.pretrained(small)(key, params)
    with pytest.raises(ValueError, match=r"conv1 has shape \(5, 5, 3, 8\) in source 0"):
        initializers.whole_filters([small])(key, params)
    with pytest.raises(ValueError, match="at least one trained network"):
        initializers.whole_filters([])
