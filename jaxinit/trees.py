"""Trees of parameters of any framework: their leaves, where these lie, and what they are called."""

from collections.abc import Sequence
from typing import Any

import jax

#: The keys that lead to a leaf: of dictionaries, attributes and sequences.
Path = tuple[str | int, ...]

# Names that frameworks give to a kernel within its module, which therefore names the layer.
_KERNEL_NAMES = ("kernel", "weight", "w")


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, or stands for one, as what `jax.eval_shape` returns."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a key of random numbers, as those of NNX's streams are."""
    return is_array(leaf) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def leaves(params: Any) -> dict[Path, Any]:
    """Lists a tree's leaves by their paths."""
    return {plain_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def plain_path(path: Sequence[Any]) -> Path:
    """Makes strings and numbers of JAX's keys, without what boxes add to a leaf's own.

    The boxes are `nn.Partitioned` and the variables of NNX, whose only child is called `value`.
    """
    boxed = len(path) > 1 and getattr(path[-1], "name", None) == "value"
    return tuple(_plain_key(key) for key in (path[:-1] if boxed else path))


def _plain_key(key: Any) -> str | int:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            plain = getattr(key, attribute)
            return plain if isinstance(plain, str | int) else str(plain)
    return str(key)


def module(path: Path) -> Path:
    """The path of the module that a leaf belongs to."""
    return path[:-1]


def leaf_name(path: Path) -> str:
    """Names a leaf within its module: "kernel", "bias"."""
    return str(path[-1]) if path else ""


def module_name(path: Path, also: Sequence[str] = ()) -> str:
    """Names a leaf by its module where its own name says no more than that it is a kernel.

    Args:
        path: Of the leaf.
        also: More names that say no more.
    """
    named = len(path) > 1 and path[-1] in (*_KERNEL_NAMES, *also)
    return "/".join(map(str, path[:-1] if named else path))
