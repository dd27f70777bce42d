"""After LSUV every convolution's output has the variance asked for, as Flax itself shows."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxinit
from jaxinit import initializers
from jaxinit.models import resnet
from tests.jaxinit import outputs_by_flax
from tests.jaxinit.initializers.comparing import changed_layers, same

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((8, 8, 8, 3), np.float32))


class Deep(linen.Module):
    """Without normalisation, so that each layer's variance depends on all before."""

    @linen.compact
    def __call__(self, x):
        for number, (features, size) in enumerate([(8, 5), (8, 3), (16, 3), (16, 1), (8, 3)]):
            init = linen.initializers.normal(10.0 ** (number % 3 - 1))
            x = linen.Conv(features, (size, size), kernel_init=init, name=f"conv{number}")(x)
            x = linen.relu(x)
        return linen.Dense(3)(x.mean((1, 2)))


def captured(module, variables, *args, **kwargs):
    """The variance of each convolution's output, by Flax."""
    outputs = outputs_by_flax.captured(module, variables, *args, **kwargs)
    return {name: float(np.var(output)) for name, output in outputs.items()}


@pytest.fixture(scope="module")
def deep():
    module = Deep()
    params = jax.jit(module.init)(KEY, IMAGES)["params"]

    def apply(params, x):
        return module.apply({"params": params}, x)

    return module, apply, params, jaxinit.trace(apply, params, IMAGES)


@pytest.mark.parametrize("target", [1.0, 0.3])
def test_variances_without_batch_norm(deep, target):
    module, apply, params, network = deep
    before = captured(module, {"params": params}, IMAGES)
    assert max(before.values()) / min(before.values()) > 100
    init = initializers.lsuv(apply, IMAGES, layers=lambda layer: True, target=target)
    made = init(KEY, params, network=network)
    variances = captured(module, {"params": made}, IMAGES)
    assert len(variances) == 5
    # An output is proportional to its kernel: what is scaled at all is scaled to the target.
    np.testing.assert_allclose(list(variances.values()), target, rtol=1e-3)
    for name, own in made.items():  # scaled and nothing else
        ratio = own["kernel"] / params[name]["kernel"]
        np.testing.assert_allclose(ratio, ratio.ravel()[0], rtol=1e-5)
        np.testing.assert_array_equal(own["bias"], params[name]["bias"])
    assert same(made["Dense_0"], params["Dense_0"])


def test_jit_and_vmap_make_the_same(deep):
    _, apply, params, network = deep
    init = initializers.lsuv(apply, IMAGES, layers=lambda layer: True, tolerance=1e-3)
    init = functools.partial(init, network=network)
    made = init(KEY, params)
    jitted = jax.jit(init)(KEY, params)
    mapped = jax.jit(jax.vmap(init))(
        jax.random.split(KEY, 2), jax.tree.map(lambda leaf: jnp.stack([leaf, 3 * leaf]), params)
    )
    for other in (jitted, *(jax.tree.map(lambda leaf, n=n: leaf[n], mapped) for n in range(2))):
        for name in ("conv0", "conv4"):
            np.testing.assert_allclose(
                other[name]["kernel"], made[name]["kernel"], rtol=1e-3, atol=1e-5
            )


def test_layers_that_are_not_chosen_keep_their_bits(deep):
    module, apply, params, network = deep
    made = initializers.lsuv(apply, IMAGES, layers=["conv2", "conv4"])(KEY, params, network=network)
    assert jaxinit.changed(
        initializers.lsuv(apply, IMAGES, layers=["conv2", "conv4"]), params, network=network
    ) == ("conv2/kernel", "conv4/kernel")
    for name in ("conv0", "conv1", "conv3"):
        assert same(made[name], params[name])
    variances = captured(module, {"params": made}, IMAGES)
    np.testing.assert_allclose([variances["conv2"], variances["conv4"]], 1, rtol=1e-3)
    assert abs(variances["conv1"] - 1) > 0.1
    assert same(initializers.lsuv(apply, IMAGES, layers=0)(KEY, params), params)


def test_what_is_within_the_tolerance_stays(deep):
    _, apply, params, _ = deep
    every = functools.partial(initializers.lsuv, apply, IMAGES)
    unit = every()(KEY, params)
    near = jax.tree.map(lambda leaf: leaf, unit)
    near["conv0"]["kernel"] = 1.02 * near["conv0"]["kernel"]  # a variance of 1.04
    assert same(every()(KEY, near), near)
    exact = every(tolerance=0.01)(KEY, near)
    np.testing.assert_allclose(exact["conv0"]["kernel"], unit["conv0"]["kernel"], rtol=1e-3)


