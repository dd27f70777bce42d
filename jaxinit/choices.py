"""What is said of an option's value that is none of those there are."""

from collections.abc import Iterable


def unknown(what: str, known: Iterable[str], more: str = "") -> ValueError:
    """Makes the error that names the choices.

    Args:
        what: The option and its value, "distance 'l1'".
        known: All values that it may have.
        more: What else may be said or done.
    """
    return ValueError(f"{what} is not known: choose one of {', '.join(known)}{more}")
