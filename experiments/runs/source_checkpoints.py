"""Checkpoints of source models, written and read with Orbax."""

import contextlib
import functools
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint

from experiments.cli import processes
from experiments.cli.errors import UserError, first_line
from experiments.records import checksums, files
from jaxinit import whole_files

_MORE = 2**20  # bytes that a checkpoint has beside its arrays


def save_checkpoint(folder: Path, variables: Any, vouching: Path | None = None) -> str:
    """Writes variables with Orbax, whole or not at all; what is there stays until they are.

    Args:
        folder: Of the checkpoint.
        variables: A tree of arrays.
        vouching: The file that vouches for what is there: removed before that is replaced.

    Returns:
        Their checksum.

    Raises:
        UserError: The folder cannot be written to.
    """
    partial = whole_files.partial(folder)
    if jax.process_count() > 1:  # all have to know it
        partial = folder.with_name(f".{folder.name}.partial")
    try:
        with files.writing_to(folder):
            if processes.is_first():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                _reserve(partial, _size(variables))
            processes.wait("the checkpoint can be written")
            _save(partial.absolute() / "model", variables)
            if processes.is_first():
                if vouching is not None:
                    vouching.unlink(missing_ok=True)
                if folder.exists():
                    os.replace(folder, partial / "former")
                os.replace(partial / "model", folder)
    except UserError:
        raise
    except Exception as error:  # Orbax raises whatever its parts raise
        raise UserError(
            f"cannot write the checkpoint {folder} ({first_line(error)}): free some space, or "
            "choose another folder with --models-dir"
        ) from error
    finally:
        if processes.is_first():
            shutil.rmtree(partial, ignore_errors=True)
    processes.wait("the checkpoint is written")
    return _checksum(variables)


def _size(tree: Any) -> int:
    """Bytes of a checkpoint of a tree of arrays, or of their shapes."""
    return _MORE + sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _reserve(folder: Path, size: int) -> None:
    """Makes sure that so many bytes can be written. Raises OSError, which says more than Orbax."""
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def check_room(folder: Path, template: Any, count: int) -> None:
    """Makes sure that so many checkpoints of a network can be written to a folder.

    Args:
        folder: Which is there.
        template: A tree of the network's arrays, or of their shapes.
        count: How many.

    Raises:
        UserError: They cannot.
    """
    size = _size(template)
    with files.writing_to(folder):
        if (free := shutil.disk_usage(folder).free) < count * size:
            raise UserError(
                f"{count} source models take {count * size / 1e6:.0f} MB in {folder}, where "
                f"{free / 1e6:.0f} MB are free: free some space, or choose another --models-dir"
            )
        if processes.is_first():
            _reserve(folder, size)


def _save(folder: Path, variables: Any) -> None:
    # Not that of StandardCheckpointer, which writes in a thread, and waits for it minutes after an
    # error.
    handler = orbax.checkpoint.StandardCheckpointHandler()
    with _in_silence(), orbax.checkpoint.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder, args=orbax.checkpoint.args.StandardSave(variables))


def load_checkpoint(folder: Path, template: Any, checksum: str | None = None) -> tuple[Any, str]:
    """Reads variables that were saved with `save_checkpoint`.

    Args:
        folder: Of the checkpoint.
        template: A tree of `jax.ShapeDtypeStruct` that the checkpoint must match.
        checksum: That was recorded; None where none was.

    Returns:
        The variables, and their checksum.

    Raises:
        UserError: It is missing, damaged, of another network, or not the one that was recorded.
    """
    advice = "delete the folder and start again, it will be trained anew"
    try:
        with _in_silence(), orbax.checkpoint.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore(folder.absolute(), template)
    except Exception as error:  # Orbax raises whatever its parts raise
        raise UserError(
            f"checkpoint {folder} is damaged or of another network: {advice}"
        ) from error
    shapes = jax.tree.map(lambda leaf: leaf.shape, variables)
    if shapes != jax.tree.map(lambda leaf: leaf.shape, template):
        raise UserError(f"checkpoint {folder} is of another network: {advice}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"checkpoint {folder} holds numbers that are not finite: {advice}")
    if checksum not in (None, found := _checksum(variables)):
        raise UserError(f"checkpoint {folder} is not the one that was recorded: {advice}")
    return variables, found


def _checksum(variables: Any) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return checksums.of_arrays({jax.tree_util.keystr(path): leaf for path, leaf in leaves})


@contextlib.contextmanager
def _in_silence() -> Generator[None, None, None]:
    """Keeps back what Orbax logs, and the tracebacks of its threads: its errors say it all."""
    logger, hook = logging.getLogger("absl"), threading.excepthook
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda _: None
    try:
        yield
    except Exception:
        # Its threads may come back later to the loop that is closed now.
        sys.unraisablehook = functools.partial(_unless_closed, sys.unraisablehook)
        raise
    finally:
        logger.setLevel(level)
        threading.excepthook = hook


def _unless_closed(former: Callable[[Any], Any], unraisable: Any) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
        former(unraisable)
