"""What a command does before it imports anything slow: signals, figures, JAX's own settings.

Nothing of it happens where the package is only imported: by a test, a notebook, another program.
"""

import os
import signal
import sys

from experiments.cli import interruption

_PARENT = "JAXINIT_COMMAND"  # the process that was started by hand


def prepare() -> None:
    """Prepares this process where it was started as `python -m experiments.…`, or by one that was.

    Ends it with status 2 and a sentence where an environment variable of JAX's is wrong.
    """
    if os.environ.get(_PARENT) == str(os.getppid()):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # which its parent sees to
    elif _is_command():
        os.environ[_PARENT] = str(os.getpid())
        interruption.prepare()
        os.environ["MPLBACKEND"] = "agg"  # files are drawn; a notebook's is for its own process
        _import_jax()


def _is_command() -> bool:
    # Python leaves "-m" there until it has found the module, which this package is imported for.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv[:-1]:
        return False
    named = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return named.partition(".")[0] == "experiments"


def _import_jax() -> None:
    try:
        import jax  # noqa: F401
    except ValueError as error:  # it reads its variables now
        names = [name for name in os.environ if name.startswith("JAX_")]
        own = [name for name in names if name in str(error) or name.lower() in str(error)]
        print(
            f"error: JAX does not take the environment ({error}): correct or unset "
            f"{', '.join(own or names)}",
            file=sys.stderr,
        )
        sys.exit(2)
