"""The one exception that means: the user can mend this."""

import contextlib
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Generator
from typing import NoReturn

from experiments.cli import interruption

_PRINTED = "±×−–…"  # what is in tables
FULL = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files (ulimit -f)",
}
"""What to do where nothing more can be written, by the error's number."""


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
    about. Where nobody reads on what it prints, as behind `| head`, it ends in silence, as by a
    broken pipe.

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
        except SystemExit:  # as after --help
            _flush()
            raise
        _flush()
    except UserError as error:
        end(error)
    except BrokenPipeError:
        if not _is_unread():
            raise
        _drop_unwritten()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is not None:
            advice = "check the path, and who may read it and write there"
            end(UserError(f"{error.filename} cannot be used ({error.strerror}): {advice}"))
        if error.errno not in FULL:
            raise
        advice = f"{FULL[error.errno]}, or print elsewhere; the same command finds what is recorded"
        end(UserError(f"what is written cannot be kept ({error.strerror}): {advice}"))
    finally:
        interruption.end_if_interrupted()


def end(error: UserError) -> NoReturn:
    """Prints the sentence on stderr and ends the program with status 2."""
    with contextlib.suppress(OSError):  # nobody may read it
        print(f"error: {error}", file=sys.stderr)
    _shown.append(error)
    _drop_unwritten()
    sys.exit(2)


def _flush() -> None:
    if sys.stdout is not None:  # as behind `>&-`
        sys.stdout.flush()


def _is_unread() -> bool:
    """Whether the other end of the pipe that one prints to has been closed."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _drop_unwritten() -> None:
    """Drops what cannot be written: Python would fail on it on its way out."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _check_printing() -> None:
    """Makes sure that tables can be printed, before hours are spent on them."""
    if sys.stdout is None:
        return
    encoding, errors = sys.stdout.encoding or "utf-8", sys.stdout.errors or "strict"
    try:
        _PRINTED.encode(encoding, errors)
    except (UnicodeError, LookupError):
        raise UserError(
            f"standard output is {encoding}, which cannot print the signs of tables: set "
            "PYTHONIOENCODING to utf-8"
        ) from None
