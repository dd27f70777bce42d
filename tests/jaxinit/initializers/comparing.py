"""How trees before and after an initialiser are compared."""

import jax
import jax.numpy as jnp

from tests import small


def same(first, second):
    return jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), first, second))


def changed_layers(before, after):
    names = small.layer_names(before)
    return [
        n
        for n in names
        if not jnp.array_equal(small.get_kernel(before, n), small.get_kernel(after, n))
    ]
