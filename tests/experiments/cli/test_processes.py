"""Two processes on the loopback device, joined by `jax.distributed`, against one."""

import json
import os
import socket
import subprocess
import sys

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
from experiments.training.trainer import Trainer

init = Trainer.init_variables
Trainer.init_variables = lambda self, key: jax.tree.map(
    lambda leaf: leaf.astype("float64"), init(self, key)
)
quick = clusters.PRESETS["quick"]
settings = dataclasses.replace(quick.training, precision="float64")
preset = dataclasses.replace(quick, training=settings)
dataclasses.replace(clusters.ENTRY, presets={"quick": preset}).main(sys.argv[1:])
"""


def start(folder, **variables):
    command = [sys.executable, "-c", PROGRAM, *TINY]
    places = ("--output", str(folder / "clusters"), "--models-dir", str(folder / "sources"))
    return subprocess.Popen(
        [*command, *places],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_train_the_same_runs_as_one(tmp_path):
    """Sequential runs: source models, a bank, and variables that go from task to task."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    joined = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    both = [start(tmp_path / "two", **joined, JAX_PROCESS_ID=str(i)) for i in range(2)]
    (said, news), (silent, silence) = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], news + silence
    assert "| Random" in said
    assert "Random" not in silent  # Gloo greets in every process
    assert "validation accuracy" not in silence
    alone = start(tmp_path / "one")
    _, news = alone.communicate(timeout=300)
    assert alone.returncode == 0, news
    one, two = (store.read_all(tmp_path / name / "clusters") for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        assert (a.variant, a.task, a.seed, a.settings) == (b.variant, b.task, b.seed, b.settings)
        assert b.environment["device_count"] == 2
        for name in run_record.METRICS:
            ours, theirs = (np.asarray(r.curves[name], np.float64) for r in (a, b))
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
    names = [sorted(p.name for p in (tmp_path / n / "clusters").iterdir()) for n in ("one", "two")]
    assert names[0] == names[1]
    summary = json.loads((tmp_path / "two" / "clusters" / "clusters-procedural.json").read_text())
    assert list(summary["variants"]) == ["random", "euclidean-k2"]


def test_alone_nothing_is_waited_for():
    processes.wait("nothing")
    assert processes.is_first()
    assert processes.agreed(2.5) == 2.5


def test_processes_that_cannot_be_joined_get_a_sentence(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match=r"cannot be joined .*: set JAX_COORDINATOR_ADDRESS to"):
        processes.join()
