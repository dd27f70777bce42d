"""Says how far a long job is, and honestly how long it still takes."""

import atexit
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import rich.console
import rich.progress

from experiments.cli import processes

# Where nobody watches a terminal, a line at most this often within a run.
_QUIET_SECONDS = 20.0


class Progress:
    """Counts epochs of runs: a bar on a terminal, below a line for each run; plain lines elsewhere.

    Args:
        total: Work of all epochs of all runs that are still to be trained, in any unit.
        stream: Where to; standard error, so that results can be piped, where not given.
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._bar = _Bar(self._stream) if self._stream.isatty() else None
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
        if not processes.is_first():
            return
        share = self._done / self._total
        mean = sum(accuracies) / len(accuracies)
        text = f"{label}: epoch {epoch}/{epochs}, validation accuracy {mean:.1f} %"
        if self._first != (now, self._done):
            seconds, done = now - self._first[0], self._done - self._first[1]
            text += f", about {clock(seconds / done * (self._total - self._done))} left"
        if self._bar is not None:
            self._bar.show(share, text, finished=epoch == epochs)
        elif epoch == epochs or now - self._said > _QUIET_SECONDS:
            self._said = now
            self._stream.write(f"[{100 * share:3.0f} %] {text}\n")
            self._stream.flush()


class _Bar:
    """A bar of rich's at the foot of a terminal, which other lines are written above."""

    def __init__(self, stream: TextIO) -> None:
        self._rich = rich.progress.Progress(
            rich.progress.TextColumn("{task.percentage:3.0f} %"),
            rich.progress.BarColumn(bar_width=20),
            rich.progress.TextColumn("{task.description}", markup=False),
            console=rich.console.Console(file=stream),
            transient=True,
        )
        self._task = self._rich.add_task("", total=1.0)

    def show(self, share: float, text: str, *, finished: bool) -> None:
        """Moves the bar, and leaves a line where a run has finished."""
        if not self._rich.live.is_started:
            self._rich.start()
            atexit.register(self._rich.stop)  # however the program ends, the cursor comes back
        self._rich.update(self._task, completed=share, description=text)
        if finished:
            self._rich.console.print(
                f"[{100 * share:3.0f} %] {text}", markup=False, highlight=False
            )
        if share >= 1:
            self._rich.stop()


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
