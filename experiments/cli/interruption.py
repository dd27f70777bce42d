"""How a command ends on Ctrl-C or SIGTERM: one line that says what is recorded, 130 or 143.

The line is written by a thread of its own, as the main one may be in the middle of a compilation
for minutes. The main one is then let end what it has open (processes that read images, temporary
folders), in silence, and for a few seconds only: all that is recorded is written whole or not at
all.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

_SECONDS = 5.0  # for the main thread to end
_CLEARED = "\r\x1b[K\x1b[?25h"  # on a terminal: no bar, and the cursor is back

_terminal = 2
_folders: dict[Path, None] = {}  # in the order in which they were told of
_saying = threading.RLock()
_status: int = 0  # to end with, once interrupted
_stopping = False  # whether the main thread knows


def records_in(folder: Path) -> None:
    """Tells of a folder in which runs are recorded, for the line that an interruption prints."""
    _folders[folder] = None


def sentence(why: str) -> str:
    """What is recorded, and how to go on."""
    counts = {folder: _count(folder) for folder in _folders}
    found = [f"{count} in {folder}" for folder, count in counts.items() if count]
    if not found:
        return f"{why}: nothing is recorded yet, the same command starts again"
    return f"{why}: recorded runs: {', '.join(found)}; the same command goes on from there"


def _count(folder: Path) -> int:
    """Runs in files of their own, and in an archive, a line each."""
    packed = 0
    with contextlib.suppress(OSError):
        packed = (folder / "runs.jsonl").read_bytes().count(b"\n")
    return len(list(folder.glob("runs/*.json"))) + packed


def prepare() -> None:
    """Takes SIGINT and SIGTERM in hand, unless the process was told to ignore them."""
    global _terminal
    _terminal = os.dup(2)
    os.set_inheritable(_terminal, False)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read_end,), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    sys.excepthook = _raised


def end_if_interrupted() -> None:
    """Ends the process where it has been interrupted, without what Python does on the way out."""
    if _status:
        _end()


def _interrupted(number: int, frame: FrameType | None) -> None:
    global _stopping
    del frame
    if not _stopping:
        _stopping = True
        _say(number)
        raise KeyboardInterrupt


def _raised(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    end_if_interrupted()
    sys.__excepthook__(kind, error, trace)


def _watch(read_end: int) -> None:
    while (number := os.read(read_end, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass  # a signal of someone else's
    _say(number)
    time.sleep(_SECONDS)
    _end()


def _say(number: int) -> None:
    """Writes the line, once, and nothing that others write to standard error from now on."""
    global _status
    with _saying:
        if _status:
            return
        _status = 128 + number
        why = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
        with contextlib.suppress(OSError):  # nobody may read it
            cleared = _CLEARED if os.isatty(_terminal) else ""
            os.write(_terminal, f"{cleared}{sentence(why)}\n".encode(errors="replace"))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        sys.stderr = open(silent, "w", encoding="utf-8")  # noqa: SIM115


def _end() -> NoReturn:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(_status)
