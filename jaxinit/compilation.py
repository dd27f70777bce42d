"""Compiles programs before they are needed."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import jax


def compile_all(lowered: Iterable[jax.stages.Lowered]) -> None:
    """Compiles programs side by side, so that calling them finds them compiled."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda program: program.compile(), lowered))
