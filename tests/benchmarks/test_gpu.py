"""The measurements for a GPU at toy sizes, and what a part that fails or hangs costs."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import gpu, gpu_agreement, gpu_parts, gpu_plan
from benchmarks.gpu_plan import SMALL
from experiments.training import networks
from tests.small import SmallNetwork

TINY = dataclasses.replace(SMALL, batch=2, steps=1, rounds=1, task=(4, 2))
# Compiling takes most of the time: a network of three convolutions, and one of one for the grid.
FORM = {"stages": (1,), "widths": (8,), "stem": "cifar", "shortcut": "padding"}
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """All parts, in this process: to start one for each would take most of the time."""
    folder, found = tmp_path_factory.mktemp("gpu"), []
    patch = pytest.MonkeyPatch()
    patch.setitem(gpu_parts.FORMS, TINY.network, FORM)
    patch.setattr(gpu_agreement.catalogue, "names", lambda _: ("gabor", "dirac"))
    patch.setattr(networks, "make_network", lambda classes, _: SmallNetwork(classes))
    for name, measure in gpu_parts.PARTS.items():
        file, status = folder / name, "done"
        file.touch()
        if name in ("torch", "authors") and not TORCH:
            status = "failed with status 1: ModuleNotFoundError: No module named 'torch'"
        elif name != "authors":  # whose loader starts processes
            measure(TINY, gpu_parts.Report(file))
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found.append({"part": name, "status": status, "seconds": 1.0, "lines": lines})
    patch.undo()
    return found


def test_every_part_tells_its_numbers(done):
    found = gpu.summary(done, TINY, list(gpu_parts.PARTS), small=True)
    numbers = {row["name"]: row for row in found["numbers"]}
    assert all("value" in row for row in found["numbers"] if row["part"] not in
               ("torch", "authors"))  # fmt: skip
    assert numbers["step, 8×8, float32: ours"]["value"] > 0
    ratio = numbers["step, 8×8, float32: ours / lax"]
    ours, lax = (numbers[f"step, 8×8, float32: {whose}"]["value"] for whose in ("ours", "lax"))
    assert ratio["value"] == ours / lax
    assert ratio["verdict"] == "not judged: toy sizes"
    for name in gpu_plan.AGREEMENT:  # the device is the CPU
        assert numbers[name]["value"] == 0
    assert numbers["k-means, an iteration: ours / scikit-learn"]["limit"] == 0.1
    assert numbers["grid, accuracies after the last epoch"]["n"] == TINY.runs[1]
    assert {part.name for part in gpu_plan.PARTS} == set(gpu_parts.PARTS)
    assert found["machine"]["platform"] == "cpu"
    assert "| step, 8×8, float32: ours / lax | " in gpu.table(found)


def line(name, value):
    return {"name": name, "value": value, "unit": "ms", "n": 3, "least": 0.9 * value,
            "most": 1.1 * value}  # fmt: skip


def test_limits_are_judged_and_what_was_not_run_says_why():
    ours = {"part": "step", "status": "done", "seconds": 1.0,
            "lines": [line(gpu_plan.step(32, "float32", "ours"), 2.0)]}  # fmt: skip
    forms = {"eager": 4.0, "channels last": 1.0, "compiled": 3.0}
    theirs = [line(gpu_plan.step(32, "float32", f"PyTorch {f}"), v) for f, v in forms.items()]
    torch = {"part": "torch", "status": "stopped after 9 s", "seconds": 9.0, "lines": theirs}
    found = gpu.summary([ours, torch], gpu_plan.Sizes(), ["step", "torch", "grid"], small=False)
    numbers = {row["name"]: row for row in found["numbers"]}
    ratio = numbers["step, 32×32, float32: ours / PyTorch"]
    assert (ratio["value"], ratio["limit"], ratio["verdict"]) == (2.0, 1.0, "fail")
    assert ratio["least"] == pytest.approx(1.8 / 1.1)
    missing = numbers["step, 64×64, float32: ours / PyTorch"]
    assert missing["verdict"] == "not run: torch: stopped after 9 s"
    assert numbers[gpu_plan.GRID_FAILED]["verdict"] == "not run: grid: not yet"
    assert not any(row["part"] == "kmeans" for row in found["numbers"])  # nobody asked for it
    better = [line(gpu_plan.step(32, "float32", "ours"), 0.5)]
    found = gpu.summary([{**ours, "lines": better}, torch], gpu_plan.Sizes(), ["torch"],
                        small=False)  # fmt: skip
    assert {row["name"]: row["verdict"] for row in found["numbers"] if "verdict" in row}[
        "step, 32×32, float32: ours / PyTorch"
    ] == "pass"


def test_what_is_not_installed_is_named():
    missing = {"name": "k-means, an iteration: scikit-learn", "reason": "sklearn is not installed"}
    part = {"part": "kmeans", "status": "done", "seconds": 1.0, "lines": [missing]}
    rows = gpu.summary([part], gpu_plan.Sizes(), ["kmeans"], small=False)["numbers"]
    verdicts = {row["name"]: row["verdict"] for row in rows}
    assert verdicts["k-means, an iteration: ours / scikit-learn"] == (
        "not run: sklearn is not installed"
    )


def test_a_part_that_hangs_is_stopped_with_what_it_started(tmp_path):
    tick = "import sys, time\nwhile True: open(sys.argv[1], 'a').write('.'); time.sleep(0.05)"
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {tick!r}, sys.argv[1]])\n"
        "time.sleep(60)"
    )
    ticks, start = tmp_path / "ticks", time.monotonic()
    status = gpu.attempt([sys.executable, "-c", program, str(ticks)], 3.0, {})
    assert status == "stopped after 3 s"
    assert time.monotonic() - start < 10
    before = ticks.stat().st_size
    time.sleep(0.3)
    assert before == ticks.stat().st_size > 0


def test_a_part_that_fails_says_its_last_line():
    program = "print('first'); raise MemoryError('of the device')"
    status = gpu.attempt([sys.executable, "-c", program], 20.0, dict(os.environ))
    assert status == "failed with status 1: MemoryError: of the device"
    assert gpu.attempt(["never"], 0.5, {}) == "no time was left"


def test_the_command_writes_a_file_and_prints_a_table(tmp_path, capsys):
    output = tmp_path / "new" / "found.json"
    gpu.main(["--small", "--parts", "device", "lax", "--minutes", "0.5", "--output", str(output),
              "--cache", str(tmp_path / "cache")])  # fmt: skip
    found = json.loads(output.read_text())
    assert [part["part"] for part in found["parts"]] == ["device", "lax"]
    assert found["parts"][0]["status"] == "done"
    numbers = {row["name"]: row for row in found["numbers"]}
    assert numbers["matrix product, float32"]["n"] == SMALL.rounds
    assert numbers["step, 8×8, float32: ours / lax"]["verdict"].startswith("not run: ")
    assert "| matrix product, float32 | " in capsys.readouterr().out


def test_nothing_that_is_measured_needs_tensorflow_datasets():
    program = (
        "import sys\n"
        "for name in ('tensorflow_datasets', 'array_record', 'tensorflow', 'requests'):\n"
        "    sys.modules[name] = None\n"
        "from benchmarks import bank, gpu, gpu_agreement, gpu_parts, kmeans, many_runs, parts\n"
        "from experiments.data import sets\n"
        "from experiments.runs import runner\n"
        "from experiments.study import starts\n"
        "print(len(sets.load('procedural', train_images_per_class=1, test_images_per_class=1)"
        ".train_labels))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "100\n"
