"""Refuses arguments of the wrong kind in a sentence; what is traced has no values to look at."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_MOST = 2**31 - 1  # what int32 counts, and more than any memory holds


def shown(value: Any) -> str:
    """Writes a value, if that is short; else its type."""
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text else f"({type(value).__name__})"


def numbers(**given: Any) -> None:
    """Refuses what is no real number, by name.

    Raises:
        ValueError: Says which it is.
    """
    for name, value in given.items():
        array = value if isinstance(value, jax.Array | np.ndarray) else np.asarray(None)
        single = array.ndim == 0 and jnp.issubdtype(array.dtype, jnp.number)
        plain = isinstance(value, int | float | np.integer | np.floating)
        if isinstance(value, bool) or not (plain or single) or jnp.iscomplexobj(value):
            raise ValueError(f"{name}={shown(value)} must be a number")
        if isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(f"{name}={value} must be below 2³¹")


def whole(**given: Any) -> None:
    """Refuses what is no whole number that an int32 holds, by name.

    Raises:
        ValueError: Says which it is.
    """
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name}={shown(value)} must be a whole number")
        if abs(int(value)) > _MOST:
            raise ValueError(f"{name}={value} must be below 2³¹")


def kind(name: str, value: Any, known: Any, what: str) -> None:
    """Refuses what is not of these types.

    Args:
        name: Of the argument.
        value: Of the argument.
        known: As of `isinstance`.
        what: What it must be, in words.

    Raises:
        ValueError: It is of another type.
    """
    if not isinstance(value, known):
        raise ValueError(f"{name} must be {what}, not {shown(value)}")


def function(name: str, value: Any) -> None:
    """Refuses what cannot be called.

    Raises:
        ValueError: Says what it is instead.
    """
    kind(name, value, Callable, "a function")


def path(value: Any) -> None:
    """Refuses what names no file.

    Raises:
        ValueError: Says what it is instead.
    """
    kind("path", value, str | os.PathLike, "the name of a file")


def array(name: str, value: Any, axes: int | None, numbers: Any = jnp.floating) -> None:
    """Refuses what is no array of so many axes and of such numbers.

    Args:
        name: Of the argument.
        value: Of the argument.
        axes: How many; any number where None.
        numbers: A kind of dtype.

    Raises:
        ValueError: Says what it is instead.
    """
    words = "an array" if axes is None else f"an array of {axes} axes"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ValueError(f"{name} must be {words}, not {shown(value)}")
    if axes is not None and len(value.shape) != axes:
        raise ValueError(f"{name} must be {words}, not of shape {tuple(value.shape)}")
    if not jnp.issubdtype(value.dtype, numbers):
        raise ValueError(f"{name} holds {value.dtype}, which it cannot be computed with")


def key(value: Any) -> None:
    """Refuses what is not one key.

    Raises:
        ValueError: Says how to make one.
    """
    dtype: Any = getattr(value, "dtype", None)
    shape = getattr(value, "shape", None)
    new = shape == () and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    raw = dtype == jnp.uint32 and shape in ((2,), (4,))
    if not isinstance(value, jax.Array | np.ndarray) or not (new or raw):
        raise ValueError(f"key must be one key, as jax.random.key(0) makes it, not {shown(value)}")


def shape(value: Any) -> None:
    """Refuses what is no shape.

    Raises:
        ValueError: It is no sequence of numbers from 0 on.
    """
    sides = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [None]
    if not all(isinstance(s, int | np.integer) and 0 <= s <= _MOST for s in sides):
        raise ValueError(
            f"shape={shown(value)} must be whole numbers, 0 or more: those of a kernel"
        )


def kernel(key_: Any, shape_: Any, dtype: Any) -> None:
    """Refuses what no kernel can be drawn by: no key, no shape, or a dtype that is not floating.

    Raises:
        ValueError: Says which it is.
    """
    key(key_)
    shape(shape_)
    floating(dtype)


def floating(dtype: Any) -> None:
    """Refuses dtypes other than those of floating point; None is JAX's default.

    Raises:
        ValueError: Says which it is.
    """
    try:  # NumPy takes an array for its dtype, JAX does not
        found = dtype is None or jnp.issubdtype(np.dtype(dtype), jnp.floating)
        found = found and not isinstance(dtype, jax.Array | np.ndarray)
    except (TypeError, ValueError):  # whichever NumPy raises of what is no dtype
        found = False
    if not found:
        raise ValueError(
            f"a kernel of dtype {shown(dtype)} cannot be drawn: filters are of floating point, "
            "such as jnp.float32"
        )


def mapping(name: str, value: Any, what: str) -> None:
    """Refuses what is no dictionary.

    Raises:
        ValueError: Says what it is instead.
    """
    kind(name, value, Mapping, what)


def known(value: Any) -> bool:
    """Whether a value can be looked at now: not one that is traced."""
    return not isinstance(value, Tracer)


def live(value: Any) -> None:
    """Refuses what says nothing of taps that meet data; None does.

    Raises:
        ValueError: It is nothing like `Network.live_taps`.
    """
    if value is None:
        return
    what = "the slices of each layer by its name, as Network.live_taps()"
    mapping("live", value, what)
    for own in value.values():
        if not isinstance(own, tuple) or not all(isinstance(part, slice) for part in own):
            raise ValueError(f"live must be {what}, not {shown(own)}")
