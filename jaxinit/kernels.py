"""Kernels within a tree of parameters: where they lie, how they are stored, and their 2-D slices.

Here a kernel always has the axes (spatial …, in, out), such as (height, width, in, out). A tree may
hold it otherwise: transposed, as PyTorch and Equinox do, or as one of a stack, as `nn.scan` does.
How it is stored is a `View`, a sequence of steps that can be taken back.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxinit import checks
from jaxinit.trees import Path, is_key, leaves, plain_path


@dataclasses.dataclass(frozen=True)
class Transpose:
    """Puts the axes into another order."""

    axes: tuple[int, ...]

    def shape(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """Tells what becomes of a shape."""
        return tuple(before[axis] for axis in self.axes)

    def apply(self, array: Any) -> Any:
        """Takes the step, of an array of NumPy or JAX."""
        return array.transpose(self.axes)

    def put(self, array: Any, value: Any) -> Any:
        """Returns what `apply` makes `value` of; `array` is what it was."""
        del array
        return value.transpose(tuple(int(axis) for axis in np.argsort(self.axes)))


@dataclasses.dataclass(frozen=True)
class Reshape:
    """Splits or merges axes."""

    after: tuple[int, ...]

    def shape(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """Tells what becomes of a shape."""
        del before
        return self.after

    def apply(self, array: Any) -> Any:
        """Takes the step, of an array of NumPy or JAX."""
        return array.reshape(self.after)

    def put(self, array: Any, value: Any) -> Any:
        """Returns what `apply` makes `value` of; `array` is what it was."""
        return value.reshape(array.shape)


@dataclasses.dataclass(frozen=True)
class Flip:
    """Reverses axes."""

    axes: tuple[int, ...]

    def shape(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """Tells what becomes of a shape."""
        return before

    def apply(self, array: Any) -> Any:
        """Takes the step, of an array of NumPy or JAX."""
        turned = range(array.ndim)
        return array[tuple(slice(None, None, -1 if axis in self.axes else 1) for axis in turned)]

    def put(self, array: Any, value: Any) -> Any:
        """Returns what `apply` makes `value` of; `array` is what it was."""
        del array
        return self.apply(value)


@dataclasses.dataclass(frozen=True)
class Part:
    """Takes a block, such as one kernel of a stack."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    strides: tuple[int, ...]

    def _slices(self) -> tuple[slice, ...]:
        return tuple(map(slice, self.starts, self.stops, self.strides))

    def shape(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """Tells what becomes of a shape."""
        slices = zip(before, self._slices(), strict=True)
        return tuple(len(range(*own.indices(side))) for side, own in slices)

    def apply(self, array: Any) -> Any:
        """Takes the step, of an array of NumPy or JAX."""
        return array[self._slices()]

    def put(self, array: Any, value: Any) -> Any:
        """Returns `array` with the block replaced."""
        return jnp.asarray(array).at[self._slices()].set(value)


#: How a leaf of a tree becomes a kernel, step by step.
View = tuple[Transpose | Reshape | Flip | Part, ...]


@runtime_checkable
class Stored(Protocol):
    """Where a kernel lies: its leaf's path, and how the leaf becomes the kernel."""

    @property
    def path(self) -> Path | None:
        """Of the leaf; None where none holds the kernel."""
        ...

    @property
    def view(self) -> View:
        """From the leaf to the kernel (spatial …, in, out)."""
        ...


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a kernel lies, and nothing else."""

    path: Path
    view: View


def simplified(view: View, shape: tuple[int, ...]) -> View:
    """Leaves out what changes nothing, and makes one of two transpositions.

    Args:
        view: Of a leaf.
        shape: The leaf's.
    """
    kept: list[Transpose | Reshape | Flip | Part] = []
    for step in view:
        before = shape_after(tuple(kept), shape)
        last = kept[-1] if kept else None
        if isinstance(step, Transpose) and isinstance(last, Transpose):
            kept.pop()
            step = Transpose(tuple(last.axes[axis] for axis in step.axes))
        if isinstance(step, Transpose) and step.axes == tuple(range(len(step.axes))):
            continue
        if isinstance(step, Reshape) and step.after == before:
            continue
        if isinstance(step, Part) and shape_after((step,), before) == before:
            continue
        kept.append(step)
    return tuple(kept)


def shape_after(view: View, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a view makes of a leaf of this shape."""
    for step in view:
        shape = step.shape(shape)
    return shape


def entries(view: View, shape: tuple[int, ...]) -> np.ndarray:
    """Which numbers of a leaf, counted in rows, a view shows, and where."""
    numbers: Any = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    for step in view:
        numbers = step.apply(numbers)
    return numbers


def sides(size: Sequence[int]) -> str:
    """Writes a size: "3×3"."""
    return "×".join(map(str, size))


def get(params: Any, layer: Stored) -> Array:
    """Returns a layer's kernel (spatial …, in, out), in the dtype of its leaf.

    Args:
        params: A tree of parameters, whose leaves may be anything that NumPy makes an array of.
        layer: Which, of a traced network.

    Raises:
        ValueError: The tree has no such leaf.
    """
    return get_all(params, [layer])[0]


def get_all(params: Any, layers: Sequence[Stored]) -> list[Array]:
    """Returns several layers' kernels, as `get` does."""
    found = leaves(params)
    return [_view(_leaf(found, layer), layer) for layer in layers]


def put(params: Any, kernels: Mapping[Any, Array]) -> Any:
    """Returns a tree with the kernels of some layers replaced, all else shared.

    Structure, types and dtypes stay those of `params`, and so do shardings: within `jax.jit` on
    meshes of explicit axes alone, as elsewhere JAX decides where a result lies, unless it is told
    by `out_shardings=`.

    Args:
        params: A tree of parameters.
        kernels: For each layer its new kernel (spatial …, in, out).

    Raises:
        ValueError: The tree lacks a layer's leaf, or two of its leaves have one path.
    """
    checks.mapping("kernels", kernels, "the kernels of layers")
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    found: dict[Path, Any] = {}
    for keys, leaf in with_paths:
        if (path := plain_path(keys)) in found:
            raise ValueError(
                f"two leaves of the tree have the path {'/'.join(map(str, path))!r}: rename one of "
                "them"
            )
        found[path] = leaf
    changed: dict[Path, Any] = {}
    for layer, kernel in kernels.items():
        leaf = _leaf(found | changed, layer)
        checks.array("a new kernel", kernel, None, jnp.number)
        check_floating(leaf, layer.path)
        changed[layer.path] = _put(leaf, layer.view, kernel.astype(dtype_of(leaf)))
    new = [like(changed[path], leaf) if path in changed else leaf for path, leaf in found.items()]
    return jax.tree_util.tree_unflatten(structure, new)


def _leaf(found: Mapping[Path, Any], layer: Stored) -> Any:
    checks.kind("layer", layer, Stored, "a layer of a network, as jaxinit.trace finds it")
    if layer.path is None:
        raise ValueError("the kernel is computed from others, so that no leaf holds it")
    if layer.path not in found:
        raise ValueError(
            f"the tree has no {'/'.join(map(str, layer.path))}: trace the network with the "
            "parameters that are to be filled"
        )
    return found[layer.path]


def _view(leaf: Any, layer: Stored) -> Array:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(
            f"{'/'.join(map(str, layer.path or ()))} has a shape but no numbers: give arrays, or "
            "call this under jax.eval_shape"
        )
    array = gathered(leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf)))
    try:
        for step in layer.view:
            array = step.apply(array)
    except (ValueError, TypeError, IndexError):
        raise ValueError(
            f"{'/'.join(map(str, layer.path or ()))} has the shape {tuple(leaf.shape)}, not that "
            "which the network was traced with: give the tree that was traced"
        ) from None
    return array


