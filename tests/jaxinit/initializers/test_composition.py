"""Initialisers compose, and leave alone what they do not concern."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import initializers
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers, same

LAYERS = ("conv1", "layer1_0/conv1", "layer2_0/conv1", "layer2_0/conv2")


def every_kind(bank, params):
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    return {
        "default": initializers.default(),
        "gabor": initializers.gabor(),
        "clustered": initializers.clustered(bank),
        "pretrained": initializers.pretrained(other),
        "scaled": initializers.scaled(0.5),
        "whole": initializers.whole_filters([params, other]),
        "chain": initializers.chain(initializers.gabor(layers=1), initializers.clustered(bank)),
    }


@pytest.mark.parametrize("kind", ["default", "gabor", "clustered", "whole", "chain"])
def test_same_key_same_params_other_key_other_params(kind, bank, params):
    init = jax.jit(every_kind(bank, params)[kind])
    first, again = init(jax.random.key(3), params), init(jax.random.key(3), params)
    other = init(jax.random.key(4), params)
    assert same(first, again)
    assert not same(first, other)
    assert jax.tree.structure(first) == jax.tree.structure(params)


@pytest.mark.parametrize(
    "kind", ["default", "gabor", "clustered", "pretrained", "scaled", "whole", "chain"]
)
def test_jit_is_eager_and_vmap_is_a_loop(kind, bank, params):
    init = every_kind(bank, params)[kind]
    keys = jax.random.split(jax.random.key(5), 2)
    jitted = jax.jit(jax.vmap(init, in_axes=(0, None)))(keys, params)
    for i in range(2):
        eager = init(keys[i], params)
        for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(eager), strict=True):
            np.testing.assert_allclose(a[i] if a.ndim > b.ndim else a, b, rtol=1e-5, atol=1e-6)


def test_first_k_layers_and_nothing_else(bank, params):
    assert small.layer_names(params) == LAYERS
    for count in range(5):
        made = initializers.clustered(bank, layers=count)(jax.random.key(0), params)
        assert changed_layers(params, made) == list(LAYERS[:count])
        assert same(made["fc"], params["fc"])
        shortcut = made["layer2_0"]["shortcut_conv"]
        assert same(shortcut, params["layer2_0"]["shortcut_conv"])


def test_any_subset_of_layers(bank, params):
    key = jax.random.key(0)
    everything = initializers.clustered(bank)(key, params)
    for layers, chosen in (
        (slice(1, 3), ["layer1_0/conv1", "layer2_0/conv1"]),
        ([3, 0], ["conv1", "layer2_0/conv2"]),
        (["layer2_0/conv1"], ["layer2_0/conv1"]),
    ):
        made = initializers.clustered(bank, layers=layers)(key, params)
        assert changed_layers(params, made) == chosen
        # A layer draws the same filters whichever others are chosen.
        for name in chosen:
            np.testing.assert_array_equal(
                small.get_kernel(made, name), small.get_kernel(everything, name)
            )


def test_chain_composes_in_order_with_keys_of_their_own(bank, params):
    key = jax.random.key(0)
    made = initializers.chain(
        initializers.gabor(layers=1),
        initializers.clustered(bank, layers=slice(1, None)),
        initializers.scaled(0.35),
    )(key, params)
    keys = jax.random.split(key, 3)
    gabor = initializers.gabor(layers=1)(keys[0], params)
    stem = small.get_kernel(gabor, "conv1") * jnp.float32(0.35)
    np.testing.assert_allclose(small.get_kernel(made, "conv1"), stem, rtol=1e-6)
    assert changed_layers(params, made) == list(small.layer_names(params))


def test_bad_input_gets_a_sentence(params):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="layers=5 is out of range"):
        initializers.gabor(layers=5)(key, params)
    with pytest.raises(ValueError, match="not in the network"):
        initializers.gabor(layers=["conv9"])(key, params)
    with pytest.raises(ValueError, match="order of this tree's convolutions is not known"):
        initializers.default()(key, {"embedding": jnp.zeros((3, 3))})


def test_another_process_draws_the_same():
    """Whatever its seed of hashes; with the bank's clusters and Gabor's filters drawn too."""
    program = """
import hashlib, jax, jaxinit, numpy
params = {"conv1": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 8))},
          "layer1_0": {"conv1": {"kernel": jax.random.normal(jax.random.key(1), (3, 3, 4, 8))}}}
bank = jaxinit.banks.fit(jax.random.key(3), [params], clusters=3, representative="member")
init = jaxinit.chain(jaxinit.clustered(bank), jaxinit.gabor(layers=1))
drawn = jax.tree.leaves(init(jax.random.key(4), params))
print(hashlib.sha256(b"".join(numpy.asarray(leaf).tobytes() for leaf in drawn)).hexdigest())
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    both = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert len(both[0].strip()) == 64
    assert both[0] == both[1]


def test_a_factor_for_each_output_channel():
    params = {"conv1": {"kernel": jnp.ones((3, 3, 2, 4))}}
    found = initializers.scaled(jnp.arange(4.0)[None, None, None])(jax.random.key(0), params)
    assert jnp.array_equal(found["conv1"]["kernel"][0, 0, 0], jnp.arange(4.0))


@pytest.mark.parametrize(
    ("takes", "maker"),
    [
        (initializers.chain, initializers.gabor),
        (initializers.only, initializers.recommended),
        (initializers.per_layer, jaxinit.kernel_init.dct),
        (initializers.chain, initializers.chain),
    ],
)
def test_what_makes_an_initializer_has_to_be_called(takes, maker):
    with pytest.raises(ValueError, match=r"makes one: call it, as in \w+\(\)"):
        takes(maker)


def test_changed_looks_into_jit(params):
    init = initializers.gabor(layers=1)
    plain = initializers.changed(init, params)
    assert plain == ("conv1/kernel",)
    assert initializers.changed(jax.jit(init), params) == plain
    assert initializers.changed(initializers.chain(jax.jit(jax.jit(init))), params) == plain
    assert initializers.changed(jax.jit(initializers.unchanged()), params) == ()


def test_only_what_an_initializer_replaces_is_changed_however_it_is_stored():
    """Also where it would be turned to be put back, or a part of a stack."""
    turned = {"a": jnp.ones((8, 3, 7, 7)), "b": jnp.ones((8, 8, 3, 3))}
    network = jaxinit.declare(turned, ["a", "b"], layout="OIHW")
    init = initializers.only(initializers.gabor(layers=1))
    assert initializers.changed(init, turned, network=network) == ("a",)
    every = initializers.only(initializers.scaled(2.0))
    assert initializers.changed(every, turned, network=network) == ("a", "b")
    stack = {"first": jnp.ones((7, 7, 3, 8)), "stack": jnp.ones((2, 3, 3, 8, 8))}

    def apply(params, x):
        for kernel in (params["first"], *params["stack"]):
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x

    network = jaxinit.trace(apply, stack, jnp.ones((1, 8, 8, 3)))
    assert len(network.names) == 3
    assert initializers.changed(init, stack, network=network) == ("first",)
