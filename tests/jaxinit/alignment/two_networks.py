"""Networks to permute, and how they are compared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import alignment
from jaxinit.models import resnet

KEY = jax.random.key(0)
BOTH = pytest.mark.parametrize("residual_first_stage", [True, False])


def make_network(residual_first_stage: bool) -> tuple[Any, Any]:
    """A network whose batch norms and their statistics are not trivial."""
    network = resnet.ResNet18(10, residual_first_stage)
    images = jnp.zeros((1, 8, 8, 3))
    variables = jax.jit(lambda key: network.init(key, images, train=False))(KEY)
    rng = np.random.default_rng(0)

    def stir(path, leaf):
        name = path[-1].key
        if name in ("scale", "bias", "mean", "var") and leaf.ndim == 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32))
        return leaf

    return network, jax.tree_util.tree_map_with_path(stir, variables)


def shuffled(symmetry, variables, seed=1):
    rng = np.random.default_rng(seed)
    sizes = alignment.sizes(variables, symmetry)
    return {name: rng.permutation(size) for name, size in sizes.items()}


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
