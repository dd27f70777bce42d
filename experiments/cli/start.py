"""What a command does before it imports anything slow: signals, figures, JAX's own settings.

Nothing of it happens where the package is only imported: by a test, a notebook, another program.
"""

import os
import sys
import tempfile

from experiments.cli import errors, interruption


def prepare() -> None:
    """Prepares this process where it was started as `python -m experiments.…`.

    Ends it with status 2 and a sentence where an environment variable of JAX's is wrong.
    """
    if _is_command():
        interruption.prepare()
        os.environ["MPLBACKEND"] = "agg"  # files are drawn; a notebook's is for its own process
        _check_temporary()
        _import_jax()


def _is_command() -> bool:
    # Python leaves "-m" there until it has found the module, which this package is imported for.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv[:-1]:
        return False
    named = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return named.partition(".")[0] == "experiments"


def _check_temporary() -> None:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # which Matplotlib, for example, says in a traceback
        sentence = (
            "no folder for temporary files can be written to: free some space in /tmp, or set "
            "TMPDIR to a folder that can be written to"
        )
        errors.end(errors.UserError(sentence))


def _import_jax() -> None:
    try:
        import jax  # noqa: F401
    except ValueError as error:  # it reads its variables now
        names = [name for name in os.environ if name.startswith("JAX_")]
        own = [name for name in names if name in str(error) or name.lower() in str(error)]
        sentence = (
            f"JAX does not take the environment ({error}): correct or unset "
            f"{', '.join(own or names)}"
        )
        errors.end(errors.UserError(sentence))
