"""Reading ahead: an order that no worker changes, and an end without processes left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data.tasks import Task
from experiments.records import surroundings
from experiments.training import input_pipeline
from experiments.training.input_pipeline import Batches

KEY = jax.random.key(3)


class Numbers:
    """Each image is its number; one of them cannot be read, or ends the process that does."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count, bad=None, deadly=None):
        self.shape, self._bad, self._deadly = (count, 1, 1, 1), bad, deadly

    def __getitem__(self, rows):
        if self._bad in rows:
            raise OSError(5, "Input/output error", "n01440764_18.jpeg")
        if self._deadly in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows.astype(np.uint8).reshape(-1, 1, 1, 1)


def batches(train=None, epochs=2):
    """Of 20 of 40 training images in batches of 8, and of 5 of 10 test images in two of 3."""
    task = Task(
        "pair-0-1",
        np.arange(0, 40, 2, dtype=np.int32),
        np.arange(20, dtype=np.int32),
        np.arange(5, 10, dtype=np.int32),
        np.arange(5, dtype=np.int32),
        20,
    )
    return Batches(
        train or Numbers(40),
        Numbers(10),
        task,
        batch_size=8,
        evaluated_in=(2, 3),
        epochs=epochs,
        key=KEY,
    )


def read(batches, workers, first=0):
    found = []
    for images, labels in input_pipeline.read_ahead(batches, workers, first):
        found.append((np.ravel(images).tolist(), np.asarray(labels).tolist()))
    return found


def test_the_order_is_that_of_the_resident_epoch_and_of_no_worker():
    wanted = []
    for epoch in range(2):
        order_key, _ = jax.random.split(jax.random.fold_in(KEY, epoch))
        order = np.asarray(jax.random.permutation(order_key, 20))
        for rows in (order[:8], order[8:16], order[16:]):  # the last, smaller batch is kept
            wanted.append(((2 * rows).tolist(), rows.tolist()))
        wanted += [([5, 6, 7], [0, 1, 2]), ([8, 9, 5], [3, 4, 0])]
    assert read(batches(), 0) == wanted
    assert read(batches(), 2) == wanted
    assert multiprocessing.active_children() == []
    assert read(batches(), 0, first=4) == wanted[4:]
    assert read(batches(), 1, first=4) == wanted[4:]


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_end_in_a_sentence(workers):
    with pytest.raises(UserError) as caught:
        read(batches(Numbers(40, bad=12)), workers)
    assert str(caught.value) == (
        "images cannot be read (OSError: [Errno 5] Input/output error: 'n01440764_18.jpeg'): "
        "repair the file, or prepare the data set again"
    )
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_ends_in_a_sentence():
    with pytest.raises(UserError, match=r"has failed \(.* exit code -9\): where it ran out"):
        read(batches(Numbers(40, deadly=12)), 1)
    assert multiprocessing.active_children() == []


def test_an_iterator_that_is_closed_leaves_no_worker():
    ahead = input_pipeline.read_ahead(batches(), 2)
    next(ahead)
    assert len(multiprocessing.active_children()) == 2
    ahead.close()
    assert multiprocessing.active_children() == []


def test_ctrl_c_is_left_to_this_process_from_a_workers_first_moment():
    program = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    own = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with input_pipeline._beginning():
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "SIGINT" in done.stdout
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == own


def test_arrays_in_memory_are_read_by_this_process():
    array = np.zeros((4, 1, 1, 3), np.uint8)
    assert input_pipeline.workers_for((array, array)) == 0
    cores = surroundings.cores()
    assert input_pipeline.workers_for((Numbers(4), array)) == min(cores, 16)
    assert cores >= 1


PROGRAM = """
import multiprocessing, sys
from experiments.training import input_pipeline
from tests.experiments.training.test_input_pipeline import batches

ahead = input_pipeline.read_ahead(batches(epochs=10**6), 1)
next(ahead)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
for batch in ahead:
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_from_outside_leaves_no_worker(number):
    """Ctrl-C goes to all processes of the terminal, another signal to one alone."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    try:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 1
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, news = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "resource_tracker" not in news
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in workers)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
