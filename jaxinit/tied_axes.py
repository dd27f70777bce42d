"""Which axes of its operands and results each of JAX's operations ties together.

A rule gives each axis a mark: those of one mark must be permuted alike, and then the operation does
the same in another order; those of None keep their order. A mark that only an operand has stands
for an axis that is summed over in any order, one that only a result has for an axis along which all
is the same. Axes of size 1 may have any mark.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

_Params = Mapping[str, Any]
_Shapes = Sequence[tuple[int, ...]]

# The marks of the axes of each operand, and of each result.
Marks = tuple[Sequence[tuple[Hashable, ...]], Sequence[tuple[Hashable, ...]]]


def marks(name: str, params: Mapping[str, Any], shapes: _Shapes, results: _Shapes) -> Marks:
    """Marks the axes of one operation.

    Args:
        name: Of the primitive, such as "dot_general".
        params: Of the operation.
        shapes: Of its operands.
        results: The shapes of what it makes.

    Returns:
        The marks; None for every axis of an operation that has no rule, or is used in a way that
        its rule does not understand.

    Example:
        >>> marks("transpose", {"permutation": (1, 0)}, [(2, 3)], [(3, 2)])
        ([(0, 1)], [(1, 0)])
        >>> marks("fft", {}, [(2,)], [(2,)])
        ([(None,)], [(None,)])
    """
    found = _RULES[name](params, shapes, results) if name in _RULES else None
    if found is None:
        return [(None,) * len(shape) for shape in shapes], [(None,) * len(s) for s in results]
    return found


def _elementwise(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    """Operands are scalars, or of the result's shape save for axes of size 1."""
    rank = len(results[0])
    if any(len(shape) not in (0, rank) for shape in shapes):
        return None
    return [tuple(range(len(shape))) for shape in shapes], [tuple(range(rank))]


