"""Files written whole or not at all, and JSON that has no NaN."""

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.cli import processes
from experiments.cli.errors import UserError

SCHEMA_VERSION = 1

JSON = Any  # None, bool, int, float, str, or lists and string-keyed dicts of these


def plain(value: Any) -> JSON:
    """Returns the value as JSON has it: lists for arrays and tuples, None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a {type(value).__name__} ({value!r}) cannot be written as JSON")


def write_json(data: JSON, target: Path) -> Path:
    """Writes a file as `write_text`; NaN and infinity become null."""
    return write_text(json_line(data), target)


def json_line(data: JSON) -> str:
    """Returns the data as one line of JSON; NaN and infinity become null."""
    return json.dumps(plain(data), allow_nan=False, ensure_ascii=False) + "\n"


def write_text(text: str, target: Path) -> Path:
    """Writes the file whole or not at all, and makes its folder. Raises OSError.

    Of several processes the first does.
    """
    if not processes.is_first():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError:
        if partial.exists():
            partial.unlink()
        raise
    return target


@contextlib.contextmanager
def writing_to(folder: Path | str) -> Iterator[None]:
    """Turns an OSError of the block into a `UserError` that names the output folder."""
    try:
        yield
    except OSError as error:
        raise UserError(cannot_write(folder, error)) from error


def cannot_write(folder: Path | str, error: OSError) -> str:
    """Says that a folder cannot be written to, why, and what to do."""
    advice = (
        "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another one"
    )
    return f"cannot write to the output folder {folder} ({error.strerror}): {advice}"


def read_text(path: Path | str) -> str:
    """Reads a text file. Raises `UserError` where it cannot."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeError as error:
        raise UserError(f"{path} is not text ({error}): delete it to run this again") from error


def read_json(path: Path | str) -> dict[str, JSON]:
    """Reads a file of this schema; returns all but the version.

    Raises:
        UserError: If the file cannot be read, or is of another version.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, where: Path | str) -> dict[str, JSON]:
    """Reads a text as `read_json` does a file; `where` is what errors call it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}): delete it to run this again") from error
    if not isinstance(data, dict) or (version := data.pop("schema_version", None)) is None:
        raise UserError(f"{where} has no schema_version, so nothing of the experiments wrote it")
    if version != SCHEMA_VERSION:
        raise UserError(f"{where} has schema version {version}, and this is {SCHEMA_VERSION}")
    return data
