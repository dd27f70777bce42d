"""How one of several processes ends where another has died: in one sentence, with status 2.

JAX's own ways are a traceback from the operation that the dead process took part in, or an abort
from a thread of its runtime once the process has been silent for too long, with pages of its log.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from types import TracebackType
from typing import NoReturn

from experiments.cli import errors, interruption

_SENTENCE = (
    "error: another of the processes has ended: start them all again with the same command, which "
    "goes on from what is recorded"
)
_ABORTED = 128 + signal.SIGABRT
# What the runtime says, in errors and in its log, where a process is gone.
_SIGNS = ("Gloo", "NCCL", "coordination service", "JAX distributed service", "heartbeat")
_FATAL = "detected fatal errors"

_handlers: list[object] = []  # what C calls must not be collected
_ending = threading.Lock()


def prepare() -> None:
    """Takes the ends of this process in hand; to be called before it joins others.

    What the runtime itself writes to standard error is kept back, and shown only where the process
    ends by a fault of its own.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    sys.stderr = open(terminal, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    log = _open_log()
    os.dup2(log, 2)

    def kept_back() -> str:
        return os.pread(log, 1 << 20, 0).decode(errors="replace")

    def aborted(_: int) -> None:
        """Runs in whichever thread aborts."""
        interruption.end_if_interrupted()
        text = kept_back()
        if _FATAL in text:
            _end(terminal, f"{_SENTENCE}\n", 2)
        _end(terminal, text, _ABORTED)

    def raised(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        interruption.end_if_interrupted()
        if any(sign in str(error) for sign in _SIGNS):
            _end(terminal, f"{_SENTENCE}\n", 2)
        text = "".join(traceback.format_exception(kind, error, trace))
        _end(terminal, kept_back() + text, 1)

    def left() -> None:
        # JAX would wait for the others, who may wait for this one.
        if errors.shown():
            _end(terminal, "", 2)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal(int(signal.SIGABRT), handler)
    _handlers.append(handler)
    sys.excepthook = raised
    atexit.register(left)


def _open_log() -> int:
    """A file that nobody else sees: in memory where the system has such, as a disk may be full."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("log")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _end(terminal: int, text: str, status: int) -> NoReturn:
    """Ends at once: on the way out JAX would wait for the others, and abort in vain."""
    if not _ending.acquire(blocking=False):
        time.sleep(60)  # another thread is ending it
    with contextlib.suppress(OSError):  # nobody may read it
        os.write(terminal, text.encode())
    os._exit(status)
