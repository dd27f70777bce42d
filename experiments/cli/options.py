"""The command line, which tyro derives from frozen dataclasses that say what a run is.

Fields of nested dataclasses become options of their own; what may be given is said by their types,
and checked wherever such a dataclass is made.
"""

import argparse
import dataclasses
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import annotated_types
import tyro

from experiments.cli.errors import UserError

T = TypeVar("T")

_MOST = 2**31 - 1  # no count is meant to be larger

Pair = tuple[int, int]
Count = Annotated[int, annotated_types.Ge(1)]
# More than these is a slip, and would not end, or not fit into memory.
Epochs = Annotated[int, annotated_types.Ge(1), annotated_types.Le(100_000)]
Seeds = Annotated[int, annotated_types.Ge(1), annotated_types.Le(10_000)]
Restarts = Annotated[int, annotated_types.Ge(1), annotated_types.Le(10_000)]
RunsAtOnce = Annotated[int, annotated_types.Ge(1), annotated_types.Le(10_000)]
BatchSize = Annotated[int, annotated_types.Ge(2), annotated_types.Le(2**17)]
ImagesPerClass = Annotated[int, annotated_types.Ge(1), annotated_types.Le(10**7)]
ImageSize = Annotated[int, annotated_types.Ge(1), annotated_types.Le(4096)]
Positive = Annotated[float, annotated_types.Gt(0), annotated_types.Lt(math.inf)]
Several = Annotated[tuple[T, ...], annotated_types.MinLen(1)]
"""One or more, each once."""


class _Path:
    """Marks text that is a path, of which a leading ~ is a home folder."""


PathText = Annotated[str, _Path()]


def check(condition: bool, sentence: str) -> None:
    """Raises the sentence as a `UserError` unless the condition holds."""
    if not condition:
        raise UserError(sentence)


def flag(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Checks each value by the type of its field when it is made.

    The types are `Literal`s, `one_of`, `Count`, `Positive`, `Several`, and whatever is annotated
    with bounds of `annotated_types`.

    Raises:
        UserError: A value that is not allowed.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and _is_path(hints[field.name]):
                value = os.path.expanduser(value)
                object.__setattr__(self, field.name, value)
                check(
                    not value.startswith("~"),
                    f"{flag(field.name)} {value} names a home folder that is not there: give a "
                    "path without ~",
                )
            check(value != "", f"{flag(field.name)} is empty: give a value, or leave it out")
            for sentence in _wrong(hints[field.name], value):
                raise UserError(f"{flag(field.name)} {sentence}")


def _wrong(hint: Any, value: Any) -> Iterator[str]:
    """Says in what a value is not as its type has it."""
    if typing.get_origin(hint) is Annotated:
        inner, *marks = typing.get_args(hint)
        yield from _out_of_bounds(value, marks)
        yield from _wrong(inner, value)
    elif typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is ...:
        for item in value:
            yield from _wrong(typing.get_args(hint)[0], item)
        if twice := [item for place, item in enumerate(value) if item in value[:place]]:
            yield f"names {_text(twice[0])} twice: name each once"
    elif isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        if value is not None:
            yield from _wrong(next(a for a in typing.get_args(hint) if a is not type(None)), value)
    elif typing.get_origin(hint) is Literal and value not in (known := typing.get_args(hint)):
        yield f"{value} is not known: choose one of {', '.join(known)}"
    elif isinstance(value, int) and abs(value) > _MOST:
        yield f"{value} is too large: say {_MOST} or less"


def _is_path(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return any(isinstance(mark, _Path) for mark in hint.__metadata__)
    return any(_is_path(part) for part in typing.get_args(hint))


def _text(value: Any) -> str:
    """A value as it is given on the command line."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _out_of_bounds(value: Any, marks: Sequence[Any]) -> Iterator[str]:
    bounds = {type(mark): mark for mark in marks}
    choices = next((m.choices for m in marks if getattr(m, "choices", None)), None)
    if choices is not None and value not in choices:
        yield f"{value} is not known: choose one of {', '.join(choices)}"
    if annotated_types.MinLen in bounds and len(value) < bounds[annotated_types.MinLen].min_length:
        yield "names none: name one or more"
    least, most = bounds.get(annotated_types.Ge), bounds.get(annotated_types.Le)
    above, below = bounds.get(annotated_types.Gt), bounds.get(annotated_types.Lt)
    if least and most and not least.ge <= value <= most.le:
        yield f"{value} is out of range: say {least.ge} to {most.le}"
    elif least and below and below.lt == math.inf and not least.ge <= value < math.inf:
        yield f"{value} must be finite and not negative"
    elif least and below and not least.ge <= value < below.lt:
        yield f"{value} must be in [{least.ge}, {below.lt})"
    elif least and not most and not below and not value >= least.ge:
        yield f"{value} is too small: say {least.ge} or more"
    elif above and not above.gt < value < (below.lt if below else math.inf):
        yield f"{value} must be positive and finite"


def one_of(names: Sequence[str]) -> Any:
    """Annotates text that must be one of some names which are known when the program runs."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(names) + "}",
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
        choices=tuple(names),
    )