def _put(leaf: Any, view: View, value: Array) -> Array:
    if not view:
        return value
    first, rest = view[0], view[1:]
    leaf = gathered(leaf)
    inner = value if not rest else _put(first.apply(leaf), rest, value)
    return first.put(leaf, inner)


def check_floating(leaf: Any, path: Path) -> None:
    """Refuses kernels of integers and complex numbers.

    Raises:
        ValueError: Says which it is.
    """
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise ValueError(
            f"{'/'.join(map(str, path))} holds numbers of type {leaf.dtype}: only kernels of "
            "floating point can be filled, measured or clustered"
        )


def explicit(array: Any) -> jax.sharding.NamedSharding | None:
    """How an array is laid out on a mesh whose axes are part of its type; None elsewhere."""
    if not isinstance(array, jax.Array):
        return None
    sharding = jax.typeof(array).sharding
    axes = getattr(sharding.mesh, "axis_types", ())
    return sharding if any(kind == jax.sharding.AxisType.Explicit for kind in axes) else None


def gathered(array: Any) -> Any:
    """Takes an array together whose layout on a mesh is part of its type, so that it computes."""
    sharding = explicit(array)
    if sharding is None or all(part is None for part in sharding.spec):
        return array
    return jax.sharding.reshard(array, jax.sharding.PartitionSpec(*(None,) * array.ndim))


