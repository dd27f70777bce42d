"""Which channels of any network can be permuted, read off the program that JAX traces of it.

Every axis of every value in the program is put into a class with those that must be permuted alike:
what adds two arrays ties their axes pairwise, a convolution ties the channels of its input to its
kernel's, and so on, through calls, branches and loops. One class is of axes that keep their order:
inputs, results, and all that an operation treats by position. An operation without a rule keeps the
order of all that it touches, so that a symmetry may be missed but never made up.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer
from jax.extend import core

from jaxinit import alignment, following, tied_axes, tracing, trees

_FIXED = 0  # the class of axes that keep their order

# Operations that are known to be calls of one program: elsewhere a program within an operation may
# stand for something else, as in a linear solve. And those whose kernels name the channels they
# make.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call")
_CALLS += ("custom_vjp_call",)
_MAKERS = ("conv_general_dilated", "dot_general", "gather")


class _Value(NamedTuple):
    """The class of each axis, and the path of the first variable that went in.

    The path is "" for constants and None for all that depends on the network's inputs.
    """

    axes: tuple[int, ...]
    origin: str | None


def derive(
    apply: Callable[..., Any], variables: Any, *args: Any, **options: Any
) -> alignment.Symmetry:
    """Finds which axes of a network's arrays can be permuted together.

    Nothing is computed: shapes are enough. `args`, and all that `apply` returns, keep their order,
    so `apply` should return the logits alone, not new batch statistics. The symmetry holds of the
    program as traced: for these shapes, and if a branch is taken in Python, for this branch.

    Free are channels that convolutions (depthwise ones too), products, norms over all or single
    channels, pooling, gates and elementwise operations pass on, within scans as well. Channels that
    are concatenated, padded, sliced, grouped, or flattened together with positions keep their order
    though some of them could be permuted in part.

    Args:
        apply: Called as `apply(variables, *args, **options)`.
        variables: Any tree; arrays, or their shapes as `jax.eval_shape` gives them. What is no
            array is handed through as it is.
        args: Of `apply`: trees of arrays, shapes or anything else.
        options: Of `apply`, by name.

    Returns:
        For the path of each array that has axes to permute, joined with "/", the names of their
        permutations. A permutation is called as the layer that first makes its channels.

    Raises:
        ValueError: Two arrays of `variables` whose paths are the same when joined.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     hidden = jnp.tanh(x @ variables["params"]["a"]["kernel"])
        ...     return hidden @ variables["params"]["b"]["kernel"]
        >>> shapes = {"a": {"kernel": jnp.zeros((3, 5))}, "b": {"kernel": jnp.zeros((5, 2))}}
        >>> derive(apply, {"params": shapes}, jnp.zeros((1, 3)))
        {'params/a/kernel': (None, 'a'), 'params/b/kernel': ('a', None)}
    """
    seen = tracing.program(apply, variables, *args, **options)
    reader, found = _Reader(), {}
    # First the variables' arrays, then those of the arguments, whose axes keep their order.
    inputs = [_Value((_FIXED,) * aval.ndim, None) for aval in seen.jaxpr.in_avals]
    for number, keys in enumerate(seen.paths):
        path = alignment.join(keys)
        axes = tuple(reader.new(size) for size in seen.own[number].shape)
        inputs[number] = _Value(axes, path)
        if found.setdefault(path, axes) is not axes:
            raise ValueError(f"two arrays have the path {path!r}: rename one of them")
    reader.fix(*reader.run(seen.jaxpr.jaxpr, seen.jaxpr.consts, inputs))
    return reader.symmetry(found)


class _Reader:
    """Goes through a program and sorts axes into classes (union-find)."""

    def __init__(self) -> None:
        self._parents, self._sizes = [_FIXED], [0]
        self._makers: list[tuple[int, str]] = []
        self._touched: set[int] = set()  # a variable that nothing reads has no symmetry

    def new(self, size: int) -> int:
        if size < 2:
            return _FIXED
        self._parents.append(len(self._parents))
        self._sizes.append(size)
        return self._parents[-1]

    def find(self, axis: int) -> int:
        while self._parents[axis] != axis:
            self._parents[axis] = self._parents[self._parents[axis]]
            axis = self._parents[axis]
        return axis

    def tie(self, axes: Iterable[int]) -> None:
        """Puts axes into one class; those of several sizes cannot be and keep their order."""
        roots = {self.find(axis) for axis in axes}
        if len({self._sizes[root] for root in roots}) > 1:
            roots.add(_FIXED)
        for root in roots:
            self._parents[root] = min(roots)

    def tie_values(self, one: _Value, other: _Value) -> None:
        self._touched.update(one.axes + other.axes)
        for pair in zip(one.axes, other.axes, strict=True):
            self.tie(pair)

    def fix(self, *values: _Value) -> None:
        self.tie((_FIXED, *(axis for value in values for axis in value.axes)))

    def symmetry(self, arrays: Mapping[str, tuple[int, ...]]) -> alignment.Symmetry:
        """Names the classes, by makers in the program's order, then by the arrays themselves."""
        arrays = {
            path: tuple(self.find(axis) if axis in self._touched else _FIXED for axis in axes)
            for path, axes in arrays.items()
        }
        names: dict[int, str | None] = {_FIXED: None}
        sources = [(self.find(axis), path) for axis, path in self._makers]
        sources = [(axis, path) for axis, path in sources if axis in arrays[path]]
        sources += [(axis, path) for path, axes in arrays.items() for axis in axes]
        for axis, path in sources:
            if axis not in names:
                name = _stem(path)
                if name in names.values():  # a layer with channels of two kinds, such as heads
                    name = f"{path}[{arrays[path].index(axis)}]"
                names[axis] = name
        named = {path: tuple(names[axis] for axis in axes) for path, axes in arrays.items()}
        return {path: axes for path, axes in named.items() if any(axes)}

    def run(
        self, jaxpr: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[_Value]
    ) -> list[_Value]:
        """Reads a program whose inputs are known; a call is read again wherever it is called."""
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        fixed = dict(zip(jaxpr.constvars, constants, strict=True))

        def read(atom: Any) -> _Value:
            if isinstance(atom, core.Literal):
                return self._constant(atom.val)
            # Each use of a constant by itself, so that no two channels are tied by a common zero.
            return self._constant(fixed[atom]) if atom in fixed else known[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            results = self._program(eqn, operands)
            if results is None:
                results = self._operation(eqn, operands)
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _constant(self, value: Any) -> _Value:
        """A constant is free along the axes along which it is the same."""
        shape = np.shape(value)
        plain = isinstance(getattr(value, "dtype", None), np.dtype)
        if not shape or not plain or isinstance(value, Tracer):
            return _Value((_FIXED,) * len(shape), "")
        array = np.asarray(value)
        same = [bool((array == array.take([0], axis)).all()) for axis in range(array.ndim)]
        axes = (self.new(n) if s else _FIXED for n, s in zip(shape, same, strict=True))
        return _Value(tuple(axes), "")

    def _operation(self, eqn: core.JaxprEqn, operands: Sequence[_Value]) -> list[_Value]:
        """Ties the axes that the operation's rule marks alike."""
        shapes = [[_shape(atom) for atom in atoms] for atoms in (eqn.invars, eqn.outvars)]
        marks = tied_axes.marks(eqn.primitive.name, eqn.params, *shapes)
        made = [tuple(self.new(size) for size in shape) for shape in shapes[1]]
        arrays = [*(operand.axes for operand in operands), *made]
        tied: dict[Hashable, list[int]] = {None: [_FIXED]}
        for axes, shape, own in zip(
            arrays, *(itertools.chain(*parts) for parts in (shapes, marks)), strict=True
        ):
            for axis, size, mark in zip(axes, shape, own, strict=True):
                if size != 1:
                    tied.setdefault(mark, []).append(axis)
        for axes in tied.values():
            self.tie(axes)
        for operand, own in zip(operands, marks[0], strict=True):
            self._touched.update(operand.axes)
            if operand.origin and eqn.primitive.name in _MAKERS:
                kept = zip(operand.axes, own, strict=True)
                self._makers += [(axis, operand.origin) for axis, m in kept if m in marks[1][0]]
        origins = [operand.origin for operand in operands]
        origin = None if None in origins else next(filter(None, origins), "")
        return [_Value(axes, origin) for axes in made]

    def _program(self, eqn: core.JaxprEqn, operands: list[_Value]) -> list[_Value] | None:
        """Reads the programs within an operation; None where it is not known to have any."""
        name, params = eqn.primitive.name, eqn.params
        if name in ("optimization_barrier", "device_put"):
            return operands
        if name in _CALLS:
            inner = following.called(eqn)
            return None if inner is None else self._call(inner, operands)
        if name == "cond":
            first, *others = [self._call(branch, operands[1:]) for branch in params["branches"]]
            for other in others:
                for pair in zip(first, other, strict=True):
                    self.tie_values(*pair)
            return [_Value(result.axes, None) for result in first]
        if name == "while":
            tests, steps = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            carry = [_Value(value.axes, None) for value in operands[steps:]]
            self._call(params["cond_jaxpr"], [*operands[:tests], *carry])
            self._loop(carry, self._call(params["body_jaxpr"], [*operands[tests:steps], *carry]))
            return carry
        if name == "scan":
            first, carried = following.scan_counts(eqn)
            last = first + carried
            carry = [_Value(value.axes, None) for value in operands[first:last]]
            for value in operands[last:]:
                self.fix(value._replace(axes=value.axes[:1]))
            slices = [value._replace(axes=value.axes[1:]) for value in operands[last:]]
            made = self._call(params["jaxpr"], [*operands[:first], *carry, *slices])
            self._loop(carry, made[: len(carry)])
            return carry + [_Value((_FIXED, *v.axes), v.origin) for v in made[len(carry) :]]
        return None

    def _call(self, program: Any, operands: Sequence[_Value]) -> list[_Value]:
        if isinstance(program, core.ClosedJaxpr):
            return self.run(program.jaxpr, program.consts, operands)
        return self.run(program, (), operands)

    def _loop(self, before: Sequence[_Value], after: Sequence[_Value]) -> None:
        for pair in zip(before, after, strict=True):
            self.tie_values(*pair)


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _stem(path: str) -> str:
    """What a layer is called: the path without the collection and the kernel's own name."""
    parts = path.removeprefix("params/").removesuffix("/value").split("/")
    return trees.module_name(tuple(parts), also=("embedding",))