def parse_pair(text: str) -> Pair:
    """Reads "10-14" as (10, 14).

    Raises:
        UserError: It is no pair.
    """
    try:
        first, second = sorted(int(part) for part in text.split("-"))
    except ValueError:
        raise UserError(
            f"{text!r} is no pair of superclasses: say two numbers with a dash, such as 10-14"
        ) from None
    check(first != second, f"{text!r} names one superclass twice: say two different")
    return (first, second)


def written_as(
    metavar: str, kind: type[T], parse: Callable[[str], T], write: Callable[[T], str] = str
) -> Any:
    """Annotates a value that is one text on the command line.

    Args:
        metavar: What the text is called.
        kind: Of the value.
        parse: Reads the text.
        write: Gives the text of a value.
    """
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda given: parse(given[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [write(value)],
    )


PairOption = Annotated[Pair, written_as("PAIR", tuple, parse_pair, _text)]
"""A pair of superclasses, such as 10-14."""


def parse(
    presets: Mapping[str, T], argv: Sequence[str] | None, *, program: str, about: str | None
) -> T:
    """Makes a configuration from the command line.

    Args:
        presets: Complete configurations by name; the first is the default. Options given beside
            `--preset` replace its values; nested dataclasses contribute their fields as options.
        argv: Arguments, or None for the process's own.
        program: How the program is called, for `--help`.
        about: The docstring of its module, whose first line says what it does.

    Returns:
        A configuration of the presets' type.

    Raises:
        UserError: A value that the configuration's own checks refuse.
        SystemExit: Status 2 for an unknown option or a malformed value, 0 after `--help`.
    """
    names, given = tuple(presets), _given(argv)
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default=names[0], nargs="?")
    chosen = chooser.parse_known_args(given)[0].preset
    base = presets.get(chosen, presets[names[0]])
    kind: Any = type(base)
    preset_help = tyro.conf.arg(help="the values that the other options start from")
    options = dataclasses.make_dataclass(
        "Options",
        [
            ("preset", Annotated[str, one_of(names), preset_help]),
            ("settings", Annotated[kind, tyro.conf.arg(name="")]),
        ],
    )
    default = options(preset=names[0], settings=base)
    return _parse(options, given, default, program, about).settings


def parse_one(
    settings: type[T] | T, argv: Sequence[str] | None, *, program: str, about: str | None
) -> T:
    """Makes the configuration of a command that has no presets.

    Args:
        settings: Its type, or the values that are taken where none are given.
        argv: As of `parse`.
        program: As of `parse`.
        about: As of `parse`.

    Raises:
        UserError: As of `parse`.
        SystemExit: As of `parse`.
    """
    if isinstance(settings, type):
        return _parse(settings, _given(argv), None, program, about)
    return _parse(type(settings), _given(argv), settings, program, about)


def _given(argv: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if argv is None else argv)


def _parse(kind: Any, given: list[str], default: Any, program: str, about: str | None) -> Any:
    description = (about or "").split("\n")[0]
    extra = {} if default is None else {"default": default}
    flat = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(kind, prog=program, description=description, args=given, config=flat, **extra)
