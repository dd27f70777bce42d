"""Orbax checkpoints of any tree, read an array at a time, so that banks can be fitted of many."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinit import checks, trees
from jaxinit.weights import StoredArray


def open_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Returns the tree of an Orbax checkpoint, whose arrays are read when they are asked for.

    For `banks.fit`, which reads one layer at a time, whatever tree was saved.

    Args:
        path: The checkpoint's folder; of an Orbax `CheckpointManager` that of one item of a step,
            such as "run/100/default".

    Returns:
        Dictionaries and lists of `StoredArray`, as Orbax keeps them: named fields become keys.

    Raises:
        ValueError: The folder holds no checkpoint, or a damaged one; also when an array is read.
        FileNotFoundError: There is no such folder.
    """
    checks.path(path)
    path = Path(path).absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist: name the folder of an Orbax checkpoint")
    import orbax.checkpoint  # only here, as it is slow to import; flax brings it

    try:
        with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
            tree: Any = checkpointer.metadata(path).item_metadata.tree
    except Exception as error:  # Orbax raises whatever its parts raise
        raise _refused(path, error) from error

    def stored(keys: Any, leaf: Any) -> Any:
        if not trees.is_array(leaf):
            return leaf
        shape, dtype = tuple(leaf.shape), np.dtype(leaf.dtype)
        return StoredArray(shape, dtype, lambda: _read(path, tree, keys))

    return jax.tree_util.tree_map_with_path(stored, tree, is_leaf=trees.is_array)


def _read(path: Path, tree: Any, keys: Any) -> np.ndarray:
    """Reads the one array at `keys`."""
    import orbax.checkpoint

    def wanted(own: Any, leaf: Any) -> Any:
        if own != keys:
            return orbax.checkpoint.PLACEHOLDER
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    whole = orbax.checkpoint.RestoreArgs(restore_type=np.ndarray)
    arguments = orbax.checkpoint.args.PyTreeRestore(
        item=jax.tree_util.tree_map_with_path(wanted, tree, is_leaf=trees.is_array),
        restore_args=jax.tree.map(lambda _: whole, tree, is_leaf=trees.is_array),
    )
    try:
        with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.restore(path, args=arguments)
    except Exception as error:  # as above
        raise _refused(path, error) from error
    leaves = jax.tree_util.tree_leaves_with_path(found, is_leaf=trees.is_array)
    return np.asarray(next(leaf for own, leaf in leaves if own == keys))


def _refused(path: Path, error: Exception) -> ValueError:
    reason = str(error).split("\n")[0]
    return ValueError(f"{path} is damaged or no Orbax checkpoint ({reason}): name another folder")
