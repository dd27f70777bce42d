"""A study whose command is killed at random moments, or whose disk is full, until it is whole.

`JAXINIT_KILLS` says how often; `make torture` sets it, and the numbers of the other suites that try
what is odd or damaged.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.records import store
from jaxinit import banks
from tests.experiments import small

KILLS = int(os.environ.get("JAXINIT_KILLS", "1"))
ROOT = Path(__file__).parents[2]
# By hand the command as users give it; once, among all tests, a network that compiles faster.
COMMAND = ("-m", "experiments.clusters") if KILLS > 1 else ("-c", small.CLUSTERS)
OPTIONS = (
    "--network", "vgg11", "--train-images-per-class", "4", "--test-images-per-class", "2",
    "--epochs", "2", "--source-epochs", "1", "--sources", "2", "--batch-size", "20",
    "--clusters", "2", "--baselines", "random", "pretrained", "--pairs", "10-14", "11-18",
)  # fmt: skip


def start(folder, options=OPTIONS, **how):
    places = ("--output", str(folder / "clusters"), "--models-dir", str(folder / "sources"))
    return subprocess.Popen(
        [sys.executable, *COMMAND, *options, *places],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def finish(folder):
    process = start(folder)
    _, news = process.communicate(timeout=900)
    assert process.returncode == 0, news
    assert "Traceback" not in news


def made(folder):
    """All numbers that the study and its source models consist of."""
    (models,) = (folder / "sources").iterdir()
    runs = [*store.read_all(folder / "clusters"), *store.read_all(models)]
    curves = {store.name_of(run): (run.curves, run.environment.get("checkpoint")) for run in runs}
    drawn = {}
    for file in (models / "banks").glob("*.npz"):
        bank = banks.load(file)
        for name in bank.filters:
            drawn[file.name, name] = (bank.filters[name].tolist(), bank.sizes[name].tolist())
    return curves, drawn


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one start makes that nothing interrupts, the seconds that it takes, and the kB."""
    folder, began = tmp_path_factory.mktemp("whole"), time.monotonic()
    finish(folder)
    seconds = time.monotonic() - began
    files = [path for path in folder.rglob("*") if path.is_file()]
    return made(folder), seconds, sum(path.stat().st_size for path in files) / 1e3


def test_killed_at_any_moment_a_study_ends_with_the_same_bits(whole, tmp_path):
    numbers, seconds, _ = whole
    assert len(numbers[0]) == 8 + 2
    rng = np.random.default_rng(KILLS)
    folder, studies = tmp_path / "0", 1
    for _ in range(KILLS):
        process, wait = start(folder), rng.uniform(2, 0.7 * seconds)
        while KILLS == 1 and not any((folder / "clusters" / "runs").glob("*.json")):
            assert process.poll() is None
            time.sleep(wait := 0.05)
        try:
            _, news = process.communicate(timeout=wait)
            assert process.returncode == 0, news
            assert made(folder) == numbers
            folder, studies = tmp_path / str(studies), studies + 1
        except subprocess.TimeoutExpired:
            process.kill()
            _, news = process.communicate()
        assert "Traceback" not in news
    finish(folder)
    assert made(folder) == numbers
    left = [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".lock"))]
    assert left == []


@pytest.mark.skipif(KILLS < 5, reason="only by hand")
def test_a_full_disk_ends_a_command_in_a_sentence(whole, tmp_path):
    """Of any size that is too small; what was finished is there for the next start."""
    numbers, _, needed = whole
    rng = np.random.default_rng(KILLS)
    for trial in range(KILLS // 5):
        disk = tmp_path / str(trial)
        disk.mkdir()
        size = int(10 ** rng.uniform(1, np.log10(0.8 * needed)))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only those who may mount can fill a disk of their own")
        try:
            began = time.monotonic()
            process = start(disk)
            _, news = process.communicate(timeout=300)
            assert process.returncode == 2, (size, news)
            assert news.splitlines()[-1].startswith("error: "), (size, news)
            assert "Traceback" not in news, (size, news)
            assert time.monotonic() - began < 300
            more = ["mount", "-o", "remount,size=1g", str(disk)]
            subprocess.run(more, check=True)
            finish(disk)
            assert made(disk) == numbers
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)


def of_session(leader):
    """The processes that a command and its children have begun, as long as they are not over."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, *_, session = file.read_text().rpartition(")")[2].split()[:4]
            found += [file] if int(session) == leader and state != "Z" else []
    return found


@pytest.mark.skipif(KILLS < 5, reason="only by hand")
def test_an_interruption_leaves_one_line_and_no_worker(tmp_path):
    """At any moment of reading images in processes, of one process or of its whole terminal."""
    images = small.save_folder(tmp_path / "images", classes=20, per_class=12)
    options = ["--dataset", str(images), "--stream", "always", "--network", "resnet20"]
    options += ["--epochs", "100000", "--source-epochs", "1", "--sources", "1", "--clusters", "2"]
    options += ["--batch-size", "20", "--pairs", "2-3", "--group-classes", "5"]
    rng = np.random.default_rng(KILLS)
    for _ in range(KILLS // 5):
        process = start(tmp_path, options, start_new_session=True)
        while len(of_session(process.pid)) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 5))
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        (os.killpg if rng.random() < 0.7 else os.kill)(process.pid, number)
        _, news = process.communicate(timeout=30)
        assert process.returncode == 128 + number, news
        assert "same command" in news.splitlines()[-1], news
        assert "Traceback" not in news
        time.sleep(1)
        assert of_session(process.pid) == []


@pytest.mark.skipif(KILLS < 5 or os.getuid() != 0, reason="only by hand, and as root")
def test_a_user_without_a_name_and_a_home_can_work(whole):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        variables = {name: value for name, value in os.environ.items() if name != "HOME"}
        variables["JAX_COMPILATION_CACHE_DIR"] = ""
        process = start(Path(folder), user=2**20, group=2**20, extra_groups=[], env=variables)
        _, news = process.communicate(timeout=600)
        assert process.returncode == 0, news
        assert made(Path(folder)) == whole[0]
