"""Every test runs under strict dtype and rank promotion, with shapes and types checked."""

import importlib.util
import os

# Before JAX starts: a GPU would have other roundings.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

with install_import_hook("jaxinit", "beartype.beartype"):
    import jaxinit  # noqa: F401

import jax
import pytest

# Doctests are looked for in every module, and this one needs PyTorch, which is not required.
collect_ignore = [] if importlib.util.find_spec("torch") else ["torch_reference.py"]

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def quick_compilation():
    """Halves the time of modules whose tests compile much and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
