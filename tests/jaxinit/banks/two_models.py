"""Two small models, and banks of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit import banks, kernels
from tests import small

KEY = jax.random.key(0)
SHAPES: dict[str, tuple[int, ...]] = {
    "conv1": (7, 7, 3, 8),
    "layer1_0/conv1": (3, 3, 8, 8),
    "layer1_0/conv2": (3, 3, 8, 8),
}


def model(seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    tree: dict[str, Any] = {"fc": {"kernel": np.zeros((8, 2), np.float32)}}
    for name, shape in shapes.items():
        node = tree
        for part in name.split("/"):
            node = node.setdefault(part, {})
        node["kernel"] = rng.standard_normal(shape, dtype=np.float32)
    return tree


MODELS = [model(0), model(1)]


def fit(
    models: Any = MODELS, clusters: int = 4, restarts: int = 1, **settings: Any
) -> banks.FilterBank:
    return banks.fit(KEY, models, clusters=clusters, restarts=restarts, **settings)


def layer_slices(name: str) -> np.ndarray:
    own = [jnp.asarray(small.get_kernel(m, name)) for m in MODELS]
    return np.concatenate([kernels.to_slices(kernel) for kernel in own])