def _along(name: str) -> Callable[[_Params, _Shapes, _Shapes], Marks | None]:
    """What works along the axes that this parameter names, and elsewhere for each place alike."""

    def rule(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
        axes = np.ravel(params[name]).tolist()
        marks = tuple(None if a in axes else a for a in range(len((shapes or results)[0])))
        return [marks for _ in shapes], [marks for _ in results]

    return rule


def _whole(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int | None, ...]:
    """Marks the axes that are as long before as after, so that all of them was taken."""
    return tuple(a if n == m else None for a, (n, m) in enumerate(zip(before, after, strict=True)))


def _sliced(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    whole = _whole(shapes[0], results[0])
    return [whole, *((),) * len(shapes[1:])], [whole]


def _reduced(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    """What comes out does not depend on the order along the axes that are summed over."""
    marks = tuple(range(len(shapes[0])))
    return [marks], [tuple(a for a in marks if a not in params["axes"])]


def _best(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    """The place of the greatest depends on the order along its axis."""
    marks = tuple(None if a in params["axes"] else a for a in range(len(shapes[0])))
    return [marks], [tuple(m for m in marks if m is not None)]


def _padded(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    plain = [tuple(own) == (0, 0, 0) for own in params["padding_config"]]
    marks = tuple(axis if own else None for axis, own in enumerate(plain))
    return [marks, ()], [marks]


def _updated(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    whole = _whole(shapes[0], shapes[1])
    return [whole, whole, *((),) * len(shapes[2:])], [whole]


def _windowed(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    sizes, strides = params["window_dimensions"], params["window_strides"]
    kinds = zip(sizes, strides, params["base_dilation"], params["padding"], strict=True)
    plain = [(s, t, d, tuple(p)) == (1, 1, 1, (0, 0)) for s, t, d, p in kinds]
    marks = tuple(axis if own else None for axis, own in enumerate(plain))
    return [marks if len(shape) == len(marks) else () for shape in shapes], [marks] * len(results)


def _transposed(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    return [tuple(range(len(shapes[0])))], [tuple(params["permutation"])]


def _squeezed(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    marks = tuple(range(len(shapes[0])))
    gone = {axis % len(marks) for axis in params["dimensions"]}
    return [marks], [tuple(axis for axis in marks if axis not in gone)]


def _stacked(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    marks = tuple(range(len(shapes[0])))
    return [marks for _ in shapes], [(*marks[: params["axis"]], None, *marks[params["axis"] :])]


def _unstacked(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    marks = [None if axis == params["axis"] else axis for axis in range(len(shapes[0]))]
    kept = tuple(axis for axis in marks if axis is not None)
    return [tuple(marks)], [kept for _ in results]


def _tiled(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    if len(params["reps"]) != len(shapes[0]):
        return None
    kinds = enumerate(zip(params["reps"], shapes[0], strict=True))
    marks = tuple(axis if 1 in (count, size) else None for axis, (count, size) in kinds)
    return [marks], [marks]


def _broadcast(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    return [tuple(params["broadcast_dimensions"])], [tuple(range(len(results[0])))]


def _reshaped(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    """Passes on axes that stay whole; what is split or merged keeps its order."""
    if params["dimensions"] is not None or math.prod(shapes[0]) == 0:
        return None
    sides = [[axis for axis, n in enumerate(shape) if n != 1] for shape in (shapes[0], results[0])]
    marks: list[list[Hashable]] = [[None] * len(shape) for shape in (shapes[0], results[0])]
    while all(sides):
        before, after = (side.pop(0) for side in sides)
        left, right = shapes[0][before], results[0][after]
        if left == right:
            marks[0][before] = marks[1][after] = before
        while left != right:
            if left < right:
                left *= shapes[0][sides[0].pop(0)]
            else:
                right *= results[0][sides[1].pop(0)]
    return [tuple(marks[0])], [tuple(marks[1])]


def _product(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    contracted, batches = params["dimension_numbers"]
    operands = [[("free", side, axis) for axis in range(len(s))] for side, s in enumerate(shapes)]
    shared = []
    for kind, pairs in (("batch", batches), ("sum", contracted)):
        for number, pair in enumerate(zip(*pairs, strict=True)):
            shared.append((kind, number, 0))
            for side, axis in enumerate(pair):
                operands[side][axis] = shared[-1]
    free = [mark for marks in operands for mark in marks if mark[0] == "free"]
    return [tuple(m) for m in operands], [tuple([m for m in shared if m[0] == "batch"] + free)]


def _convolved(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    images: list[Hashable] = [None] * len(shapes[0])
    kernel: list[Hashable] = [None] * len(shapes[1])
    made: list[Hashable] = [None] * len(results[0])
    if params["batch_group_count"] == 1:
        images[numbers.lhs_spec[0]] = made[numbers.out_spec[0]] = "batch"
        if groups == 1:
            images[numbers.lhs_spec[1]] = kernel[numbers.rhs_spec[1]] = "in"
            kernel[numbers.rhs_spec[0]] = made[numbers.out_spec[1]] = "out"
        elif groups == shapes[0][numbers.lhs_spec[1]] == shapes[1][numbers.rhs_spec[0]]:
            # Depthwise: each channel has a filter of its own.
            images[numbers.lhs_spec[1]] = "in"
            kernel[numbers.rhs_spec[0]] = made[numbers.out_spec[1]] = "in"
    return [tuple(images), tuple(kernel)], [tuple(made)]


def _gathered(params: _Params, shapes: _Shapes, results: _Shapes) -> Marks | None:
    """Passes on the axes that are taken whole, and those of the indices."""
    numbers = params["dimension_numbers"]
    if numbers.operand_batching_dims:
        return None
    table: list[Hashable] = [None] * len(shapes[0])
    made: list[Hashable] = [None] * len(results[0])
    kept = [a for a in range(len(table)) if a not in numbers.collapsed_slice_dims]
    for axis, place in zip(kept, numbers.offset_dims, strict=True):
        if params["slice_sizes"][axis] == shapes[0][axis] and axis not in numbers.start_index_map:
            table[axis] = made[place] = ("taken", axis)
    places = [place for place in range(len(made)) if place not in numbers.offset_dims]
    for axis, place in enumerate(places):
        made[place] = ("index", axis)
    return [tuple(table), (*(made[place] for place in places), None)], [tuple(made)]


_ELEMENTWISE = (
    "abs",
    "acos",
    "acosh",
    "add",
    "add_any",
    "and",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bessel_i0e",
    "bessel_i1e",
    "bitcast_convert_type",
    "cbrt",
    "ceil",
    "clamp",
    "clz",
    "complex",
    "conj",
    "convert_element_type",
    "copy",
    "cos",
    "cosh",
    "digamma",
    "div",
    "eq",
    "eq_to",
    "erf",
    "erf_inv",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "ge",
    "gt",
    "igamma",
    "igammac",
    "imag",
    "integer_pow",
    "is_finite",
    "le",
    "le_to",
    "lgamma",
    "log",
    "log1p",
    "logistic",
    "lt",
    "lt_to",
    "max",
    "min",
    "mul",
    "name",
    "ne",
    "neg",
    "nextafter",
    "not",
    "or",
    "population_count",
    "pow",
    "real",
    "reduce_precision",
    "rem",
    "round",
    "rsqrt",
    "select_n",
    "sharding_constraint",
    "shift_left",
    "shift_right_arithmetic",
    "shift_right_logical",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "stop_gradient",
    "sub",
    "tan",
    "tanh",
    "xor",
)

_RULES: dict[str, Callable[[_Params, _Shapes, _Shapes], Marks | None]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **{f"reduce_{name}": _reduced for name in ("sum", "prod", "max", "min", "and", "or", "xor")},
    **{f"reduce_window{name}": _windowed for name in ("", "_sum", "_max", "_min")},
    **{f"cum{name}": _along("axis") for name in ("sum", "prod", "max", "min", "logsumexp")},
    "argmax": _best,
    "argmin": _best,
    "broadcast_in_dim": _broadcast,
    "concatenate": _along("dimension"),
    "conv_general_dilated": _convolved,
    "dot_general": _product,
    "dynamic_slice": _sliced,
    "dynamic_update_slice": _updated,
    "gather": _gathered,
    "iota": _along("dimension"),
    "pad": _padded,
    "reshape": _reshaped,
    "rev": _along("dimensions"),
    "slice": _sliced,
    "sort": _along("dimension"),
    "split": _along("axis"),
    "squeeze": _squeezed,
    "stack": _stacked,
    "tile": _tiled,
    "top_k": _along("axis"),
    "transpose": _transposed,
    "unstack": _unstacked,
}
