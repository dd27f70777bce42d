"""Every test runs under strict dtype and rank promotion, with shapes and types checked."""

import os

# Before JAX starts: a GPU would have other roundings.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

with install_import_hook("jaxinit", "beartype.beartype"):
    import jaxinit  # noqa: F401

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def quick_compilation():
    """Halves the time of modules whose tests compile much and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
