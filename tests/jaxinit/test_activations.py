"""Moments of convolutions' outputs are those that the frameworks themselves show."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxinit
from jaxinit import activations
from jaxinit.models import resnet
from tests import small
from tests.jaxinit.outputs_by_flax import captured

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3), np.float32)) + 1


class Plain(linen.Module):
    """Convolutions of several kinds, under remat and jit, before a linear layer."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(8, (3, 3), name="stem")(x))
        x = linen.remat(linen.Conv)(8, (3, 3), feature_group_count=2, name="grouped")(x)
        x = jax.nn.silu(x)
        x = linen.jit(linen.Conv)(6, (3, 3), strides=2, name="strided")(x)
        x = linen.Conv(4, (1, 1), name="mixing")(x)
        return linen.Dense(3)(x.mean((1, 2)))


def agree(found, outputs):
    for name, (mean, variance) in found.items():
        np.testing.assert_allclose(mean, outputs[name].mean(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, outputs[name].var(), rtol=1e-4)


def test_moments_of_a_flax_module_are_those_that_flax_captures():
    module = Plain()
    variables = jax.jit(module.init)(KEY, IMAGES)

    def apply(params, x):
        return module.apply({"params": params}, x)

    moments = functools.partial(activations.output_moments, apply, variables["params"], IMAGES)
    found = moments()
    assert list(found) == ["stem", "grouped", "strided"]
    outputs = captured(module, variables, IMAGES)  # biases are 0 at the start
    agree(found, outputs)
    every = moments(layers=lambda layer: True)
    assert list(every) == ["stem", "grouped", "strided", "mixing"]
    agree(every, outputs)
    network = jaxinit.trace(apply, variables["params"], IMAGES)
    agree(moments(layers=["mixing"], network=network), outputs)
    jitted = jax.jit(lambda p: activations.output_moments(apply, p, IMAGES, network=network))
    agree(jitted(variables["params"]), outputs)


@pytest.mark.parametrize("train", [False, True])
def test_moments_of_the_librarys_networks_with_batch_norm(train):
    module = resnet.ResNet(4, stages=(1, 1), widths=(4, 6), stem="cifar")
    variables = jax.jit(module.init, static_argnames="train")(KEY, IMAGES, train=False)

    def apply(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, x, train=train, mutable=["batch_stats"])

    found = activations.output_moments(
        apply, variables["params"], variables["batch_stats"], IMAGES, layers=lambda layer: True
    )
    assert len(found) == 6
    agree(found, captured(module, variables, IMAGES, train=train))


def conv(x, w, strides=(1, 1)):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, strides, "SAME", dimension_numbers=numbers)


def kernel(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_one_jitted_function_called_with_several_kernels():
    shared = jax.jit(conv)
    params = {"b": kernel(0, 3, 3, 3, 3), "a": kernel(1, 3, 3, 3, 3)}

    def apply(params, x):
        x = shared(jax.nn.relu(shared(x, params["b"])), params["a"])
        return shared(x, params["b"])  # once more

    found = activations.output_moments(apply, params, IMAGES)
    first = conv(IMAGES, params["b"])
    agree(found, {"b": np.asarray(first), "a": np.asarray(conv(jax.nn.relu(first), params["a"]))})
    assert list(found) == ["b", "a"]


@pytest.mark.parametrize("reverse", [False, True])
def test_layers_of_a_scan_are_each_read(reverse):
    params = {"stack": kernel(2, 3, 3, 3, 3, 3), "fixed": kernel(3, 3, 3, 3, 3)}

    def apply(params, x):
        def step(x, w):
            x = jnp.tanh(conv(x, w))
            return conv(x, params["fixed"]), x.sum()

        return jax.lax.scan(step, x, params["stack"], reverse=reverse)

    found = activations.output_moments(apply, params, IMAGES)
    outputs, x = {}, IMAGES
    for number in (2, 1, 0) if reverse else (0, 1, 2):
        outputs[f"stack[{number}]"] = own = np.asarray(conv(x, params["stack"][number]))
        x = conv(jnp.tanh(own), params["fixed"])
        outputs.setdefault("fixed", np.asarray(x))
    assert found.keys() == outputs.keys()
    agree(found, outputs)
    assert set(found) == set(jaxinit.trace(apply, params, IMAGES).names)


@pytest.mark.parametrize("shared_input", [True, False])
def test_layers_under_vmap_are_each_read(shared_input):
    params = kernel(4, 3, 3, 3, 3, 5)
    images = IMAGES if shared_input else jnp.stack([IMAGES, 2 * IMAGES, IMAGES - 3])
    mapped = jax.vmap(lambda w, x: conv(x, w), in_axes=(0, None if shared_input else 0))
    found = activations.output_moments(mapped, params, images)
    outputs = np.asarray(mapped(params, images))
    agree(found, {f"kernel[{number}]": outputs[number] for number in range(3)})
    assert len(found) == 3


def test_half_precision_is_measured_in_float32():
    params = {"w": jnp.full((1, 1, 3, 2), 20, jnp.float16)}
    images = jnp.asarray(100 * IMAGES, jnp.float16)
    ((mean, variance),) = activations.output_moments(
        lambda p, x: conv(x, p["w"]), params, images, layers=["w"]
    ).values()
    assert mean.dtype == variance.dtype == jnp.float32
    outputs = np.asarray(conv(images, params["w"]), np.float64)
    np.testing.assert_allclose(variance, outputs.var(), rtol=1e-3)


def test_bad_input_gets_a_sentence():
    params = {name: kernel(5, 3, 3, 3, 3) for name in "abc"}

    def apply(params, x):
        x = conv(x, params["a"])
        x = jax.lax.cond(x.sum() > 0, lambda x: conv(x, params["b"]), lambda x: x, x)
        return jax.lax.while_loop(lambda x: x.sum() < -1e9, lambda x: conv(x, params["c"]), x)

    assert list(activations.output_moments(apply, params, IMAGES, layers=["a"])) == ["a"]
    for name in "bc":
        with pytest.raises(ValueError, match=f"{name} is called within a loop or a branch"):
            activations.output_moments(apply, params, IMAGES, layers=[name])
    with pytest.raises(ValueError, match=r"an array of shape \(1, 8, 8, 3\) .* no numbers"):
        activations.output_moments(
            apply, params, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32), layers=["a"]
        )
    other = small.trace(small.SmallNetwork(), (8, 8))
    with pytest.raises(ValueError, match="traced with other parameters"):
        activations.output_moments(apply, params, IMAGES, network=other)
