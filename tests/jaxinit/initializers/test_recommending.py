"""What is recommended follows from the network's first layer and from whether there are images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import initializers, kernel_init, relative_norms
from jaxinit.models import registry
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers, same

pytestmark = pytest.mark.usefixtures("quick_compilation")

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


@pytest.mark.parametrize("name", ["resnet18", "resnet18-cifar", "resnet20", "vgg11"])
def test_a_smaller_first_layer_is_not_taken_for_one_of_7x7(name):
    network = registry.get(name).make(classes=10)
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(lambda: network.init(KEY, images, train=False))["params"]
    traced = small.trace(network, (32, 32))
    changed = jaxinit.changed(initializers.recommended(), params, network=traced)
    assert bool(changed) == (name == "resnet18")


def test_images_with_other_channels_than_the_network_reads_get_a_sentence(params):
    init = initializers.recommended(IMAGES[..., :1])
    with pytest.raises(ValueError, match="has 3 input channels, the images have 1"):
        init(KEY, params)
