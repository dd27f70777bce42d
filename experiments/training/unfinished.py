"""The state of a run that has not ended, kept so that the run goes on after an interruption."""

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.cli.errors import UserError

# What an interruption costs at most, but for an evaluation that it falls into.
SECONDS = 600.0

_OPTIONS = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)


class Unfinished:
    """Where a run's state is kept, if anywhere; a later state replaces the former.

    Args:
        folder: Of this run alone; None where nothing is to be kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder.absolute()
        self._saved = time.monotonic()

    def load(self, template: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Reads what was saved last: its number, arrays and log; None where there is nothing.

        Args:
            template: A tree of the arrays' shapes.

        Raises:
            UserError: It is damaged, or of another network.
        """
        if self._folder is None or not self._folder.is_dir():
            return None
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), template)
        wanted = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes), log=ocp.args.JsonRestore()
        )
        try:
            with ocp.CheckpointManager(self._folder, options=_OPTIONS) as manager:
                number = manager.latest_step()
                if number is None:
                    return None
                found = manager.restore(number, args=wanted)
                return number, found.state, found.log
        except Exception as error:  # Orbax raises whatever its parts raise
            raise UserError(
                f"the unfinished run in {self._folder} is damaged or of another network: delete "
                "the folder and start again, the run will be trained anew"
            ) from error

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._folder is not None and time.monotonic() - self._saved >= SECONDS

    def save(self, number: int, arrays: Any, log: dict[str, Any]) -> None:
        """Writes a state, whole or not at all, and then removes the former.

        Args:
            number: Rises from one state to the next.
            arrays: A tree.
            log: As JSON has it.

        Raises:
            UserError: The folder cannot be written to.
        """
        assert self._folder is not None
        state = ocp.args.Composite(state=ocp.args.StandardSave(arrays), log=ocp.args.JsonSave(log))
        try:
            with ocp.CheckpointManager(self._folder, options=_OPTIONS) as manager:
                manager.save(number, args=state)
        except Exception as error:  # Orbax raises whatever its parts raise
            reason = str(error).split("\n")[0]
            raise UserError(
                f"cannot keep the unfinished run in {self._folder} ({reason}): free some space, "
                "or choose another --output"
            ) from error
        self._saved = time.monotonic()


def discard(folder: Path) -> None:
    """Removes what was kept of a run, once it is recorded; and the folder around it, if empty."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other runs of this or another process are in it
        folder.parent.rmdir()
