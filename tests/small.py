"""What several tests of the library share: a network that trains in milliseconds, and a bank."""

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

import jaxinit
from jaxinit import banks, layers
from jaxinit.models import resnet


class SmallNetwork(linen.Module):
    """One convolution with batch norm and a linear layer, called as ResNet18 is."""

    classes: int = 10

    @linen.compact
    def __call__(self, images, *, train):
        x = resnet.Conv(8, 3, stride=2, name="conv1")(images)
        x = linen.relu(resnet.BatchNorm(name="bn1")(x, train=train))
        return linen.Dense(self.classes, name="fc")(jnp.mean(x, axis=(1, 2)))


def trace(network, size):
    """The convolutions of a Flax module that is called as `ResNet18` is, on images of this size."""
    images = jnp.zeros((1, *size, 3))
    variables = jax.eval_shape(
        lambda key: network.init(key, images, train=False), jax.random.key(0)
    )

    def apply(params, stats, x):
        return network.apply({"params": params, "batch_stats": stats}, x, train=False)

    return jaxinit.trace(apply, variables["params"], variables["batch_stats"], images)


def layer_names(params):
    """The main layers of a tree whose names tell their order."""
    return layers.of(params).names


def get_kernel(params, name):
    """The kernel of a layer of nested dictionaries."""
    for part in name.split("/"):
        params = params[part]
    return params["kernel"]


def set_kernels(params, kernels):
    """Such a tree with the kernels of some layers replaced."""

    def replace(path, leaf):
        return kernels.get("/".join(key.key for key in path[:-1]), leaf)

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: replace(path, leaf) if path[-1].key == "kernel" else leaf, params
    )


def few_layers():
    """A ResNet's parameters, of few layers and channels: what is called eagerly compiles each."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    return {
        "conv1": {"kernel": draw(7, 7, 3, 8)},
        "bn1": {"scale": draw(8), "bias": draw(8)},
        "layer1_0": {"conv1": {"kernel": draw(3, 3, 8, 8)}},
        "layer2_0": {
            "conv1": {"kernel": draw(3, 3, 8, 16)},
            "conv2": {"kernel": draw(3, 3, 16, 16)},
            "shortcut_conv": {"kernel": draw(1, 1, 8, 16)},
        },
        "fc": {"kernel": draw(16, 10), "bias": draw(10)},
    }


def bank_for(params):
    """Three clusters a layer, of one filter each and of 1, 2 and 3 members."""
    rng = np.random.default_rng(1)
    names = layer_names(params)
    sizes = {name: get_kernel(params, name).shape[:2] for name in names}
    return banks.FilterBank(
        {
            n: jnp.asarray(rng.standard_normal((3, 1, h * w), np.float32))
            for n, (h, w) in sizes.items()
        },
        {name: jnp.asarray([1.0, 2.0, 3.0]) for name in names},
        {name: jnp.asarray(0.0) for name in names},
        flax.core.FrozenDict(sizes),
        banks.Provenance("euclidean", "centroid", 3, 1, (), "0"),
    )
