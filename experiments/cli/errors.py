"""The one exception that means: the user can mend this."""

import contextlib
import sys
from collections.abc import Iterator


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
def exit_status() -> Iterator[None]:
    """Ends the program with status 2 and the sentence on stderr where a `UserError` is raised."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        _shown.append(error)
        sys.exit(2)
