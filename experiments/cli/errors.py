"""The one exception that means: the user can mend this."""

import contextlib
import sys
from collections.abc import Iterator


class UserError(Exception):
    """One sentence for the user: what was wrong and what to do. Never shown with a traceback."""


@contextlib.contextmanager
def exit_status() -> Iterator[None]:
    """Ends the program with status 2 and the sentence on stderr where a `UserError` is raised."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
