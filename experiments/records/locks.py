"""Locks between processes that share a folder: each ends with the process that holds it.

They are those of the system for files (`flock`). Where it has none, as on some network file
systems, the work goes on without, and says so.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from experiments.cli import processes
from experiments.cli.progress import say
from experiments.records import files

_told: set[Path] = set()  # folders without locks that were told of


@contextlib.contextmanager
def held(target: Path, *, wait: bool = True) -> Generator[bool, None, None]:
    """Holds the lock of a file or folder that is to be made.

    Of several joined processes the first holds it for all; all must come here.

    Args:
        target: What the lock is of. The folder that it is in is made.
        wait: Whether to wait where another process holds it, which is said.

    Yields:
        Whether it is held: always where it is waited for.

    Raises:
        UserError: The folder cannot be written to.
    """
    lock = target.with_name(f".{target.name}.lock")
    descriptor = _take(lock, wait=wait) if processes.is_first() else None
    try:
        yield any(processes.agreed([descriptor is not None]))
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(descriptor)


def _take(lock: Path, *, wait: bool) -> int | None:
    """Returns the open file that holds a lock; None where another process holds it."""
    with files.writing_to(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
    said = False
    while True:
        with files.writing_to(lock.parent):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if said else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            if not wait:
                return None
            say(f"waiting for another process, which holds {lock}")
            said = True
            continue
        except OSError as error:
            _tell_once(lock.parent, error)
            return descriptor
        if _is_same(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its former holder has removed it in the meantime


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _tell_once(folder: Path, error: OSError) -> None:
    if folder not in _told:
        _told.add(folder)
        say(
            f"files in {folder} cannot be locked ({error.strerror}): start no two commands that "
            "write there at once"
        )
