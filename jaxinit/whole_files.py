"""Files that are written whole or not at all, and how those that are damaged show it."""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator

# What reading a damaged .npz raises.
DAMAGED = (KeyError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Gives the name of a file to write to, which becomes the one meant once all went well.

    Args:
        path: The file that is meant; one already there is replaced.
    """
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
