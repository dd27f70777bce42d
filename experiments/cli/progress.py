"""Says how far a long job is, and honestly how long it still takes."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from experiments.cli import processes

# Where nobody watches a terminal, a line at most this often within a run.
_QUIET_SECONDS = 20.0


class Progress:
    """Counts epochs of runs, on one rewritten line of a terminal or on plain lines elsewhere.

    Args:
        total: Work of all epochs of all runs that are still to be trained, in any unit.
        stream: Where to; standard error, so that results can be piped, where not given.
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._rewrite = self._stream.isatty()
        self._done = 0.0
        self._first: tuple[float, float] | None = None  # when the first epoch was done, its work
        self._said = time.monotonic()

    def expect(self, total: float) -> None:
        """Sets how much is to be done in all, and starts the clock anew."""
        self._total = total
        self._first = None
        self._said = time.monotonic()

    def epoch(
        self, label: str, epoch: int, epochs: int, accuracies: Sequence[float], work: float = 1
    ) -> None:
        """Tells that one epoch of `len(accuracies)` runs at once is done, each so much work."""
        self._done += work * len(accuracies)
        now = time.monotonic()
        # The first epoch says nothing of the others: it took the compilation, too.
        self._first = self._first or (now, self._done)
        if not (self._rewrite or epoch == epochs or now - self._said > _QUIET_SECONDS):
            return
        if not processes.is_first():
            return
        self._said = now
        mean = sum(accuracies) / len(accuracies)
        text = (
            f"[{100 * self._done / self._total:3.0f} %] {label}: epoch {epoch}/{epochs}, "
            f"validation accuracy {mean:.1f} %"
        )
        if self._first != (now, self._done):
            seconds, done = now - self._first[0], self._done - self._first[1]
            text += f", about {clock(seconds / done * (self._total - self._done))} left"
        if self._rewrite:
            end = "\n" if epoch == epochs else ""
            self._stream.write(f"\r\x1b[K{text}{end}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def clock(seconds: float) -> str:
    """Writes a duration as "41 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def say(text: str) -> None:
    """Prints one line of news on standard error."""
    if processes.is_first():
        print(text, file=sys.stderr, flush=True)
