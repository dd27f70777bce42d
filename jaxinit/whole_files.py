"""Files that are written whole or not at all, and how those that are damaged show it."""

import contextlib
import os
import re
import shutil
import socket
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# What reading a damaged .npz raises.
DAMAGED = (
    KeyError,
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_PARTIAL = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)\.partial")


def partial(path: str | os.PathLike[str]) -> Path:
    """Where a file or folder lies until it is whole: beside it, hidden, in this process's name."""
    path = Path(path)
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.partial")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Gives the name of a file to write to, which becomes the one meant once all went well.

    Args:
        path: The file that is meant. One already there is replaced and leaves its mode to the new
            one; of a symbolic link it is what the link names.
    """
    path = os.path.realpath(path)
    temporary = str(partial(path))
    try:
        yield temporary
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def clean(folder: str | os.PathLike[str]) -> None:
    """Removes from a folder what processes of this machine left unfinished when they were killed.

    Args:
        folder: What it holds itself, not the folders in it; may be missing.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            named = _PARTIAL.fullmatch(entry.name)
            if named is None or named[1] != _HOST or _is_alive(int(named[2])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
