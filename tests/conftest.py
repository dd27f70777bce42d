"""Every test runs under strict dtype and rank promotion, with shapes and types checked."""

import os

# Before JAX starts: small tests gain nothing from a second start's worth of compilation.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

with install_import_hook("jaxinit", "beartype.beartype"):
    import jaxinit  # noqa: F401

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
