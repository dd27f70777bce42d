"""Follows parameters through a program, and notes the convolutions and products that they meet.

A value is a leaf seen through a view, as long as all that happens to it can be taken back: casts
between floating types, transpositions, reshapes, slices. Anything else makes it a mix, of which
only the leaves that went into it are known.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from jaxinit import kernels
from jaxinit.kernels import Flip, Part, Reshape, Transpose, View
from jaxinit.layers import Layer
from jaxinit.models import convolution

INPUT = -1  # stands for what depends on the arguments, among numbers of leaves


class Leaf(NamedTuple):
    """A value that is a leaf, seen through `view`."""

    number: int
    view: View


class Mix(NamedTuple):
    """Any other value, with the leaves (or `INPUT`) that it is computed from."""

    parts: frozenset[int]


Value = Leaf | Mix

NOTHING = Mix(frozenset())


@dataclasses.dataclass
class Call:
    """What is known of one convolution, over all the places that call it."""

    value: Value
    layer: Layer  # still without a name
    places: set[int]


class Walk:
    """Goes through a program in the order of its calls.

    Args:
        shapes: Of the leaves.

    Attributes:
        calls: What was found, in the order of first calls.
        dense: The linear layers, in the order of last calls: leaf, and (in, out).
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = list(shapes)
        self.calls: dict[Any, Call] = {}
        self.dense: dict[Any, tuple[Leaf, tuple[int, int]]] = {}

    def run(self, jaxpr: Any, consts: Sequence[Value], values: Sequence[Value]) -> list[Value]:
        """Follows values through a jaxpr; returns those of its results."""
        known: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, values, strict=True))

        def read(atom: Any) -> Value:
            literal = isinstance(atom, jax.extend.core.Literal)
            return NOTHING if literal else known.get(atom, NOTHING)

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self._follow(equation, given)
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _follow(self, equation: Any, given: list[Value]) -> Sequence[Value]:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            self._note_convolution(equation, given)
        elif name == "dot_general":
            self._note_dense(equation, given)
        elif name == "scan":
            return self._scan(equation, given)
        elif name == "cond":
            ways = [self._inside(way, given[1:]) for way in equation.params["branches"]]
            return [_agreed(results) for results in zip(*ways, strict=True)]
        elif name == "while":
            return self._while(equation.params, given)
        elif (inner := called(equation)) is not None:
            return self._call(equation, inner, given)
        elif name in _SAME and len(given) == len(equation.outvars):
            pairs = zip(equation.invars, equation.outvars, given, strict=True)
            return [v if _keeps_numbers(a.aval, b.aval) else _mixed([v]) for a, b, v in pairs]
        elif given and isinstance(first := given[0], Leaf) and (views := _views(equation)):
            return [Leaf(first.number, first.view + view) for view in views]
        else:
            _refuse_hidden(equation, given)
        return [_mixed(given)] * len(equation.outvars)

    def _call(self, equation: Any, inner: Any, given: Sequence[Value]) -> list[Value]:
        """Goes into a call; what has another shape inside, as in `shard_map`, is no leaf there."""
        own = _opened(inner)
        pairs = zip(equation.invars, own.invars, given, strict=True)
        entering = [v if _shape(a) == _shape(b) else _mixed([v]) for a, b, v in pairs]
        results = self._inside(inner, entering)
        pairs = zip(own.outvars, equation.outvars, results, strict=True)
        return [v if _shape(a) == _shape(b) else _mixed([v]) for a, b, v in pairs]

    def _inside(self, jaxpr: Any, given: Sequence[Value]) -> list[Value]:
        inner = _opened(jaxpr)
        return self.run(inner, [NOTHING] * len(inner.constvars), given)

    def _scan(self, equation: Any, given: Sequence[Value]) -> list[Value]:
        params = equation.params
        consts, carries = scan_counts(equation)
        fixed, carry = list(given[:consts]), list(given[consts : consts + carries])
        stacked = list(given[consts + carries :])
        places = range(params["length"])
        collected: list[list[Value]] = []
        for place in reversed(places) if params["reverse"] else places:
            own = [self._element(value, place) for value in stacked]
            results = self._inside(params["jaxpr"], fixed + carry + own)
            carry, rest = results[:carries], results[carries:]
            collected.append(rest)
            if not any(isinstance(value, Leaf) for value in stacked):
                # Every pass finds the same kernels, unless they wander through the carry.
                if carry == list(given[consts : consts + carries]):
                    break
                given = [*given[:consts], *carry, *given[consts + carries :]]
        if not collected:  # a scan of no steps
            return carry + [NOTHING] * (len(equation.outvars) - carries)
        return carry + [_mixed(values) for values in zip(*collected, strict=True)]

    def _element(self, value: Value, place: int) -> Value:
        if not isinstance(value, Leaf):
            return value
        shape = kernels.shape_after(value.view, self.shapes[value.number])
        part = Part((place, *(0,) * (len(shape) - 1)), (place + 1, *shape[1:]), (1,) * len(shape))
        return Leaf(value.number, (*value.view, part, Reshape(shape[1:])))

    def _while(self, params: Any, given: Sequence[Value]) -> list[Value]:
        test, body = params["cond_nconsts"], params["body_nconsts"]
        carry = list(given[test + body :])
        self._inside(params["cond_jaxpr"], [*given[:test], *carry])
        while True:  # until the carry no longer loses leaves: at most once for each
            results = self._inside(params["body_jaxpr"], [*given[test : test + body], *carry])
            merged = [_agreed(pair) for pair in zip(carry, results, strict=True)]
            if merged == carry:
                return carry
            carry = merged

    def _note_convolution(self, equation: Any, given: Sequence[Value]) -> None:
        data, kernel = given
        if kernel == NOTHING:
            return  # a fixed filter, such as a blur
        before = frozenset().union(*(_parts(call.value) for call in self.calls.values()))
        reads_input = not (before - {INPUT}) & _parts(data)
        layer = dataclasses.replace(_described(equation), reads_input=reads_input)
        if not isinstance(kernel, Leaf):
            self._note((kernel, id(equation)), kernel, layer, equation)
            return
        rhs = equation.params["dimension_numbers"].rhs_spec
        own = self.shapes[kernel.number]
        order = Transpose((*rhs[2:], rhs[1], rhs[0]))
        view = kernels.simplified((*kernel.view, order), own)
        members = _stacked(view, own)
        *size, inputs, outputs = layer.shape
        shape = (*size, inputs, outputs // members)
        groups = max(layer.groups // members, 1)
        for member in range(members):
            starts = (*(0,) * (len(shape) - 1), member * shape[-1])
            stops = (*shape[:-1], (member + 1) * shape[-1])
            part = Part(starts, stops, (1,) * len(shape))
            mine = kernels.simplified((*view, part), own)
            found = dataclasses.replace(layer, view=mine, shape=shape, groups=groups, stored=own)
            self._note((kernel.number, mine), Leaf(kernel.number, mine), found, equation)

    def _note(self, key: Any, value: Value, layer: Layer, equation: Any) -> None:
        if (known := self.calls.get(key)) is None:
            self.calls[key] = Call(value, layer, {id(equation)})
        else:
            add(known, layer, {id(equation)})

    def _note_dense(self, equation: Any, given: Sequence[Value]) -> None:
        (contracted, batched) = equation.params["dimension_numbers"]
        for side in (0, 1):
            kernel, other = given[side], given[1 - side]
            if not isinstance(kernel, Leaf) or isinstance(other, Leaf) or batched[side]:
                continue
            if INPUT not in other.parts:
                continue
            shape = equation.invars[side].aval.shape
            own = tuple(contracted[side])
            free = tuple(axis for axis in range(len(shape)) if axis not in own)
            sides = (
                int(np.prod([shape[axis] for axis in own])),
                int(np.prod([shape[axis] for axis in free])),
            )
            view = (*kernel.view, Transpose((*own, *free)), Reshape(sides))
            view = kernels.simplified(view, self.shapes[kernel.number])
            key = (kernel.number, view)
            self.dense[key] = self.dense.pop(key, (Leaf(kernel.number, view), sides))


def scan_counts(equation: Any) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried; the others are stacked.

    Told by their axes, of which the program inside sees one less where they are stacked: the names
    of a scan's parameters differ between versions of JAX.
    """
    (program,) = _programs(equation)
    inner = _opened(program)

    def same(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(len(_shape(a)) == len(_shape(b)) for a, b in pairs)

    carries = same(equation.outvars, inner.outvars)
    return same(equation.invars, inner.invars) - carries, carries


def add(call: Call, layer: Layer, places: set[int]) -> None:
    """Adds calls of the same kernel, which may see other data."""
    pairs = zip(call.layer.live or (), layer.live or (), strict=True)
    live = tuple(
        (min(a[0], b[0]), max(a[1], b[1])) if a[1] and b[1] else max(a, b, key=lambda own: own[1])
        for a, b in pairs
    )
    reads_input = bool(call.layer.reads_input or layer.reads_input)
    call.layer = dataclasses.replace(call.layer, live=live, reads_input=reads_input)
    call.places |= places


def _described(equation: Any) -> Layer:
    """What an equation says of a convolution: all but its name and leaf."""
    params = equation.params
    numbers = params["dimension_numbers"]
    pixels, shape = _shape(equation.invars[0]), _shape(equation.invars[1])
    order = (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
    size = tuple(pixels[axis] for axis in numbers.lhs_spec[2:])
    padding = tuple((int(before), int(after)) for before, after in params["padding"])
    strides, dilation = tuple(params["window_strides"]), tuple(params["rhs_dilation"])
    spread = tuple(params["lhs_dilation"])
    axes = zip(
        size, (shape[axis] for axis in order), strides, padding, dilation, spread, strict=False
    )
    return Layer(
        name="",
        path=None,
        view=(),
        shape=tuple(shape[axis] for axis in order),
        stride=strides,
        padding=padding,
        dilation=dilation,
        input_dilation=spread,
        groups=params["feature_group_count"],
        input_size=size,
        live=tuple(convolution.live_taps(*of_axis) for of_axis in axes),
    )


def _stacked(view: View, shape: tuple[int, ...]) -> int:
    """How many kernels of a stack lie side by side in the output channels, as `vmap` puts them."""
    if not any(isinstance(step, Reshape) for step in view):
        return 1
    entries = kernels.entries(view, shape)
    outputs = entries[(0,) * (entries.ndim - 1)] if entries.size else entries.ravel()
    coordinates = np.unravel_index(outputs, shape)
    varying = [c for c in coordinates if len(c) and np.ptp(c) > 0]
    if len(varying) != 2:
        return 1
    slow = min(varying, key=lambda c: np.count_nonzero(np.diff(c)))
    count = int(slow.max()) + 1
    even = len(slow) % count == 0 and np.array_equal(
        slow, np.repeat(np.arange(count), len(slow) // count)
    )
    return count if even else 1


def called(equation: Any) -> Any:
    """The program that an equation calls with just its own operands: of jit, remat, custom_jvp."""
    for value in _programs(equation):
        inner = _opened(value)
        shapes = [_shape(atom) for atom in inner.invars]
        given = [_shape(atom) for atom in equation.invars]
        fits = len(shapes) == len(given) and len(inner.outvars) == len(equation.outvars)
        if fits and (shapes == given or equation.primitive.name == "shard_map"):
            return value
    return None


def passed_on(jaxpr: Any) -> list[int | None]:
    """Which input each result of a program is, as it came in, or None where it is computed.

    Calls of programs within it, such as those of jit, are looked into.
    """
    known: dict[Any, int] = {atom: number for number, atom in enumerate(jaxpr.invars)}

    def number_of(atom: Any) -> int | None:
        return None if isinstance(atom, jax.extend.core.Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        if (inner := called(equation)) is None:
            continue
        for result, place in zip(equation.outvars, passed_on(_opened(inner)), strict=True):
            number = None if place is None else number_of(equation.invars[place])
            if number is not None:
                known[result] = number
    return [number_of(atom) for atom in jaxpr.outvars]


def _opened(program: Any) -> Any:
    """The program itself, without the constants that it may be closed over."""
    return program.jaxpr if isinstance(program, jax.extend.core.ClosedJaxpr) else program


def _programs(equation: Any) -> list[Any]:
    kinds = (jax.extend.core.ClosedJaxpr, jax.extend.core.Jaxpr)
    held = []
    for value in equation.params.values():
        several = value if isinstance(value, list | tuple) else [value]
        held += [one for one in several if isinstance(one, kinds)]
    return held


def _refuse_hidden(equation: Any, given: Sequence[Value]) -> None:
    """Convolutions with parameters inside what cannot be followed must not go unnoticed."""
    leaves = frozenset().union(*(_parts(value) for value in given)) - {INPUT}
    if leaves and holds_convolution(equation):
        raise ValueError(
            f"there are convolutions inside {equation.primitive.name}, which cannot be followed: "
            "trace the network without it"
        )


def holds_convolution(equation: Any) -> bool:
    """Whether there is a convolution in one of the programs inside an equation."""
    return any(
        step.primitive.name == "conv_general_dilated" or holds_convolution(step)
        for own in _programs(equation)
        for step in _opened(own).eqns
    )


def _shape(atom: Any) -> tuple[int, ...]:
    return getattr(atom.aval, "shape", ())


_SAME = {
    "convert_element_type", "copy", "copy_p", "device_put", "optimization_barrier", "pvary",
    "reduce_precision", "reshard", "sharding_constraint", "stop_gradient", "mesh_cast", "name",
}  # fmt: skip


def _keeps_numbers(before: Any, after: Any) -> bool:
    """Whether a cast leaves what is put into a kernel, but for rounding."""
    return before.dtype == after.dtype or all(
        jnp.issubdtype(aval.dtype, jnp.floating) for aval in (before, after)
    )


def _views(equation: Any) -> list[View] | None:
    """How each result of an equation sees its first operand, where that leaves it a kernel."""
    name, params = equation.primitive.name, equation.params
    before, after = _shape(equation.invars[0]), _shape(equation.outvars[0])
    whole = (0,) * len(before), (1,) * len(before)
    if name == "transpose":
        return [(Transpose(tuple(params["permutation"])),)]
    if name == "reshape" and params.get("dimensions") is not None:
        return [(Transpose(tuple(params["dimensions"])), Reshape(tuple(after)))]
    if name in ("reshape", "squeeze", "expand_dims") and len(equation.invars) == 1:
        return [(Reshape(tuple(after)),)]
    if name == "broadcast_in_dim" and np.prod(before) == np.prod(after):
        return [(Reshape(tuple(after)),)]
    if name == "rev":
        return [(Flip(tuple(params["dimensions"])),)]
    if name == "slice":
        strides = params["strides"] or whole[1]
        stops = tuple(params["limit_indices"])
        return [(Part(tuple(params["start_indices"]), stops, tuple(strides)),)]
    if name == "split":
        return _split(before, [int(size) for size in params["sizes"]], params["axis"])
    if name == "unstack":
        parts = _split(before, [1] * before[params["axis"]], params["axis"])
        return [(*part, Reshape(tuple(after))) for part in parts]
    if name == "dynamic_slice":
        literal = [isinstance(atom, jax.extend.core.Literal) for atom in equation.invars[1:]]
        return [_block(equation, before)] if all(literal) else None
    return None


def _split(before: tuple[int, ...], sizes: Sequence[int], axis: int) -> list[View]:
    views: list[View] = []
    start = 0
    for size in sizes:
        starts, stops = [0] * len(before), list(before)
        starts[axis], stops[axis] = start, start + size
        views.append((Part(tuple(starts), tuple(stops), (1,) * len(before)),))
        start += size
    return views


def _block(equation: Any, before: tuple[int, ...]) -> View:
    sizes = equation.params["slice_sizes"]
    # As XLA does, so that the block lies within.
    low = [
        int(np.clip(int(atom.val), 0, whole - size))
        for atom, whole, size in zip(equation.invars[1:], before, sizes, strict=True)
    ]
    stops = tuple(start + size for start, size in zip(low, sizes, strict=True))
    return (Part(tuple(low), stops, (1,) * len(before)),)


def _parts(value: Value) -> frozenset[int]:
    return frozenset({value.number}) if isinstance(value, Leaf) else value.parts


def _mixed(values: Sequence[Value]) -> Mix:
    return Mix(frozenset().union(*map(_parts, values)))


def _agreed(values: Sequence[Value]) -> Value:
    """What a value is when it may be any of several."""
    return values[0] if all(value == values[0] for value in values) else _mixed(values)
