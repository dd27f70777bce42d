"""The command line, derived from frozen dataclasses that say what a run is."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from experiments.cli.errors import UserError

Pair = tuple[int, int]
T = TypeVar("T")


def option(default: Any, help: str, *, choices: Sequence[str] | None = None) -> Any:
    """Declares a field that becomes an option; `help` names the unit."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def check(condition: bool, sentence: str) -> None:
    """Raises the sentence as a `UserError` unless the condition holds."""
    if not condition:
        raise UserError(sentence)


def parse_pair(text: str) -> Pair:
    """Reads "10-14" as (10, 14)."""
    try:
        first, second = sorted(int(part) for part in text.split("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pair of superclasses: say two numbers with a dash, such as 10-14"
        ) from None
    if first == second:
        raise argparse.ArgumentTypeError(f"{text!r} names one superclass twice: say two different")
    return (first, second)


def parse(
    presets: Mapping[str, T], argv: Sequence[str] | None, *, program: str, description: str
) -> T:
    """Makes a configuration from the command line.

    Args:
        presets: Complete configurations by name; the first is the default. Options given beside
            `--preset` replace its values; nested dataclasses contribute their fields as options.
        argv: Arguments, or None for the process's own.
        program: How the program is called, for `--help`.
        description: What it does.

    Returns:
        A configuration of the presets' type.

    Raises:
        UserError: A value that the configuration's own checks refuse.
        SystemExit: Status 2 for an unknown option or a malformed value, 0 after `--help`.
    """
    names = tuple(presets)
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=names, default=names[0])
    known, _ = chooser.parse_known_args(argv)
    base = presets[known.preset]

    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--preset",
        choices=names,
        default=names[0],
        help=f"the values that options start from (default: {names[0]})",
    )
    _add_options(parser, base)
    return _replace(base, vars(parser.parse_args(argv)))


def _add_options(parser: argparse._ActionsContainer, config: Any) -> None:
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _add_options(parser.add_argument_group((type(value).__doc__ or "").rstrip(".")), value)
            continue
        flag = f"--{field.name.replace('_', '-')}"
        text, choices = field.metadata["help"], field.metadata["choices"]
        kind = _scalar_type(hints[field.name])
        described = f"{text} (default: {_shown(value)})".replace("%", "%%")
        common: dict[str, Any] = {"default": value, "help": described}
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif isinstance(value, tuple):
            name = None if choices else field.name[:-1].upper()
            parser.add_argument(flag, nargs="+", type=kind, choices=choices, metavar=name, **common)
        else:
            parser.add_argument(flag, type=kind, choices=choices, **common)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(f"{v[0]}-{v[1]}" if isinstance(v, tuple) else str(v) for v in value)
    return "none" if value is None else str(value)


def _scalar_type(hint: Any) -> Any:
    """The type of one value: int of `int | None`, the reader of pairs of a tuple of pairs."""
    if isinstance(hint, types.UnionType):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return parse_pair if typing.get_origin(item) is tuple else item
    return hint


def _replace(config: T, values: Mapping[str, Any]) -> T:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # pyright: ignore[reportArgumentType]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = _replace(value, values)
        else:
            given = values[field.name]
            changed[field.name] = tuple(given) if isinstance(value, tuple) else given
    return dataclasses.replace(config, **changed)  # pyright: ignore[reportArgumentType]
