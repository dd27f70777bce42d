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
import numpy as np

from jaxinit import checks, following, kernels, trees
from jaxinit.following import Call, Leaf, Mix
from jaxinit.kernels import Part, View
from jaxinit.layers import Dense, Network
from jaxinit.models import convolution
from jaxinit.trees import Path


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
        >>> variables = jax.eval_shape(make, jax.random.key(0), x)
        >>> stats = variables["batch_stats"]
        >>> def apply(params, stats, x):
        ...     return module.apply({"params": params, "batch_stats": stats}, x, train=False)
        >>> network = jaxinit.trace(apply, variables["params"], stats, x)
        >>> len(network.names), network.names[:2], network["layer4_1/conv2"].live
        (17, ('conv1', 'layer1_0/conv1'), ((1, 2), (1, 2)))
    """
    network, _ = follow(program(apply, params, *args, **kwargs))
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
    checks.function("apply", apply)
    leaves, structure = jax.tree_util.tree_flatten((params, args, kwargs))
    arrays = [number for number, leaf in enumerate(leaves) if trees.is_array(leaf)]
    paths = [
        path for path, leaf in jax.tree_util.tree_leaves_with_path(params) if trees.is_array(leaf)
    ]

    def run(given: Sequence[Any]) -> list[Any]:
        filled = list(leaves)
        for number, leaf in zip(arrays, given, strict=True):
            filled[number] = leaf
        own, positional, named = jax.tree_util.tree_unflatten(structure, filled)
        result = apply(own, *positional, **named)
        return [leaf for leaf in jax.tree_util.tree_leaves(result) if trees.is_array(leaf)]

    shapes = [_described(leaves[number]) for number in arrays]
    with convolution.by_plain_twin(True):
        jaxpr = jax.make_jaxpr(run)(shapes)
    return Program(jaxpr, paths, shapes[: len(paths)])


def follow(seen: Program) -> tuple[Network, list[Call]]:
    """Finds the convolutions of a program, and for each of them its calls, in the same order."""
    shapes = [shape.shape for shape in seen.own]
    walk = following.Walk(shapes)
    values = [Leaf(number, ()) for number in range(len(shapes))]
    given = len(seen.jaxpr.in_avals) - len(shapes)
    data = Mix(frozenset({following.INPUT}))
    # Where the input is closed over, it is among the constants.
    consts = [following.NOTHING if given else data] * len(seen.jaxpr.consts)
    walk.run(seen.jaxpr.jaxpr, consts, [*values, *[data] * given])
    calls = _distinct(walk)
    return _named(walk, calls, [trees.plain_path(path) for path in seen.paths]), calls


def _described(leaf: Any) -> jax.ShapeDtypeStruct:
    # Of a mesh whose axes are part of types the layout is part of the program, too.
    sharding = kernels.explicit(leaf)
    return jax.ShapeDtypeStruct(tuple(leaf.shape), kernels.dtype_of(leaf), sharding=sharding)


def _named(walk: following.Walk, calls: Sequence[Call], paths: Sequence[Path]) -> Network:
    """Gives the layers that were found their names."""
    modules = [trees.module_name(path) for path in paths]
    used = [modules[number] for number in {_leaf(call) for call in calls} if number is not None]

    def name(number: int) -> str:
        whole = "/".join(map(str, paths[number])) or "kernel"
        return whole if used.count(modules[number]) > 1 or not modules[number] else modules[number]

    convolutions = []
    for place, call in enumerate(calls):
        number = _leaf(call)
        if number is not None:
            label = name(number) + _place(call.layer.view, walk.shapes[number])
            changed: dict[str, Any] = {"name": label, "path": paths[number]}
        else:
            changed = {"name": f"convolution {place}", "computed_from": _sources(call, paths)}
        convolutions.append(dataclasses.replace(call.layer, calls=len(call.places), **changed))
    dense = tuple(
        Dense(modules[leaf.number] or "kernel", paths[leaf.number], leaf.view, shape)
        for leaf, shape in walk.dense.values()
    )
    return Network(tuple(convolutions), dense)


def _leaf(call: Call) -> int | None:
    return call.value.number if isinstance(call.value, Leaf) else None


def _sources(call: Call, paths: Sequence[Path]) -> tuple[str, ...]:
    numbers = sorted(call.value.parts) if isinstance(call.value, Mix) else ()
    found = [
        "the input" if number == following.INPUT else "/".join(map(str, paths[number])) or "kernel"
        for number in numbers
    ]
    more = len(found) - 3
    return (*found[:3], f"{more} more") if more > 0 else tuple(found)


def _distinct(walk: following.Walk) -> list[Call]:
    """The calls with kernels that do not overlap.

    One that shows numbers of a leaf that others have shown already, in whatever order, is another
    use of theirs; one that shows others besides cannot be filled without them.
    """
    views: dict[int, int] = {}
    for call in walk.calls.values():
        if isinstance(call.value, Leaf):
            views[call.value.number] = views.get(call.value.number, 0) + 1
    owners = {
        number: np.full(int(np.prod(walk.shapes[number])), -1)
        for number, count in views.items()
        if count > 1
    }
    kept: list[Call] = []
    for call in walk.calls.values():
        if isinstance(call.value, Leaf) and call.value.number in owners:
            number = call.value.number
            own = kernels.entries(call.layer.view, walk.shapes[number]).ravel()
            seen = set(owners[number][own].tolist())
            if seen == {-1}:
                owners[number][own] = len(kept)
            elif -1 in seen:
                layer = dataclasses.replace(call.layer, view=())
                kept.append(Call(Mix(frozenset({number})), layer, call.places))
                continue
            else:
                for other in seen:
                    kept[other].places |= call.places
                continue
        kept.append(call)
    return kept


def _place(view: View, shape: tuple[int, ...]) -> str:
    """Which part of its leaf a kernel is: "[2]" for the third of a stack, "" for all of it."""
    place = ""
    for number, step in enumerate(view):
        if isinstance(step, Part):
            whole = kernels.shape_after(view[:number], shape)
            axes = zip(step.starts, step.stops, step.strides, whole, strict=True)
            place += f"[{','.join(_cut(*axis) for axis in axes if axis[1] - axis[0] < axis[3])}]"
    return place


def _cut(start: int, stop: int, stride: int, whole: int) -> str:
    """Writes which of equal blocks is taken, or from where to where."""
    size = stop - start
    if stride == 1 and start % size == 0 and whole % size == 0:
        return str(start // size)
    return f"{start}:{stop}" + (f":{stride}" if stride > 1 else "")
