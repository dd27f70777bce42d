"""Norms come out as asked, and amount to the learning rates that they are said to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxinit
from jaxinit import banks, diagnostics, initializers
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers

KEY = jax.random.key(0)


def norms(params):
    return {name: float(norm) for name, norm in diagnostics.kernel_norms(params).items()}


def test_patterns_name_layers_and_their_own_names_come_first(params):
    first, *others = small.layer_names(params)
    made = initializers.at_relative_norm({"*": 0.35, first: 12.0})(KEY, params)
    for name in (first, *others):
        kernel = small.get_kernel(made, name)
        wanted = (12 if name == first else 0.35) * (2 * kernel.shape[2]) ** 0.5
        assert float(jnp.linalg.norm(kernel)) == pytest.approx(wanted, rel=1e-5)
    steps = initializers.for_step_size({"layer2_0/*": 4.0})(KEY, params)
    assert changed_layers(params, steps) == [name for name in others if "layer2_0/" in name]
    with pytest.raises(ValueError, match=r"meant by 'layer2\*' and 'layer\*': give its own name"):
        initializers.at_relative_norm({"layer2*": 1.0, "layer*": 2.0})(KEY, params)


@pytest.mark.parametrize("relative_norm", [0.35, 12.0])
def test_layers_get_a_multiple_of_the_norm_that_they_have_by_default(params, relative_norm):
    made = initializers.at_relative_norm(relative_norm, slice(1, 3))(KEY, params)
    for name in small.layer_names(params):
        kernel, before = (np.asarray(small.get_kernel(tree, name)) for tree in (made, params))
        if name in ("layer1_0/conv1", "layer2_0/conv1"):
            wanted = relative_norm * np.sqrt(2 * kernel.shape[2])
            assert np.linalg.norm(kernel) == pytest.approx(wanted, rel=1e-5)
            np.testing.assert_allclose(kernel / kernel.max(), before / before.max(), rtol=1e-4)
        else:
            np.testing.assert_array_equal(kernel, before)


def test_the_default_start_has_a_relative_norm_of_one():
    """On average: E‖w‖² = 2·i."""
    params = {"conv1": {"kernel": jnp.zeros((3, 3, 6, 64))}}
    draws = jax.vmap(initializers.default(), in_axes=(0, None))(jax.random.split(KEY, 50), params)
    assert float(jnp.mean(draws["conv1"]["kernel"] ** 2) * 9 * 6 * 64) == pytest.approx(
        12, rel=0.02
    )


def test_each_layer_can_have_a_norm_of_its_own(params):
    asked = {"conv1": 3.0, "layer2_0/conv2": 0.5}
    made = norms(initializers.at_relative_norm(asked)(KEY, params))
    before = norms(params)
    assert made["conv1"] == pytest.approx(3 * np.sqrt(2 * 3), rel=1e-5)
    assert made["layer2_0/conv2"] == pytest.approx(0.5 * np.sqrt(2 * 16), rel=1e-5)
    assert made["layer1_0/conv1"] == before["layer1_0/conv1"]
    with pytest.raises(ValueError, match="no norm is given for layer 'layer1_0/conv1'"):
        initializers.at_relative_norm(asked, 2)(KEY, params)


def test_the_norms_of_a_card_are_targets():
    card = banks.available()["cifar10-resnets"]
    params = {"conv1": {"kernel": jnp.ones((3, 3, 3, 16))}}
    made = initializers.at_relative_norm(card.norms, ["conv1"])(KEY, params)
    assert norms(made)["conv1"] == pytest.approx(card.norms["conv1"] * np.sqrt(6), rel=1e-5)


def test_live_taps_have_their_share_of_the_norm(params):
    live = {"layer2_0/conv2": (slice(1, 2), slice(1, 3))}
    made = initializers.at_relative_norm(2.0, live=live)(KEY, params)
    kernel = np.asarray(small.get_kernel(made, "layer2_0/conv2"))
    wanted = 2 * np.sqrt(2 * 16 * 2 / 9)
    assert np.linalg.norm(kernel[1:2, 1:3]) == pytest.approx(wanted, rel=1e-5)


def test_zeros_stay_zeros():
    params = {"conv1": {"kernel": jnp.zeros((3, 3, 2, 4))}}
    assert not np.any(initializers.at_relative_norm(3.0)(KEY, params)["conv1"]["kernel"])


@pytest.mark.parametrize("step", [0.25, 9.0])
def test_a_norm_amounts_to_a_learning_rate(step):
    """A step at a rate of η from the norm for a step size turns as one at step · η from another."""
    network = small.SmallNetwork(classes=4)
    images = jax.random.normal(jax.random.key(1), (16, 9, 9, 3))
    labels = jnp.arange(16) % 4
    variables = jax.jit(network.init, static_argnames="train")(
        jax.random.key(2), images, train=True
    )

    def loss(params):
        logits, _ = network.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    known = small.trace(network, (9, 9))

    def angle(relative_step, rate):
        init = initializers.for_step_size(relative_step)
        before = init(KEY, variables["params"], network=known)
        gradient = jax.grad(loss)(before)
        after = jax.tree.map(lambda leaf, slope: leaf - rate * slope, before, gradient)
        return float(diagnostics.kernel_angles(before, after, network=known)["conv1"])

    rate = 0.02
    assert angle(step, rate) == pytest.approx(angle(1.0, step * rate), rel=0.02)
    assert angle(step, rate) != pytest.approx(angle(1.0, rate), rel=0.2)


def test_a_step_that_cannot_be_is_refused():
    for step in (0.0, -1.0, jnp.float32(-4), float("inf"), {"conv1": float("nan")}):
        with pytest.raises(ValueError, match="must be above 0"):
            initializers.for_step_size(step)


def test_a_traced_network_says_which_taps_count():
    """As `examine` has it: a layer of one live tap in nine gets a ninth of the square."""
    params = {"w": jax.random.normal(KEY, (3, 3, 4, 4))}

    def apply(params, x):
        return jax.lax.conv_general_dilated(
            x, params["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    network = jaxinit.trace(apply, params, jnp.zeros((1, 1, 1, 4)))
    made = initializers.at_relative_norm(2.0)(KEY, params, network=network)
    assert jaxinit.examine(made, network=network).rows[0].relative_norm == pytest.approx(2.0)
    everything = initializers.at_relative_norm(2.0, live={})(KEY, params, network=network)
    assert float(jnp.linalg.norm(everything["w"].ravel())) == pytest.approx(2 * 8**0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(5e-7, jnp.float16), (3e4, jnp.float16), (1e-30, jnp.float32), (1e30, jnp.bfloat16)],
)
def test_norms_are_reached_from_any_scale(value, dtype):
    params = {"conv1": {"kernel": jnp.full((3, 3, 64, 64), value, dtype)}}
    made = initializers.at_relative_norm(1.0)(KEY, params)["conv1"]["kernel"]
    assert made.dtype == dtype
    norm = np.linalg.norm(np.asarray(made, np.float64))
    assert norm == pytest.approx(np.sqrt(2 * 64), rel=5e-3)


def test_norms_may_be_traced_but_not_negative(params):
    doubled = jax.jit(lambda norm: initializers.at_relative_norm(norm, 1)(KEY, params))
    assert norms(doubled(2.0))["conv1"] == pytest.approx(2 * np.sqrt(6), rel=1e-5)
    slower = jax.jit(lambda step: initializers.for_step_size(step, 1)(KEY, params))
    assert norms(slower(0.25))["conv1"] == pytest.approx(2 * np.sqrt(6), rel=1e-5)
    for norm in (-1.0, jnp.float32(-1), float("nan"), {"conv1": float("inf")}):
        with pytest.raises(ValueError, match="must be 0 or more"):
            initializers.at_relative_norm(norm)
    known = jnp.float32(2)  # within a program, too
    made = jax.jit(lambda params: initializers.at_relative_norm(known, 1)(KEY, params))(params)
    assert norms(made)["conv1"] == pytest.approx(2 * np.sqrt(6), rel=1e-5)


@pytest.mark.parametrize("make", [initializers.at_relative_norm, initializers.for_step_size])
def test_whole_numbers_in_arrays_are_numbers(params, make):
    key = jax.random.key(0)
    own, plain = make(jnp.asarray(4, jnp.int32))(key, params), make(4.0)(key, params)
    jax.tree.map(np.testing.assert_array_equal, own, plain)
