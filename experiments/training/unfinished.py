"""The state of what has not ended, kept so that it goes on after an interruption.

A state is one `.npz` file: its arrays by their number in the tree, and `about`, JSON as bytes with
the checksum of all.
"""

import contextlib
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.cli import processes
from experiments.cli.errors import UserError, first_line
from experiments.records import checksums, files, surroundings
from jaxinit import whole_files

# What an interruption costs at most, but for an evaluation that it falls into.
SECONDS = 600.0

_ABOUT = "about"
_WIDEST = 8  # bytes of a number; training may have widened what the template has
_MORE = 2**16  # bytes that a file's member may have beside its array
_LONGEST = 2**26  # bytes of what is said about the arrays


class Unfinished:
    """Where a state is kept, if anywhere; a later state replaces the former.

    Args:
        file: Of this state alone; None where nothing is to be kept.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._saved = time.monotonic()

    def load(self, template: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Reads what was saved last: its number, arrays and log; None where there is nothing.

        What another revision of this program has kept counts as nothing: the run begins anew.

        Args:
            template: A tree of the arrays, or of their shapes.

        Raises:
            UserError: It is damaged, or of another run or network.
        """
        if self._file is None or not self._file.exists():
            return None
        try:
            about, leaves = _read(self._file, jax.tree.leaves(template))
        except Exception as error:  # NumPy and zipfile raise whatever their parts raise
            raise self._damaged(error) from error
        if about["source"] != surroundings.source():
            return None
        tree = jax.tree.unflatten(jax.tree.structure(template), leaves)
        return about["number"], tree, about["log"]

    def number(self) -> int:
        """The number of what `load` reads, without its arrays; 0 where there is nothing.

        Raises:
            UserError: It is damaged, or of another run.
        """
        if self._file is None or not self._file.exists():
            return 0
        try:
            with open(self._file, "rb") as file, np.load(file, allow_pickle=False) as members:
                about = _about(self._file, members)
                return int(about["number"]) if about["source"] == surroundings.source() else 0
        except Exception as error:  # as above
            raise self._damaged(error) from error

    def discard(self) -> None:
        """Removes what was kept."""
        if self._file is not None:
            discard(self._file)

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"the unfinished run in {self._file} is damaged, or of another run or network "
            f"({first_line(error)}): delete the file and start again, it will be trained anew"
        )

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._file is not None and time.monotonic() - self._saved >= SECONDS

    def save(self, number: int, arrays: Any, log: dict[str, Any]) -> None:
        """Writes a state, whole or not at all, in place of the former.

        Args:
            number: Rises from one state to the next.
            arrays: A tree.
            log: As JSON has it.

        Raises:
            UserError: The folder cannot be written to.
        """
        assert self._file is not None
        if processes.is_first():
            leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(arrays))}
            about = {"number": number, "log": log, "of": self._file.name}
            about = _sealed({**about, "source": surroundings.source()}, leaves)
            members = {**leaves, _ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}
            content = io.BytesIO()  # as NumPy, where the disk is full, says more than an OSError
            np.savez(content, allow_pickle=False, **members)
            with files.writing_to(self._file.parent):
                files.write_bytes(content.getbuffer(), self._file)
        processes.wait("the state is written")
        self._saved = time.monotonic()


def _sealed(about: dict[str, Any], leaves: dict[str, np.ndarray]) -> dict[str, Any]:
    about = files.plain({**about, "arrays": checksums.of_arrays(leaves)})
    return {**about, "checksum": checksums.of_json(about)}


def _read(file: Path, template: list[Any]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads a state of these arrays. Raises whatever its parts raise."""
    sizes = {str(i): leaf.size * _WIDEST for i, leaf in enumerate(template)}
    with open(file, "rb") as opened, zipfile.ZipFile(opened) as archive:
        found = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    if found.keys() != {*sizes, _ABOUT} or found[_ABOUT] > _LONGEST:
        raise ValueError("it holds other arrays")
    if any(found[name] > size + _MORE for name, size in sizes.items()):
        raise ValueError("its arrays are larger")
    with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as members:
        about = _about(file, members)
        leaves = {name: members[name] for name in sizes}
    leaves = {
        name: leaf.view(own.dtype) if leaf.dtype.kind == "V" else leaf  # NumPy lacks bfloat16
        for own, (name, leaf) in zip(template, leaves.items(), strict=True)
    }
    if about["arrays"] != checksums.of_arrays(leaves):
        raise ValueError("its arrays do not match their checksum")
    if any(leaf.shape != own.shape for own, leaf in zip(template, leaves.values(), strict=True)):
        raise ValueError("its arrays have other shapes")
    return about, list(leaves.values())


def _about(file: Path, members: Any) -> dict[str, Any]:
    about = json.loads(members[_ABOUT].tobytes())
    if about["checksum"] != checksums.of_json(about):
        raise ValueError("it does not match its checksum")
    if about["of"] != file.name:
        raise ValueError(f"it was called {about['of']}")
    return about


def discard(file: Path) -> None:
    """Removes what was kept, once all of it is recorded; and the folder around it, if empty."""
    if processes.is_first():
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
            whole_files.clean(file.parent)
            file.parent.rmdir()
