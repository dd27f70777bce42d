"""Checkpoints of source models, written and read with Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint

from experiments.cli.errors import UserError
from experiments.records import files


def save_checkpoint(folder: Path, variables: Any) -> None:
    """Writes variables with Orbax, whole or not at all, over what is there.

    Raises:
        UserError: The folder cannot be written to.
    """
    try:
        with (
            files.writing_to(folder.parent),
            orbax.checkpoint.StandardCheckpointer() as checkpointer,
        ):
            checkpointer.save(folder.absolute(), variables, force=True)
    except UserError:
        raise
    except Exception as error:  # Orbax raises whatever its parts raise
        reason = str(error).split("\n")[0]
        raise UserError(
            f"cannot write the checkpoint {folder} ({reason}): free some space, or choose another "
            "folder with --models-dir"
        ) from error


def load_checkpoint(folder: Path, template: Any) -> Any:
    """Reads variables that were saved with `save_checkpoint`.

    Args:
        folder: Of the checkpoint.
        template: A tree of `jax.ShapeDtypeStruct` that the checkpoint must match.

    Raises:
        UserError: It is missing, damaged, or of another network.
    """
    advice = "delete the folder and start again, it will be trained anew"
    try:
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
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
    return variables
