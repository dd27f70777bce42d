"""Locks against other processes, which hold, wait and die."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments.records import locks

HOLDER = """
import sys, time
from pathlib import Path
from experiments.records import locks

with locks.held(Path(sys.argv[1])) as mine:
    print("held", mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "thing")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held True\n"
    yield process
    process.kill()
    process.communicate()


def test_alone_it_is_held_and_leaves_nothing(tmp_path):
    with locks.held(tmp_path / "new" / "thing") as mine:
        assert mine
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".thing.lock"]
    assert list((tmp_path / "new").iterdir()) == []


def test_it_is_not_taken_twice_and_dies_with_its_owner(holder, tmp_path, capsys):
    with locks.held(tmp_path / "thing", wait=False) as mine:
        assert not mine
    with locks.held(tmp_path / "other", wait=False) as mine:
        assert mine
    assert (tmp_path / ".thing.lock").exists()  # it is not theirs to remove
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locks.held(tmp_path / "thing", wait=False) as mine:
        assert mine
    assert capsys.readouterr().err == ""


def test_one_waits_for_the_other_and_says_so_once(holder, tmp_path, capsys):
    threading.Timer(0.5, holder.kill).start()
    start = time.monotonic()
    with locks.held(tmp_path / "thing") as mine:
        assert mine
        assert time.monotonic() - start > 0.4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("waiting for another process, which holds ")


def test_a_lock_that_was_removed_while_it_was_waited_for_is_taken_anew(tmp_path, monkeypatch):
    real, removed = fcntl.flock, []

    def flock(descriptor, how):
        real(descriptor, how)
        if not removed:
            removed.append(os.fstat(descriptor).st_ino)
            (tmp_path / ".thing.lock").unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    with locks.held(tmp_path / "thing") as mine:
        assert mine
        assert (tmp_path / ".thing.lock").exists()


def test_where_files_cannot_be_locked_the_work_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with locks.held(tmp_path / "thing") as mine:
            assert mine
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be locked (No locks available): start no two" in line
