"""Finds the convolutions of any network in the program that JAX traces of it.

The jaxpr of `apply(params, x)` has every call in order. Each leaf of the parameters is followed
through what leaves it a kernel (casts, transpositions, reshapes, slices of a stack) into `jit`,
`custom_jvp`, `remat`, `scan` and `cond`, to the kernel operand of `conv_general_dilated`. Nothing
depends on a framework or on names.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core
import numpy as np

from jaxinit import kernels, layers
from jaxinit.kernels import Flip, Part, Path, Reshape, Transpose, View
from jaxinit.layers import Dense, Layer, Network
from jaxinit.models import convolution

_INPUT = -1  # stands for what depends on the arguments, among numbers of leaves


class _Leaf(NamedTuple):
    """A value that is a leaf, seen through `view`."""

    number: int
    view: View


class _Mix(NamedTuple):
    """Any other value, with the leaves (or `_INPUT`) that it is computed from."""

    parts: frozenset[int]


_Value = _Leaf | _Mix

_NOTHING = _Mix(frozenset())


def trace(apply: Callable[..., Any], params: Any, *args: Any, **kwargs: Any) -> Network:
    """Finds a network's convolutions, in the order of their calls.

    Args:
        apply: The network: called as `apply(params, *args, **kwargs)`. Nothing is computed.
        params: The tree of parameters that initialisers are to fill: of any framework. Shapes
            suffice (`jax.eval_shape`), and leaves that are no arrays may be among them.
        *args: Its input, of which shapes suffice (`jax.ShapeDtypeStruct`), and whatever else it
            needs; numbers, booleans and texts are handed over as they are.
        **kwargs: Likewise.

    Returns:
        A static, hashable description; `print` shows it as a table.

    Raises:
        ValueError: The network has no convolution at all.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> module = jaxinit.ResNet18(classes=10)
        >>> x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        >>> make = lambda key, x: module.init(key, x, train=False)
        >>> variables = jax.evalkernels.shape_after(make, jax.random.key(0), x)
        >>> def apply(params, x):
        ...     return module.apply({**variables, "params": params}, x, train=False)
        >>> network = jaxinit.trace(apply, variables["params"], x)
        >>> len(network.names), network.names[:2], network["layer4_1/conv2"].live
        (17, ('conv1', 'layer1_0/conv1'), ((1, 2), (1, 2)))
    """
    seen = program(apply, params, *args, **kwargs)
    walk = _Walk(seen.own)
    values: list[_Value] = [_Leaf(number, ()) for number in range(len(seen.own))]
    values += [_Mix(frozenset({_INPUT}))] * (len(seen.jaxpr.in_avals) - len(seen.own))
    walk.run(seen.jaxpr.jaxpr, [_NOTHING] * len(seen.jaxpr.consts), values)
    network = _named(walk, [kernels.plain_path(path) for path in seen.paths])
    if not network.layers:
        raise ValueError(
            "the network has no convolution with a kernel among its parameters: make sure that "
            "apply(params, x) runs it with the parameters that it is given"
        )
    return network


class Program(NamedTuple):
    """What JAX traces of a network: its arrays come first among the inputs, then the arguments'.

    Attributes:
        jaxpr: The program (a `ClosedJaxpr`).
        paths: JAX's keys of each array among the parameters.
        own: Its shape and dtype.
    """

    jaxpr: Any
    paths: list[tuple[Any, ...]]
    own: list[jax.ShapeDtypeStruct]


def program(apply: Callable[..., Any], params: Any, *args: Any, **kwargs: Any) -> Program:
    """Traces a network; arguments are as of `trace`. Leaves that are no arrays are handed over."""
    leaves, structure = jax.tree_util.tree_flatten((params, args, kwargs))
    arrays = [number for number, leaf in enumerate(leaves) if _is_array(leaf)]
    paths = [path for path, leaf in jax.tree_util.tree_leaves_with_path(params) if _is_array(leaf)]

    def run(given: Sequence[Any]) -> list[Any]:
        filled = list(leaves)
        for number, leaf in zip(arrays, given, strict=True):
            filled[number] = leaf
        own, positional, named = jax.tree_util.tree_unflatten(structure, filled)
        result = apply(own, *positional, **named)
        return [leaf for leaf in jax.tree_util.tree_leaves(result) if _is_array(leaf)]

    shapes = [jax.ShapeDtypeStruct(tuple(leaves[n].shape), leaves[n].dtype) for n in arrays]
    with convolution.by_plain_twin(True):
        jaxpr = jax.make_jaxpr(run)(shapes)
    return Program(jaxpr, paths, shapes[: len(paths)])


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


@dataclasses.dataclass
class _Call:
    """What is known of one convolution, over all its calls."""

    value: _Value
    layer: Layer  # still without a name
    calls: int = 1


class _Walk:
    """Follows leaves through a program, and notes the convolutions and products that they meet."""

    def __init__(self, shapes: Sequence[jax.ShapeDtypeStruct]) -> None:
        self.shapes = [shape.shape for shape in shapes]
        self.calls: dict[Any, _Call] = {}
        self.dense: dict[Any, tuple[_Leaf, tuple[int, int]]] = {}

    def run(self, jaxpr: Any, consts: Sequence[_Value], values: Sequence[_Value]) -> list[_Value]:
        """Follows values through a jaxpr; returns those of its results."""
        known: dict[Any, _Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, values, strict=True))

        def read(atom: Any) -> _Value:
            literal = isinstance(atom, jax.extend.core.Literal)
            return _NOTHING if literal else known.get(atom, _NOTHING)

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self._follow(equation, given)
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _follow(self, equation: Any, given: list[_Value]) -> Sequence[_Value]:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            self._note_convolution(equation, given)
        elif name == "dot_general":
            self._note_dense(equation, given)
        elif name == "scan":
            return self._scan(equation.params, given)
        elif name == "cond":
            ways = [self._inside(way, given[1:]) for way in equation.params["branches"]]
            return [_agreed(results) for results in zip(*ways, strict=True)]
        elif name == "while":
            return self._while(equation.params, given)
        elif (inner := _called(equation)) is not None:
            return self._inside(inner, given)
        if given and isinstance(first := given[0], _Leaf):
            steps = _steps(equation)
            if steps is not None:
                return [_Leaf(first.number, first.view + steps)] * len(equation.outvars)
        return [_mixed(given)] * len(equation.outvars)

    def _inside(self, jaxpr: Any, given: Sequence[_Value]) -> list[_Value]:
        closed = isinstance(jaxpr, jax.extend.core.ClosedJaxpr)
        inner = jaxpr.jaxpr if closed else jaxpr
        return self.run(inner, [_NOTHING] * len(inner.constvars), given)

    def _scan(self, params: Any, given: Sequence[_Value]) -> list[_Value]:
        consts, carries = params["num_consts"], params["num_carry"]
        fixed, carry = list(given[:consts]), list(given[consts : consts + carries])
        stacked = list(given[consts + carries :])
        places = range(params["length"])
        collected: list[list[_Value]] = []
        for place in reversed(places) if params["reverse"] else places:
            own = [self._element(value, place) for value in stacked]
            results = self._inside(params["jaxpr"], fixed + carry + own)
            carry, rest = results[:carries], results[carries:]
            collected.append(rest)
            if not any(isinstance(value, _Leaf) for value in stacked):
                # Every pass finds the same kernels, unless they wander through the carry.
                if carry == list(given[consts : consts + carries]):
                    break
                given = [*given[:consts], *carry, *given[consts + carries :]]
        return carry + [_mixed(values) for values in zip(*collected, strict=True)]

    def _element(self, value: _Value, place: int) -> _Value:
        if not isinstance(value, _Leaf):
            return value
        shape = kernels.shape_after(value.view, self.shapes[value.number])
        part = Part((place, *(0,) * (len(shape) - 1)), (place + 1, *shape[1:]), (1,) * len(shape))
        return _Leaf(value.number, (*value.view, part, Reshape(shape[1:])))

    def _while(self, params: Any, given: Sequence[_Value]) -> list[_Value]:
        test, body = params["cond_nconsts"], params["body_nconsts"]
        carry = list(given[test + body :])
        self._inside(params["cond_jaxpr"], [*given[:test], *carry])
        while True:  # until the carry no longer loses leaves: at most once for each
            results = self._inside(params["body_jaxpr"], [*given[test : test + body], *carry])
            merged = [_agreed(pair) for pair in zip(carry, results, strict=True)]
            if merged == carry:
                return carry
            carry = merged

    def _note_convolution(self, equation: Any, given: Sequence[_Value]) -> None:
        _, kernel = given
        if kernel == _NOTHING:
            return  # a fixed filter, such as a blur
        params = equation.params
        numbers = params["dimension_numbers"]
        order = (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
        shape = equation.invars[1].aval.shape
        pixels = equation.invars[0].aval.shape
        size = tuple(pixels[axis] for axis in numbers.lhs_spec[2:])
        view: View = ()
        if isinstance(kernel, _Leaf):
            own = self.shapes[kernel.number]
            view = kernels.simplified((*kernel.view, Transpose(order)), own)
        layer = Layer(
            name="",
            path=(),
            view=view,
            shape=tuple(shape[axis] for axis in order),
            stride=tuple(params["window_strides"]),
            padding=tuple((int(a), int(b)) for a, b in params["padding"]),
            dilation=tuple(params["rhs_dilation"]),
            input_dilation=tuple(params["lhs_dilation"]),
            groups=params["feature_group_count"],
            input_size=size,
            live=tuple(
                _live(size[axis], shape[order[axis]], *own)
                for axis, own in enumerate(
                    zip(
                        params["window_strides"],
                        params["padding"],
                        params["rhs_dilation"],
                        params["lhs_dilation"],
                        strict=True,
                    )
                )
            ),
        )
        key = (kernel.number, view) if isinstance(kernel, _Leaf) else (kernel, len(self.calls))
        if (found := self.calls.get(key)) is not None:
            merged = zip(found.layer.live or (), layer.live or (), strict=True)
            live = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in merged)
            found.layer = dataclasses.replace(found.layer, live=live)
            found.calls += 1
        else:
            self.calls[key] = _Call(kernel, layer)

    def _note_dense(self, equation: Any, given: Sequence[_Value]) -> None:
        (contracted, batched) = equation.params["dimension_numbers"]
        for side in (0, 1):
            kernel, other = given[side], given[1 - side]
            if not isinstance(kernel, _Leaf) or isinstance(other, _Leaf) or batched[side]:
                continue
            if _INPUT not in other.parts:
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
            self.dense[key] = self.dense.pop(key, (_Leaf(kernel.number, view), sides))


def _called(equation: Any) -> Any:
    """The program that an equation calls with just its own operands: of jit, remat, custom_jvp."""
    for value in equation.params.values():
        closed = isinstance(value, jax.extend.core.ClosedJaxpr)
        if not closed and not isinstance(value, jax.extend.core.Jaxpr):
            continue
        inner = value.jaxpr if closed else value
        shapes = [atom.aval for atom in inner.invars]
        given = [atom.aval for atom in equation.invars]
        fits = len(shapes) == len(given) and len(inner.outvars) == len(equation.outvars)
        if fits and all(
            getattr(a, "shape", None) == getattr(b, "shape", None)
            for a, b in zip(shapes, given, strict=True)
        ):
            return value
    return None


_SAME = {
    "convert_element_type", "copy", "copy_p", "device_put", "optimization_barrier", "pvary",
    "reduce_precision", "reshard", "sharding_constraint", "stop_gradient", "mesh_cast", "name",
}  # fmt: skip


def _steps(equation: Any) -> View | None:
    """How an equation sees its first operand, where that leaves it a kernel."""
    name, params = equation.primitive.name, equation.params
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if name in _SAME and len(equation.invars) == 1:
        return ()
    if name == "transpose":
        return (Transpose(tuple(params["permutation"])),)
    if name in ("reshape", "squeeze", "expand_dims") and len(equation.invars) == 1:
        return (Reshape(tuple(after)),)
    if name == "broadcast_in_dim" and np.prod(before) == np.prod(after):
        return (Reshape(tuple(after)),)
    if name == "rev":
        return (Flip(tuple(params["dimensions"])),)
    if name == "slice":
        strides = params["strides"] or (1,) * len(before)
        stops = tuple(params["limit_indices"])
        return (Part(tuple(params["start_indices"]), stops, tuple(strides)),)
    if name == "dynamic_slice":
        starts = equation.invars[1:]
        if all(isinstance(atom, jax.extend.core.Literal) for atom in starts):
            sizes = params["slice_sizes"]
            # As XLA does, so that the block lies within.
            low = [
                int(np.clip(int(atom.val), 0, whole - size))
                for atom, whole, size in zip(starts, before, sizes, strict=True)
            ]
            stops = tuple(a + size for a, size in zip(low, sizes, strict=True))
            return (Part(tuple(low), stops, (1,) * len(before)),)
    return None


def _place(view: View, shape: tuple[int, ...]) -> str:
    """Which part of its leaf a kernel is: "[2]" for the third of a stack, "" for all of it."""
    place = ""
    for number, step in enumerate(view):
        if isinstance(step, Part):
            whole = kernels.shape_after(view[:number], shape)
            cut = [
                str(start)
                for start, stop, side in zip(step.starts, step.stops, whole, strict=True)
                if stop - start < side
            ]
            place += f"[{','.join(cut)}]"
    return place


def _parts(value: _Value) -> frozenset[int]:
    return frozenset({value.number}) if isinstance(value, _Leaf) else value.parts


def _mixed(values: Sequence[_Value]) -> _Mix:
    return _Mix(frozenset().union(*map(_parts, values)))


def _agreed(values: Sequence[_Value]) -> _Value:
    """What a value is when it may be any of several."""
    return values[0] if all(value == values[0] for value in values) else _mixed(values)


def _live(
    size: int, taps: int, stride: int, padding: tuple[int, int], dilation: int, spread: int
) -> tuple[int, int]:
    """The taps along one axis that meet data at some position; the others only see padding.

    Args:
        size: Length of the input.
        taps: Length of the kernel.
        stride: Step between positions.
        padding: Zeros before and after.
        dilation: Step between taps.
        spread: Step between the pixels of a transposed convolution's input.

    Returns:
        First live tap, and one past the last: (1, 2) for a 3-tap kernel over one pixel.
    """
    whole = max((size - 1) * spread + 1, 0)
    reach = (taps - 1) * dilation + 1
    places = max((whole + sum(padding) - reach) // stride + 1, 0)
    at = np.arange(places)[:, None] * stride - padding[0] + np.arange(taps)[None] * dilation
    live = np.flatnonzero(((at >= 0) & (at < whole) & (at % spread == 0)).any(axis=0))
    return (int(live[0]), int(live[-1]) + 1) if live.size else (0, 0)


def _named(walk: _Walk, paths: Sequence[Path]) -> Network:
    """Gives the layers that were found their names."""
    modules = [layers.module_name(path) for path in paths]
    own = {call.value.number for call in walk.calls.values() if isinstance(call.value, _Leaf)}
    used = [modules[number] for number in sorted(own)]

    def name(number: int) -> str:
        whole = "/".join(map(str, paths[number]))
        return whole if used.count(modules[number]) > 1 else modules[number]

    convolutions = []
    for place, call in enumerate(walk.calls.values()):
        if isinstance(call.value, _Leaf):
            number = call.value.number
            label = name(number) + _place(call.layer.view, walk.shapes[number])
            changed: dict[str, Any] = {"name": label, "path": paths[number]}
        else:
            parts = sorted(call.value.parts)
            sources = ["the input" if p == _INPUT else "/".join(map(str, paths[p])) for p in parts]
            if len(sources) > 3:
                sources = [*sources[:3], f"{len(sources) - 3} more"]
            changed = {"name": f"convolution {place}", "computed_from": tuple(sources)}
        convolutions.append(dataclasses.replace(call.layer, calls=call.calls, **changed))
    dense = tuple(
        Dense(modules[leaf.number], paths[leaf.number], leaf.view, shape)
        for leaf, shape in walk.dense.values()
    )
    return Network(tuple(convolutions), dense)
