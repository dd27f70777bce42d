"""What decides numbers but is no option of ours: JAX's settings, the program, its processors."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import jax

from experiments.cli.errors import UserError
from experiments.records.checksums import JSON

_ROOT = Path(__file__).parents[2]
# As they are where nobody sets them, and as they were in all that was recorded without them.
_NUMERICS = {
    "jax_threefry_partitionable": True,
    "jax_default_prng_impl": "threefry2x32",
    "jax_default_matmul_precision": None,
}


def numerics() -> dict[str, JSON]:
    """Returns JAX's settings that decide numbers."""
    return {name: getattr(jax.config, name) for name in _NUMERICS}


def unusual() -> dict[str, JSON]:
    """Returns those of `numerics` that are not JAX's defaults."""
    return {name: value for name, value in numerics().items() if value != _NUMERICS[name]}


def check_width(precision: str) -> None:
    """Makes sure that JAX_ENABLE_X64, which draws other numbers, is there with float64 alone.

    Raises:
        UserError: It is there without.
    """
    if jax.config.read("jax_enable_x64") and precision != "float64":
        raise UserError(
            f"JAX_ENABLE_X64 is set, with which JAX draws other numbers than with {precision} "
            "alone: unset it, or say --precision float64"
        )


def described() -> dict[str, JSON]:
    """Returns what is recorded of all this with a run."""
    return {
        **numerics(),
        "revision": revision(),
        "source": source(),
        "processor": processor(),
        "cores": cores(),
        "xla_flags": os.environ.get("XLA_FLAGS"),
    }


def cores() -> int:
    """How many cores this process may use: on a CPU XLA parts its work by them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def processor() -> str | None:
    """What the processor calls itself, on macOS and on Linux with x86; None elsewhere."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            return done.stdout.strip() or None
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return None


@functools.cache
def revision() -> str:
    """Returns the commit of the checkout that runs, or the version where it is none."""
    command = ["git", "-C", str(_ROOT), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        top, commit = done.stdout.splitlines()
        if Path(top).resolve() == _ROOT.resolve():  # and not a checkout that this lies in
            return commit
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    try:
        return importlib.metadata.version("jaxinit")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def source() -> str:
    """Identifies the program itself: twelve hexadecimal digits of a SHA-256 of its modules.

    Comments, docstrings and layout count for nothing; Python 3.11 to 3.13 find the same.
    """
    found = hashlib.sha256()
    for folder in ("experiments", "jaxinit"):
        for file in sorted((_ROOT / folder).rglob("*.py")):
            parts = [file.relative_to(_ROOT).as_posix()]
            _describe(ast.parse(file.read_bytes()), parts)
            found.update("\0".join(parts).encode())
    return found.hexdigest()[:12]


def _describe(node: ast.AST, parts: list[str]) -> None:
    """Adds all that a syntax tree says, but for strings that are statements.

    `ast.dump` writes other text in each version of Python.
    """
    parts.append(node.__class__.__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        # The context follows from the place; older versions of Python lack the newest fields.
        if value is None or value == [] or name == "ctx":
            continue
        parts.append(name)
        for own in value if isinstance(value, list) else (value,):
            if not isinstance(own, ast.AST):
                parts.append(ascii(own))
            elif not isinstance(own, ast.Expr) or not _is_text(own.value):
                _describe(own, parts)
        parts.append("")  # the field ends


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
