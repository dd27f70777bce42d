"""Starts taken from trained networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
from jaxinit import initializers, trees
from tests.jaxinit.initializers.comparing import changed_layers, same


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


def test_keys_of_a_stream_stay_those_of_the_network():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv1 = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.conv1(x))

    states: list[Any] = [nnx.state(Net(nnx.Rngs(seed, dropout=seed))) for seed in (0, 1)]
    key = states[0]["dropout"]["rngs"]["key"].get_value()
    assert trees.is_key(key)
    graph = nnx.graphdef(Net(nnx.Rngs(0, dropout=0)))
    network = jaxinit.trace(lambda s, x: nnx.merge(graph, s)(x), states[0], np.ones((1, 8, 8, 3)))
    for init in (initializers.pretrained(states[1]), initializers.weight_selection(states[1])):
        made = init(jax.random.key(0), states[0], network=network)
        kernels = [own["conv1"]["kernel"].get_value() for own in (made, states[1])]
        np.testing.assert_array_equal(*kernels)
        assert made["dropout"]["rngs"]["key"].get_value() == key
    rngs = {"count": states[1]["dropout"]["rngs"]["count"]}  # and no key
    without = {"conv1": states[1]["conv1"], "dropout": {"rngs": rngs}}
    made = initializers.pretrained(without)(jax.random.key(0), states[0], network=network)
    assert made["dropout"]["rngs"]["key"].get_value() == key
    every = initializers.only(initializers.scaled(2.0), paths="*")
    made = every(jax.random.key(0), states[0], network=network)
    assert made["dropout"]["rngs"]["key"].get_value() == key


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


def slices_of(kernel):
    """A row for each pair of channels, by NumPy."""
    *size, inputs, outputs = kernel.shape
    return np.asarray(kernel, np.float64).reshape(np.prod(size), inputs * outputs).T


def test_bootstrap_draws_real_slices_evenly_from_all_sources(params):
    rng = np.random.default_rng(3)
    sources = [
        {"conv1": {"kernel": rng.standard_normal((3, 3, 2, outputs)).astype(kind)}}
        for outputs, kind in ((2, np.float32), (4, np.float16))  # 4 slices and 8
    ]
    params = {"conv1": {"kernel": jnp.zeros((3, 3, 40, 60))}}
    made = initializers.bootstrap(sources)(jax.random.key(0), params)["conv1"]["kernel"]
    real = np.concatenate([slices_of(source["conv1"]["kernel"]) for source in sources])
    drawn = slices_of(made)
    away = np.abs(drawn[:, None] - real[None]).max(axis=2)
    np.testing.assert_array_equal(away.min(axis=1), 0)
    counts = np.bincount(away.argmin(axis=1), minlength=12)
    np.testing.assert_allclose(counts, 200, atol=5 * np.sqrt(200))
    # Independent: a slice tells nothing of its neighbour's.
    chosen = away.argmin(axis=1)
    pairs = np.histogram2d(chosen[:-1], chosen[1:], bins=12)[0]
    assert pairs.max() < 45  # 17 expected


def test_covariance_draws_have_the_moments_of_all_sources():
    rng = np.random.default_rng(4)
    mixing = rng.standard_normal((9, 9))
    sources = []
    for outputs in (20, 30):
        slices = rng.standard_normal((2 * outputs, 9)) @ mixing + 1
        kernel = slices.T.reshape(3, 3, 2, outputs).astype(np.float32)
        sources.append({"conv1": {"kernel": kernel}})
    params = {"conv1": {"kernel": jnp.zeros((3, 3, 100, 200))}}
    made = initializers.covariance(sources)(jax.random.key(0), params)["conv1"]["kernel"]
    real = np.concatenate([slices_of(source["conv1"]["kernel"]) for source in sources])
    drawn, covariance = slices_of(made), np.cov(real.T, bias=True)
    error = 6 / np.sqrt(len(drawn))
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((drawn - real.mean(0)).mean(0) / scale, 0, atol=error)
    np.testing.assert_allclose(
        (np.cov(drawn.T) - covariance) / np.outer(scale, scale), 0, atol=2 * error
    )
    assert np.abs(drawn[:100, None] - real[None]).max(axis=2).min() > 0.01  # none of the real ones


@pytest.mark.parametrize("make", [initializers.bootstrap, initializers.covariance])
def test_slices_of_chosen_layers_as_functions_of_the_key(make, params):
    init = make([params], layers=2)
    keys = jax.random.split(jax.random.key(5), 2)
    both = jax.jit(jax.vmap(init, in_axes=(0, None)))(keys, params)
    eager = [init(key, params) for key in keys]
    for number, own in enumerate(eager):
        assert changed_layers(params, own) == ["conv1", "layer1_0/conv1"]
        one = jax.tree.map(lambda leaf, number=number: leaf[number], both)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, own)
    assert not same(*eager)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert make(params)(keys[0], half)["conv1"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize("make", [initializers.bootstrap, initializers.covariance])
def test_sources_that_do_not_fit_get_a_sentence(make, params):
    small = {**params, "conv1": {"kernel": jnp.zeros((5, 5, 3, 8))}}
    with pytest.raises(ValueError, match=r"conv1 has kernels of 5×5 in source 1, .* are 7×7"):
        make([params, small])(jax.random.key(0), params)
    with pytest.raises(ValueError, match="source 0 has no layer layer1_0/conv1"):
        make([{"conv1": params["conv1"]}])(jax.random.key(0), params)
    with pytest.raises(ValueError, match="at least one trained network"):
        make([])