def dtype_of(leaf: Any) -> Any:
    """The dtype that JAX gives a leaf: without 64 bits NumPy's are halved."""
    return jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)  # keys stay


def like(value: Array, leaf: Any) -> Array:
    """Gives an array the dtype and sharding of the leaf that it replaces; keys have their own."""
    if is_key(leaf):
        return value
    value = value.astype(dtype_of(leaf))
    if (sharding := explicit(leaf)) is not None:
        return jax.sharding.reshard(value, sharding)
    concrete = not isinstance(value, Tracer) and not isinstance(leaf, Tracer)
    if concrete and isinstance(leaf, jax.Array) and leaf.sharding != value.sharding:
        return jax.device_put(value, leaf.sharding)
    return value


def to_slices(kernel: Float[Array, "... i o"]) -> Float[Array, "n d"]:
    """Cuts a kernel into its spatial slices, one a pair of output and input channel.

    Args:
        kernel: Spatial axes, such as height and width, input and output channels.

    Returns:
        One row of taps (h·w) for each slice, output channel by output channel: row o·i_total + i.
    """
    checks.array("kernel", kernel, None, np.generic)
    if len(kernel.shape) < 2:
        raise ValueError(f"a kernel of shape {kernel.shape} has no input and output channels")
    *size, inputs, outputs = kernel.shape
    last = len(size)
    order = (last + 1, last, *range(last))
    return jnp.transpose(kernel, order).reshape(outputs * inputs, -1)


def from_slices(slices: Float[Array, "n d"], shape: tuple[int, ...]) -> Float[Array, "... i o"]:
    """Puts slices back together: the inverse of `to_slices`.

    Args:
        slices: One row of taps for each pair of output and input channel.
        shape: Of the kernel (spatial …, i, o); i·o must be the number of rows.
    """
    checks.array("slices", slices, 2, np.generic)
    checks.shape(shape)
    if len(shape) < 2 or (math.prod(shape[-2:]), math.prod(shape[:-2])) != slices.shape:
        raise ValueError(f"slices of shape {slices.shape} do not make a kernel of {tuple(shape)}")
    *size, inputs, outputs = shape
    order = (*range(2, 2 + len(size)), 1, 0)
    return jnp.transpose(slices.reshape(outputs, inputs, *size), order)


_AXES_ARE_KNOWN = contextvars.ContextVar("axes are known", default=False)


@contextlib.contextmanager
def known_axes() -> Generator[None, None, None]:
    """Within it `check_channels_last` does not guess: shapes are those of a network's layers."""
    token = _AXES_ARE_KNOWN.set(True)
    try:
        yield
    finally:
        _AXES_ARE_KNOWN.reset(token)


def check_channels_last(shape: Sequence[int], rank: int | None = 4) -> None:
    """Refuses shapes that cannot be (height, width, in, out), or are more likely PyTorch's.

    (64, 3, 7, 7) would be 64×3 taps between 7 and 7 channels: nobody has such kernels. Shapes are
    refused whose last two sides are equal and above 1 while the first two are larger and are no
    small odd square, as 3×3 to 11×11.

    Args:
        shape: Of a kernel.
        rank: How many sides it must have; any from 3 on where None.

    Raises:
        ValueError: Says how to get it right.
    """
    checks.shape(shape)
    if len(shape) != rank and (rank is not None or len(shape) < 3):
        raise ValueError(
            f"a kernel of shape {tuple(shape)} has not the sides (height, width, in, out): "
            "choose 2-D convolutions, as by layers="
        )
    if len(shape) != 4 or _AXES_ARE_KNOWN.get():
        return
    height, width, inputs, outputs = shape
    usual = (height == width and height % 2 == 1 and height <= 11) or min(height, width) == 1
    if inputs == outputs > 1 and max(height, width) > inputs and not usual:
        raise ValueError(
            f"a kernel of shape {tuple(shape)} looks like (out, in, height, width), as PyTorch and "
            "Equinox have it: give (height, width, in, out), or let per_layer and "
            "network=jaxinit.trace(…), or jaxinit.declare(…, layout=…), say which axis is which"
        )
