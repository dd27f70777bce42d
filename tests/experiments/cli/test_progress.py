"""What is said of a long job: plain lines, and a bar on a terminal."""

import io
import re

import pytest

from experiments.cli.progress import Progress, clock


def test_progress_counts_to_the_end(capsys):
    progress = Progress(4)
    progress.epoch("a", 1, 2, [10.0, 20.0])
    progress.epoch("a", 2, 2, [30.0, 40.0])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("[100 %] a: epoch 2/2, validation accuracy 35.0 %, about 0 s left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(41.4, "41 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_and_a_line_for_each_run(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    progress = Progress(4, stream)
    for run in "ab":
        for epoch in (1, 2):
            progress.epoch(run, epoch, 2, [10.0 * epoch])
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    for run, share in (("a", " 50"), ("b", "100")):
        assert f"[{share} %] {run}: epoch 2/2, validation accuracy 20.0 %" in text
    assert "━" in text
    assert stream.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in stream.getvalue()[-40:]


def test_nothing_but_finished_runs_is_said_where_nobody_watches(capsys):
    progress = Progress(3)
    for epoch in (1, 2, 3):
        progress.epoch("a", epoch, 3, [50.0])
    assert len(capsys.readouterr().err.splitlines()) == 1
