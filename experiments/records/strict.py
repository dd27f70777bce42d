"""What the models of records share: strict types, values as JSON has them, and errors in words."""

from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, ValidationError, WrapValidator

from experiments.records.files import plain

STRICT = ConfigDict(extra="forbid", strict=True)  # a number is no text, and no field unknown


def _plain(value: Any, check: Callable[[Any], Any]) -> Any:
    value = plain(value)
    check(value)
    return value


# Checks a field as JSON has it, and keeps it so: 1 stays 1 where a float is asked for, and names
# their order, so that what is read is written as it was.
Plain = WrapValidator(_plain)


def sentence(error: ValidationError) -> str:
    """Says what is wrong with the first field that is not as its model says."""
    first = error.errors(include_url=False)[0]
    kind, field = first["type"], ".".join(map(str, first["loc"]))
    if kind == "missing":
        return f"it lacks {field}"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"it has unknown {field}"
    if kind == "value_error":  # raised by a check of ours
        return str(first.get("ctx", {}).get("error", first["msg"]))
    if kind == "string_pattern_mismatch":
        return f"{field} {first['input']!r} cannot be part of a file name: use letters and -"
    return f"{field} is {first['input']!r}, and {first['msg'].removeprefix('Input ')}"
