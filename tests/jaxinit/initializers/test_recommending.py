"""What is recommended follows from the network's first layer and from whether there are images."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import initializers, kernel_init, relative_norms
from jaxinit.models import registry
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers, same

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("images", [None, IMAGES], ids=["without images", "with images"])
def test_filters_in_the_first_layer_and_shorter_ones_behind(params, images):
    made = initializers.recommended(images)(KEY, params)
    first, *others = small.layer_names(params)
    assert changed_layers(params, made) == [first, *others]
    kernel = kernel_init.colour_gabor() if images is None else kernel_init.patch_kmeans(images)
    drawn = kernel(jax.random.fold_in(KEY, 0), small.get_kernel(params, first).shape)
    for name in (first, *others):
        norm = 12.0 if name == first else 0.35
        filters = drawn if name == first else small.get_kernel(params, name)
        expected = relative_norms.at_relative_norm(filters, norm)
        np.testing.assert_allclose(small.get_kernel(made, name), expected, rtol=1e-5)
    assert same(made["fc"], params["fc"])


@pytest.mark.parametrize("images", [None, IMAGES], ids=["without images", "with images"])
def test_a_first_layer_of_3x3_keeps_its_filters_or_gets_centroids(params, images):
    first, *others = small.layer_names(params)
    own = jax.random.normal(KEY, (3, 3, 3, 8))
    params = small.set_kernels(params, {first: own})
    made = initializers.recommended(images)(KEY, params)
    if images is not None:
        own = kernel_init.patch_kmeans(images)(jax.random.fold_in(KEY, 0), own.shape)
    norm = 4.0 if images is None else 1.0
    expected = relative_norms.at_relative_norm(own, norm)
    np.testing.assert_allclose(small.get_kernel(made, first), expected, rtol=1e-5)
    for name in others:
        expected = relative_norms.at_relative_norm(small.get_kernel(params, name), 0.35)
        np.testing.assert_allclose(small.get_kernel(made, name), expected, rtol=1e-5)
    assert same(made["fc"], params["fc"])


@pytest.mark.parametrize("name", ["resnet18", "resnet18-cifar", "resnet20", "vgg11"])
def test_every_main_layer_of_the_librarys_networks_is_filled(name):
    network = registry.get(name).make(classes=10)
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(lambda: network.init(KEY, images, train=False))["params"]
    traced = small.trace(network, (32, 32))
    changed = jaxinit.changed(initializers.recommended(), params, network=traced)
    assert set(changed) == {f"{layer.name}/kernel" for layer in traced.main}


@pytest.mark.parametrize(
    ("size", "norm"),
    [
        ((2, 2), None),
        ((3, 3), 4.0),
        ((3, 5), None),
        ((4, 4), None),
        ((5, 5), 12.0),
        ((7, 5), 12.0),
        ((11, 11), 12.0),
        ((12, 12), None),
    ],
)
def test_the_first_norm_follows_from_the_size(size, norm):
    params = {"stem": jax.random.normal(KEY, (*size, 3, 8)), "body": jnp.ones((3, 3, 8, 8))}
    network = jaxinit.declare(params, ["stem", "body"], layout="HWIO")
    made = jax.jit(lambda key, p: initializers.recommended()(key, p, network=network))(KEY, params)
    if norm is None:
        assert same(made, params)
    else:
        expected = norm * relative_norms.default_norm((*size, 3, 8))
        assert jnp.linalg.norm(made["stem"]) == pytest.approx(expected, rel=1e-5)


def test_of_declared_layers_the_first_reads_the_images():
    params = {"colour": jnp.ones((1, 1, 3, 3)), "stem": jnp.ones((3, 3, 3, 8))}
    network = jaxinit.declare(params, ["colour", "stem"], layout="HWIO")
    assert initializers.recommended()(KEY, params, network=network) is params


def test_layers_of_half_precision_and_many_networks_at_once():
    """As PyTorch stores them; each of two networks with parameters of its own."""
    shapes = {"stem": (2, 8, 3, 7, 7), "conv": (2, 4, 8, 3, 3)}
    params = {
        name: {"weight": jax.random.normal(KEY, shape).astype(jnp.bfloat16)}
        for name, shape in shapes.items()
    }
    one = jax.tree.map(lambda leaf: leaf[0], params)
    network = jaxinit.declare(one, ["stem", "conv"], layout="OIHW")
    init = jax.jit(lambda key, p: initializers.recommended()(key, p, network=network))
    made = jax.vmap(init)(jax.random.split(KEY), params)
    for (name, wanted), number in itertools.product((("stem", 12), ("conv", 0.35)), range(2)):
        weight = made[name]["weight"][number]
        assert weight.dtype == jnp.bfloat16
        norm = np.linalg.norm(np.asarray(weight, np.float32))
        assert norm == pytest.approx(wanted * (2 * weight.shape[1]) ** 0.5, rel=0.01)
    assert not jnp.array_equal(*made["stem"]["weight"])
    direction = made["conv"]["weight"][0] / params["conv"]["weight"][0]
    np.testing.assert_allclose(direction, direction.ravel()[0], rtol=0.02)


@pytest.mark.parametrize(
    ("kernel", "layout"),
    [
        ((7, 3, 8), "WIO"),
        ((7, 7, 7, 3, 8), "DHWIO"),
        ((16, 16, 3, 8), "HWIO"),
        ((1, 1, 3, 8), "HWIO"),
        ((3, 7, 3, 8), "HWIO"),
    ],
    ids=["signals", "volumes", "patches", "points alone", "of two sizes"],
)
def test_what_was_not_measured_stays_as_it_is(kernel, layout):
    params = {"stem": {"kernel": jnp.ones(kernel)}}
    network = jaxinit.declare(params, ["stem"], layout=layout)
    assert initializers.recommended(IMAGES)(KEY, params, network=network) is params


@pytest.mark.parametrize(
    ("size", "groups", "stride", "stays"),
    [
        (7, 3, 1, True),
        (7, 1, 7, True),
        (7, 1, 6, False),
        (7, 1, 1, False),
        (3, 3, 1, True),
        (3, 1, 3, True),
        (3, 1, 2, False),
    ],
)
def test_a_first_layer_of_groups_or_of_patches_stays_as_it_is(size, groups, stride, stays):
    def apply(params, x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, params["stem"], (stride, stride), "SAME", dimension_numbers=dimensions,
            feature_group_count=groups,
        )  # fmt: skip

    params = {"stem": jnp.ones((size, size, 3 // groups, 6))}
    network = jaxinit.trace(apply, params, jnp.zeros((1, 16, 16, 3)))
    changed = jaxinit.changed(initializers.recommended(), params, network=network)
    assert changed == (() if stays else ("stem",))


def _convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("apply", "stays"),
    [
        (lambda p, x: _convolve(_convolve(x, p["stem"]), p["body"]), False),
        (lambda p, x: _convolve(_convolve(x, jnp.ones((3, 3, 3, 3))), p["stem"]), False),
        (lambda p, x: _convolve(_convolve(x * p["gain"], p["stem"]), p["body"]), False),
        (lambda p, x: _convolve(_convolve(x, p["colour"]), p["stem"]), True),
        (lambda p, x: _convolve(x, p["stem"]) + _convolve(x, p["other"]), True),
        (lambda p, x: _convolve(x, p["stem"]) + _convolve(x[:, ::-1], p["stem"]), False),
    ],
    ids=["one", "behind a blur", "behind a gain", "behind another", "beside another", "twice"],
)
def test_the_first_layer_alone_reads_the_images(apply, stays):
    shapes = {"stem": (7, 7, 3, 6), "other": (5, 5, 3, 6), "body": (3, 3, 6, 6)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    params |= {"colour": jnp.ones((1, 1, 3, 3)), "gain": jnp.ones((1, 1, 1, 3))}
    network = jaxinit.trace(apply, params, jnp.zeros((1, 16, 16, 3)))
    changed = jaxinit.changed(initializers.recommended(), params, network=network)
    assert ("stem" in changed) != stays
    assert not stays or not changed


@pytest.mark.parametrize("size", [(7, 7), (3, 3)])
def test_images_with_other_channels_than_the_network_reads_get_a_sentence(params, size):
    first = small.layer_names(params)[0]
    params = small.set_kernels(params, {first: jnp.ones((*size, 3, 8))})
    init = initializers.recommended(IMAGES[..., :1])
    with pytest.raises(ValueError, match="has 3 input channels, the images have 1"):
        init(KEY, params)
