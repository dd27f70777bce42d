"""Files written whole or not at all, and JSON that has no NaN and names its own checksum.

What is written says `schema_version` 2 and `checksum` (`checksums.of_json`). Version 1 had no
checksum, and is read all the same.
"""

import contextlib
import json
import math
import os
import stat
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from experiments.cli import processes
from experiments.cli.errors import FULL, UserError, first_line
from experiments.records import checksums
from experiments.records.checksums import JSON as JSON
from jaxinit import whole_files

SCHEMA_VERSION = 2
_CHECKED = 2  # the first version that names its checksum
_TRIES = 10  # of making a folder
_LARGEST = 2**30  # bytes of a text that is read


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


def write_json(data: Mapping[str, JSON], target: Path) -> Path:
    """Writes a file as `write_text`, of one line as `json_line` has it."""
    return write_text(json_line(data), target)


def json_line(data: Mapping[str, JSON]) -> str:
    """Returns the data as one line of JSON with its checksum; NaN and infinity become null."""
    whole = plain(data)
    whole["checksum"] = checksums.of_json(whole)
    return json.dumps(whole, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(text: str, target: Path) -> Path:
    """Writes a text as `write_bytes`, in UTF-8."""
    return write_bytes(text.encode(), target)


def write_bytes(content: bytes | memoryview, target: Path) -> Path:
    """Writes the file whole or not at all, and makes its folder. Raises OSError.

    Of several processes the first does.
    """
    if not processes.is_first():
        return target
    with whole_files.replacing(target) as temporary, _opened(temporary, target.parent) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return target


def _opened(file: str, folder: Path) -> BinaryIO:
    """Opens a new file in a folder, which another process may remove as long as it is empty."""
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return open(file, "wb")
    return open(file, "wb")


@contextlib.contextmanager
def writing_to(folder: Path | str) -> Generator[None, None, None]:
    """Turns an OSError of the block into a `UserError` that names the output folder."""
    try:
        yield
    except OSError as error:
        raise UserError(cannot_write(folder, error)) from error


def cannot_write(folder: Path | str, error: OSError) -> str:
    """Says that a folder cannot be written to, why, and what to do."""
    advice = FULL.get(error.errno or 0, "choose another one")
    return f"cannot write to the output folder {folder} ({error.strerror or error}): {advice}"


def read_text(path: Path | str) -> str:
    """Reads a text file. Raises `UserError` where it cannot, or where it is none or too large."""
    try:
        found = os.stat(path)  # first, as opening a pipe would wait for whoever writes to it
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is not a file: take it away")
        if found.st_size > _LARGEST:
            raise UserError(f"{path} is larger than {_LARGEST} bytes: take it away")
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeError as error:
        raise UserError(f"{path} is not text ({error}): delete it to run this again") from error


def read_json(path: Path | str) -> dict[str, JSON]:
    """Reads a file of this schema; returns all but the version and the checksum.

    Raises:
        UserError: If the file cannot be read, is of another version, or does not match its
            checksum.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, where: Path | str) -> dict[str, JSON]:
    """Reads a text as `read_json` does a file; `where` is what errors call it."""
    again = "delete it to run this again"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({first_line(error)}): {again}") from error
    try:
        checksums.check_bounded(data)
    except ValueError as error:
        raise UserError(f"{where} is not what was written ({error}): {again}") from error
    if not isinstance(data, dict) or "schema_version" not in data:
        raise UserError(
            f"{where} has no schema_version, so nothing of the experiments wrote it: take it away, "
            "or name another folder"
        )
    version = data["schema_version"]
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise UserError(
            f"{where} has schema version {version!r:.20}, and this reads 1 to "
            f"{SCHEMA_VERSION}: use the program that wrote it"
        )
    if version >= _CHECKED and data.pop("checksum", None) != checksums.of_json(data):
        raise UserError(
            f"{where} does not match its checksum, so it was damaged or changed by hand: {again}"
        )
    del data["schema_version"]
    return data
