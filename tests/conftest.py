"""Every test runs under strict dtype and rank promotion, with shapes and types checked."""

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

# What is started in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Of several workers each keeps to its share of the cores, and so does what it starts: threads of
# XLA and PyTorch that wait for those of another worker cost a tenth of the time.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    share = sorted(os.sched_getaffinity(0))[worker :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    os.sched_setaffinity(0, share or os.sched_getaffinity(0))

# Before JAX starts: a GPU would have other roundings.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of compiling is how XLA writes fusions by default, and optimising what then runs once or
# twice. Who sets XLA_FLAGS, to nothing for instance, has it as users have it.
if "XLA_FLAGS" not in os.environ:
    flags = "--xla_cpu_use_fusion_emitters=false"
    # A flag that XLA does not know, as another version may not, ends a process.
    probe = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
    )
    os.environ["XLA_FLAGS"] = "" if probe.returncode else flags
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

from jaxtyping import install_import_hook

with install_import_hook("jaxinit", "beartype.beartype"):
    import jaxinit  # noqa: F401

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Compiles each program once for all workers, the programs that they start, and later runs.

    And Python looks for garbage less often than after each 700 objects, a twentieth of the time.
    """
    gc.set_threshold(50_000, 10, 10)
    folder = str(config.cache.mkdir("jax"))
    for name, value in {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_collection_finish():
    """What is there before the first test is never garbage, and is not looked through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def not_too_many_programs():
    """Drops compiled programs, of some thirty memory maps each, before they use up a process's.

    Linux grants 65,530; JAX aborts without one.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
