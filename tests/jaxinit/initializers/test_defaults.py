"""The default start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxinit
from jaxinit import initializers
from jaxinit.models import resnet
from tests import small


def test_default_has_torchvisions_moments():
    network = resnet.ResNet18(classes=10)
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda k: network.init(k, images, train=False), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), shapes["params"])
    made = jax.jit(initializers.default())(jax.random.key(11), params)
    for name in small.layer_names(params):
        kernel = np.asarray(small.get_kernel(made, name))
        expected = (2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3])) ** 0.5
        assert abs(kernel.std() / expected - 1) < 5 / (2 * kernel.size) ** 0.5
    shortcut = np.asarray(made["layer2_0"]["shortcut_conv"]["kernel"])
    assert abs(shortcut.std() / (2 / 128) ** 0.5 - 1) < 0.05
    bound = 512**-0.5
    weights, biases = (np.asarray(made["fc"][name]) for name in ("kernel", "bias"))
    assert 0.99 * bound < np.abs(weights).max() <= bound
    assert abs(weights.std() / (bound / 3**0.5) - 1) < 0.05
    assert 0.5 * bound < np.abs(biases).max() <= bound  # of ten
    assert np.all(np.asarray(made["bn1"]["scale"]) == 1)
    assert np.all(np.asarray(made["bn1"]["bias"]) == 0)


@pytest.mark.parametrize(
    ("size", "groups"), [((3, 5), 1), ((3, 3), 4), ((7,), 1), ((5,), 2), ((1, 1), 1)]
)
def test_biases_beside_convolutions_are_pytorchs(size, groups):
    """Uniform ±1/√fan_in, fan_in being the taps times the input channels of one group."""
    torch = pytest.importorskip("torch")
    module = linen.Conv(512, size, feature_group_count=groups)
    x = jnp.zeros((1, *(8 for _ in size), 8))
    params = module.init(jax.random.key(0), x)["params"]
    network = jaxinit.trace(lambda params, x: module.apply({"params": params}, x), params, x)
    made = initializers.default()(jax.random.key(1), params, network=network)
    bias = np.asarray(made["bias"])
    bound = 1 / np.sqrt(np.prod(size) * 8 // groups)
    kind = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d}[len(size)]
    theirs = kind(8, 512, size, groups=groups).bias.detach().numpy()
    for own in (bias, theirs):
        assert 0.98 * bound < np.abs(own).max() <= bound
        assert abs(own.std() / (bound / np.sqrt(3)) - 1) < 0.1
        assert abs(own.mean()) < 0.1 * bound