@pytest.mark.parametrize("train", [False, True])
def test_variances_with_batch_norm(train):
    module = resnet.ResNet(4, stages=(1, 1), widths=(4, 6), stem="cifar")
    variables = jax.jit(module.init, static_argnames="train")(KEY, IMAGES, train=False)
    params = variables["params"]

    def apply(params, x):
        return module.apply({**variables, "params": params}, x, train=train,
                            mutable=["batch_stats"])[0]  # fmt: skip

    made = initializers.lsuv(apply, IMAGES, tolerance=1e-3)(KEY, params)
    assert changed_layers(params, made) == ["conv1", "layer1_0/conv1", "layer1_0/conv2",
                                            "layer2_0/conv1", "layer2_0/conv2"]  # fmt: skip
    assert same(made["layer2_0"]["shortcut_conv"], params["layer2_0"]["shortcut_conv"])
    variances = captured(module, {**variables, "params": made}, IMAGES, train=train)
    found = [own for name, own in variances.items() if "shortcut" not in name]
    np.testing.assert_allclose(found, 1, rtol=1e-3)


def conv(x, w):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)


def test_plain_functions_shared_kernels_scans_and_vmap():
    rng = np.random.default_rng(1)

    def draw(*shape):
        return jnp.asarray(3 * rng.standard_normal(shape, np.float32))

    params = {"many": draw(2, 3, 3, 3, 4), "shared": draw(3, 3, 8, 8), "stack": draw(3, 3, 3, 8, 8)}

    def layers(params, x):
        """The output of each layer at its first call."""
        many = jax.vmap(conv, in_axes=(None, 0))(x, params["many"])
        yield from many
        x = jnp.tanh(jnp.concatenate([*many], axis=-1))
        x = conv(x, params["shared"])
        yield x
        for w in params["stack"]:
            x = conv(jnp.tanh(conv(jnp.tanh(x), params["shared"])), w)
            yield x

    def apply(params, x):
        many = jax.vmap(conv, in_axes=(None, 0))(x, params["many"])
        x = conv(jnp.tanh(jnp.concatenate([*many], axis=-1)), params["shared"])

        def step(x, w):
            return conv(jnp.tanh(conv(jnp.tanh(x), params["shared"])), w), None

        return jax.lax.scan(step, x, params["stack"])[0]

    network = jaxinit.trace(apply, params, IMAGES)
    assert len(network.names) == 6
    made = initializers.lsuv(apply, IMAGES, target=2.0)(KEY, params, network=network)
    variances = [float(jnp.var(own)) for own in layers(made, IMAGES)]
    np.testing.assert_allclose(variances, 2, rtol=1e-3)


def test_half_precision_and_layers_of_zeros(deep):
    module, _, params, _ = deep
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    half["conv2"]["kernel"] = jnp.zeros_like(half["conv2"]["kernel"])

    def apply(params, x):
        return module.apply({"params": params}, x)

    images = IMAGES.astype(jnp.bfloat16)
    made = initializers.lsuv(apply, images, iterations=2)(KEY, half)
    assert made["conv0"]["kernel"].dtype == jnp.bfloat16
    variances = captured(module, {"params": made}, images)
    np.testing.assert_allclose([variances["conv0"], variances["conv1"]], 1, rtol=0.1)
    for name in ("conv2", "conv4"):  # the last of which sees nothing
        assert same(made[name], half[name])


def test_an_orthogonal_start_is_chained_before(deep):
    module, apply, params, network = deep
    orthogonal = jaxinit.per_layer(jax.nn.initializers.orthogonal())
    init = jaxinit.chain(orthogonal, initializers.lsuv(apply, IMAGES))
    made = init(KEY, params, network=network)
    rows = np.asarray(made["conv1"]["kernel"]).reshape(-1, 8)
    gram = rows.T @ rows
    np.testing.assert_allclose(gram / gram[0, 0], np.eye(8), atol=1e-5)
    variances = captured(module, {"params": made}, IMAGES)
    np.testing.assert_allclose([variances[f"conv{n}"] for n in (0, 1, 2, 4)], 1, atol=0.1)


def test_bad_input_gets_a_sentence(deep):
    _, apply, params, _ = deep
    wrong: dict[str, Any]
    for wrong in ({"target": 0.0}, {"tolerance": -0.1}, {"iterations": 0}):
        with pytest.raises(ValueError, match="must be"):
            initializers.lsuv(apply, IMAGES, **wrong)
    with pytest.raises(ValueError, match="no numbers"):
        initializers.lsuv(apply, jax.ShapeDtypeStruct(IMAGES.shape, jnp.float32))(KEY, params)
    with pytest.raises(ValueError, match="'conv9' is not in the network"):
        initializers.lsuv(apply, IMAGES, layers=["conv9"])(KEY, params)
