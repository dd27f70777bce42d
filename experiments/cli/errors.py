"""The one exception that means: the user can mend this."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Generator
from typing import NoReturn

from experiments.cli import interruption

_PRINTED = "±×−–…"  # what is in tables


class UserError(Exception):
    """One sentence for the user: what was wrong and what to do. Never shown with a traceback."""


def first_line(error: Exception) -> str:
    """The beginning of what an error says, for a sentence that quotes it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


_shown: list[UserError] = []


def shown() -> bool:
    """Whether the program is ending because of a `UserError`."""
    return bool(_shown)


@contextlib.contextmanager
def exit_status(*, tables: bool = True) -> Generator[None, None, None]:
    """Ends the program with status 2 and the sentence on stderr where a `UserError` is raised.

    So it does where a file or folder cannot be used, or is full, that nothing else says a sentence
    about. Where nobody reads on, as behind `| head`, it ends in silence, as by a broken pipe.

    Args:
        tables: Whether tables will be printed, and not only where files are.
    """
    try:
        if tables:
            _check_printing()
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a folder may be called anything
        try:
            yield
        finally:
            sys.stdout.flush()
    except UserError as error:
        end(error)
    except BrokenPipeError:
        _end_unread()
    except OSError as error:
        if error.filename is not None:
            advice = "check the path, and who may read it and write there"
            end(UserError(f"{error.filename} cannot be used ({error.strerror}): {advice}"))
        if error.errno != errno.ENOSPC:
            raise
        _silence(1)
        advice = "make room or print elsewhere, the same command finds what is recorded"
        end(UserError(f"what is written cannot be kept ({error.strerror}): {advice}"))
    finally:
        interruption.end_if_interrupted()


def end(error: UserError) -> NoReturn:
    """Prints the sentence on stderr and ends the program with status 2."""
    print(f"error: {error}", file=sys.stderr)
    _shown.append(error)
    sys.exit(2)


def _end_unread() -> NoReturn:
    """Ends the program where a pipe that it writes to was closed."""
    _silence(1, 2)
    sys.exit(128 + signal.SIGPIPE)


def _silence(*streams: int) -> None:
    """Sends away what Python would still write on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)


def _check_printing() -> None:
    """Makes sure that tables can be printed, before hours are spent on them."""
    encoding, errors = sys.stdout.encoding or "utf-8", sys.stdout.errors or "strict"
    try:
        _PRINTED.encode(encoding, errors)
    except (UnicodeError, LookupError):
        raise UserError(
            f"standard output is {encoding}, which cannot print the signs of tables: set "
            "PYTHONIOENCODING to utf-8"
        ) from None
