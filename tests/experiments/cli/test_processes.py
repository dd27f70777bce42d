"""Two processes on the loopback device, joined by `jax.distributed`, against one."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.cli import processes
from experiments.cli.errors import UserError
from experiments.records import run_record, store

TINY = (
    "--train-images-per-class", "4", "--test-images-per-class", "2", "--epochs", "2",
    "--source-epochs", "1", "--sources", "2", "--batch-size", "20", "--pairs", "10-14", "11-18",
    "10-12", "--distances", "euclidean", "--clusters", "2", "--baselines", "random",
    "--protocol", "sequential",
)  # fmt: skip


# In float64: in float32 batch norm over so few images makes rounding, which depends on the machine
# and on how many runs go side by side, grow to percents within these two epochs.
PROGRAM = """
import dataclasses, sys
import jax
from experiments import clusters
from experiments.training import networks
from experiments.training.trainer import Trainer
from tests.small import SmallNetwork

init = Trainer.init_variables
Trainer.init_variables = lambda self, key: jax.tree.map(
    lambda leaf: leaf.astype("float64"), init(self, key)
)
# Compiling takes most of the time.
networks.make_network = lambda classes, settings: SmallNetwork(classes)
quick = clusters.PRESETS["quick"]
settings = dataclasses.replace(quick.training, precision="float64")
preset = dataclasses.replace(quick, training=settings)
dataclasses.replace(clusters.ENTRY, presets={"quick": preset}).main(sys.argv[1:])
"""

SENTENCE = (
    "error: another of the processes has ended: start them all again with the same command, which "
    "goes on from what is recorded"
)


def start(program, *arguments, **variables):
    environment = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "JAXINIT_HEARTBEAT_SECONDS": "10"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_clusters(folder, **variables):
    places = ("--output", str(folder / "clusters"), "--models-dir", str(folder / "sources"))
    return start(PROGRAM, *TINY, *places, **variables)


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def joined(number):
    return {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)}


def slurm(number):
    """What `srun` sets for the tasks of a step, of two on one machine."""
    shared = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    lists = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_STEP_NODELIST": "node7"}
    return {**shared, **lists, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}


def both(begin, numbered, **variables):
    """Starts two processes that join each other."""
    variables["JAX_COORDINATOR_ADDRESS"] = free_address()
    return [begin(**variables, **numbered(number)) for number in range(2)]


def ends(processes, seconds):
    """What two processes print, once they have ended by themselves within so many seconds."""
    try:
        return [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of one process."""
    folder = tmp_path_factory.mktemp("one")
    process = start_clusters(folder)
    ((_, news),) = ends([process], 300)
    assert process.returncode == 0, news
    return folder


def assert_same_runs(one, two):
    found = [store.read_all(folder / "clusters") for folder in (one, two)]
    assert len(found[0]) == len(found[1]) == 6
    for a, b in zip(*found, strict=True):
        assert (a.variant, a.task, a.seed, a.settings) == (b.variant, b.task, b.seed, b.settings)
        assert b.environment["device_count"] == 2
        for name in run_record.METRICS:
            ours, theirs = (np.asarray(r.curves[name], np.float64) for r in (a, b))
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
    names = [sorted(path.name for path in (f / "clusters").iterdir()) for f in (one, two)]
    assert names[0] == names[1]


def test_two_processes_train_the_same_runs_as_one_though_one_is_killed(alone, tmp_path):
    """Sequential runs: source models, a bank, and variables that go from task to task.

    The next start is one under Slurm, where the coordinator alone is named.
    """
    begin = functools.partial(start_clusters, tmp_path)
    processes = both(begin, joined)
    deadline = time.monotonic() + 240
    while not any((tmp_path / "clusters" / "runs").glob("*.json")):
        assert time.monotonic() < deadline
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.02)
    processes[1].kill()
    (_, news), _ = ends(processes, 60)
    assert processes[0].returncode == 2
    assert news.splitlines()[-1] == SENTENCE
    assert "Traceback" not in news
    assert any((tmp_path / "clusters" / "runs").glob("*.json"))
    processes = both(begin, slurm)
    (said, news), (silent, silence) = ends(processes, 300)
    assert [process.returncode for process in processes] == [0, 0], news + silence
    assert "| Random" in said
    assert "Random" not in silent  # Gloo greets in every process
    assert "validation accuracy" not in silence
    # The source models and their bank are there; a chain of runs begins anew where it was cut.
    assert "runs recorded already" in news
    assert "source" not in news
    assert_same_runs(alone, tmp_path)
    summary = json.loads((tmp_path / "clusters" / "clusters-procedural.json").read_text())
    assert list(summary["variants"]) == ["random", "euclidean-k2"]


ENDING = """
import os, signal, sys, time
from experiments.cli import processes
from experiments.cli.errors import UserError, exit_status

how, meeting, first = sys.argv[1:]
with exit_status():
    processes.join()
    processes.wait("the start")
    while True:
        if processes.is_first() == (first == "first"):
            if how.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, how))
                time.sleep(60)
            raise UserError("the disk is full") if how == "UserError" else KeyError("a bug")
        if meeting == "meets":
            processes.wait("another")
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("how", "meeting", "who"),
    [
        ("SIGKILL", "meets", "first"),
        ("SIGKILL", "meets", "second"),
        ("SIGKILL", "computes", "first"),
        ("SIGKILL", "computes", "second"),
        ("SIGTERM", "computes", "first"),
        ("UserError", "meets", "first"),
        ("KeyError", "meets", "second"),
    ],
)
def test_the_others_end_in_a_sentence_where_one_has_ended(how, meeting, who):
    processes = both(functools.partial(start, ENDING, how, meeting, who), joined)
    printed = [news for _, news in ends(processes, 60)]
    status = {"UserError": 2, "KeyError": 1}.get(how) or -getattr(signal, how)
    dead = ["first", "second"].index(who)
    assert processes[dead].returncode == status
    assert processes[1 - dead].returncode == 2
    assert printed[1 - dead] == f"{SENTENCE}\n"
    if how == "UserError":
        assert printed[dead] == "error: the disk is full\n"
    if how == "KeyError":
        assert printed[dead].endswith("KeyError: 'a bug'\n")


INTERRUPTED = """
import os, signal
from experiments.cli import endings, interruption

interruption.prepare()
endings.prepare()
interruption._say(signal.SIGINT)
os.abort()
"""


def test_an_abort_after_an_interruption_is_one_of_it():
    """As that of JAX's runtime, where the others have been interrupted a moment before."""
    process = start(INTERRUPTED)
    ((_, news),) = ends([process], 60)
    assert process.returncode == 128 + signal.SIGINT
    assert news == "interrupted: nothing is recorded yet, the same command starts again\n"


def test_alone_nothing_is_waited_for():
    processes.wait("nothing")
    assert processes.is_first()
    assert processes.agreed([2.5]) == [2.5]


def test_processes_that_cannot_be_joined_get_a_sentence(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match=r"cannot be joined .*: set JAX_COORDINATOR_ADDRESS to"):
        processes.join()
