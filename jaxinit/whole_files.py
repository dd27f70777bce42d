"""Files that are written whole or not at all, and how those that are damaged show it."""

import contextlib
import functools
import os
import re
import shutil
import socket
import stat
import time
import tokenize
import zipfile
import zlib
from collections.abc import Generator
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

_PARTIAL = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)(?:-([0-9]+))?\.partial")
_UNKNOWN = "0"  # time of a start
_ABANDONED = 24 * 3600  # seconds after which what nobody can be asked about counts as left


def partial(path: str | os.PathLike[str]) -> Path:
    """Where a file or folder lies until it is whole: beside it, hidden, in this process's name."""
    path = Path(path)
    own = f"{_where()}-{os.getpid()}-{_started(os.getpid())}"
    return path.with_name(f".{path.name}.{own}.partial")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[str, None, None]:
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
    """Removes from a folder what processes left unfinished when they were killed.

    Of a process of this machine, since it started, and of this container, it is known whether it
    has ended; what others left is removed once nothing has been written to it for a day.

    Args:
        folder: What it holds itself, not the folders in it; may be missing.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            named = _PARTIAL.fullmatch(entry.name)
            if named is None or _is_in_use(entry, *named.groups()):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _is_in_use(entry: os.DirEntry[str], where: str, process: str, started: str | None) -> bool:
    if where != _where():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < _ABANDONED
    return _is_alive(int(process)) and _started(int(process)) in (started, _UNKNOWN)


@functools.cache
def _where() -> str:
    """Eight digits of the host, of its start, and of the container: where a process has its number.

    Containers may share a host's name, and a host's processes are numbered anew at each start.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # only Linux says
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


def _started(process: int) -> str:
    """When a process was started, in ticks of its machine."""
    try:
        # After its name in parentheses, which may hold anything.
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return _UNKNOWN


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
