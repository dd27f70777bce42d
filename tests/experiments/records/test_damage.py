"""Damaged, swapped, renamed and forged files: refused in one sentence, or the same numbers."""

import functools
import hashlib
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
import zlib
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import stored
from experiments.data.stored import Arrays
from experiments.records import files, packing, store, summaries, surroundings
from experiments.records.shown import Figure, Shown
from experiments.reporting import style
from experiments.runs import source_checkpoints
from experiments.training.unfinished import Unfinished
from jaxinit import whole_files
from tests.experiments import damaging
from tests.experiments.small import run, sealed

SHOWN = Shown(
    labels={"random": "Random", "k3": "Clusters"},
    figures=(Figure("figure2", "Both", ("random", "k3")),),
    authors={},
    baseline="random",
    subtitle="two pairs",
)
RUNS = [run(v, [i, 2.5, 1 / 3], task=f"pair-1-{i}") for i in (2, 3) for v in ("random", "k3")]


def refused(read, *arguments) -> str | None:
    """What reading says, which must be one sentence; None where it goes well."""
    try:
        read(*arguments)
    except UserError as error:
        sentence = str(error)
    else:
        return None
    assert "\n" not in sentence
    assert len(sentence) < 1000
    return sentence


def test_damaged_records_are_named(tmp_path):
    for number, rng in enumerate(damaging.trials("records")):
        folder = tmp_path / str(number)
        store.write_all(RUNS, folder)
        file = damaging.damage_one_of(folder / "runs", rng)
        sentence = refused(store.read_all, folder)
        if sentence is None:
            assert store.read_all(folder) == sorted(RUNS, key=store.name_of)
        else:
            assert str(file) in sentence


def test_a_record_is_that_of_its_name(tmp_path):
    (one, two, *_) = store.write_all(RUNS, tmp_path)
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    assert f"{one} holds the run {two.name}: give it that name" in (refused(store.read, one) or "")
    copy = one.with_name(one.name.replace("seed-0", "seed-1"))
    copy.write_bytes(first)
    names = ("clusters", RUNS[0].variant, RUNS[0].task)
    assert str(copy) in (refused(store.find, tmp_path, *names, 1, RUNS[0].settings) or "")


@pytest.mark.parametrize(
    "forge",
    [
        lambda text: "[" * 100_000,
        lambda text: "[" * 500 + "]" * 500,
        lambda text: text.replace('"lr": 0.1', '"lr": ' + '{"x": ' * 300 + "1" + "}" * 300),
        lambda text: text.replace('"lr": 0.1', '"lr": 1' + "0" * 400),
        lambda text: text.replace('"lr": 0.1', '"lr": 1' + "0" * 5000),
        lambda text: text.replace('"lr": 0.1', '"lr": 1e999'),
        lambda text: text.replace('"lr": 0.1', '"lr": NaN'),
        lambda text: text.replace('"schema_version": 2', '"schema_version": 1'),
        lambda text: text.replace('"schema_version": 2', '"schema_version": true'),
        lambda text: text.replace('"lr": 0.1', '"lr": 0.2'),
        lambda text: text.replace('"clusters"', '"\\ud800"'),
        lambda text: text.replace('"wall_seconds": 2.0', '"wall_seconds": 1' + "0" * 400),
    ],
)
@pytest.mark.parametrize("seal", [False, True])
def test_what_is_forged_is_refused_in_bounded_time(tmp_path, forge, seal):
    file = store.write(RUNS[0], tmp_path)
    text = forge(file.read_text())
    if seal:
        try:
            text = sealed(text)
        except (ValueError, RecursionError, AttributeError):
            pytest.skip("it cannot be given a checksum")
    file.write_text(text, errors="surrogatepass")
    sentence = refused(store.read_all, tmp_path)
    if sentence is None:  # another number, under its own checksum: then it is found by its settings
        names = ("clusters", RUNS[0].variant, RUNS[0].task, 0)
        sentence = refused(store.find, tmp_path, *names, RUNS[0].settings)
    assert str(file) in (sentence or "")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    store.write_all(RUNS, tmp_path)
    odd = tmp_path / "runs" / "odd.json"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to("/dev/zero" if kind == "device" else odd)
    assert str(odd) in (refused(store.read_all, tmp_path) or "")


def test_damaged_studies_are_named(tmp_path):
    """A summary, and what an archive holds."""
    store.write_all(RUNS, tmp_path / "whole")
    summaries.write_summary(RUNS, tmp_path / "whole", SHOWN)
    packing.pack(tmp_path / "whole", tmp_path / "packed")
    for name, only in (("whole", "clusters.json"), ("packed", "*.json*")):
        expected = summaries.read(tmp_path / name)[:2]
        for number, rng in enumerate(damaging.trials(name)):
            folder = tmp_path / f"{name}{number}"
            shutil.copytree(tmp_path / name, folder)
            damaging.damage(rng.choice(sorted(folder.glob(only))), rng)
            if (sentence := refused(summaries.read, folder)) is None:
                assert summaries.read(folder)[:2] == expected
            else:
                assert str(folder) in sentence


def test_a_summary_of_another_study_is_refused(tmp_path):
    other = [run(r.variant, [9.0] * 3, task=r.task) for r in RUNS]
    for name, runs in (("one", RUNS), ("other", other)):
        store.write_all(runs, tmp_path / name)
        summaries.write_summary(runs, tmp_path / name, SHOWN)
        packing.pack(tmp_path / name, tmp_path / f"packed {name}")
    for name in ("clusters.json", "study.json"):
        folders = [tmp_path / f"{'packed ' * (name == 'study.json')}{n}" for n in ("one", "other")]
        shutil.copy(folders[1] / name, folders[0] / name)
        assert str(folders[0]) in (refused(summaries.read, folders[0]) or "")
    renamed = tmp_path / "other" / "gabor.json"
    (tmp_path / "other" / "clusters.json").rename(renamed)
    assert f"{renamed} is the summary of clusters" in (
        refused(summaries.read, renamed.parent) or ""
    )


VARIABLES = {"params": {"kernel": np.arange(600, dtype=np.float32).reshape(3, 200)},
             "batch_stats": {"mean": np.ones(4, np.float32)}}  # fmt: skip
TEMPLATE = VARIABLES


def test_damaged_checkpoints_are_named_or_the_same(tmp_path):
    whole = tmp_path / "whole"
    checksum = source_checkpoints.save_checkpoint(whole, VARIABLES)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    for number, rng in enumerate(damaging.trials("checkpoints")):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        damaging.damage_one_of(folder, rng)
        load = functools.partial(source_checkpoints.load_checkpoint, folder, TEMPLATE, checksum)
        if (sentence := refused(load)) is not None:
            assert str(folder) in sentence
        else:
            found, _ = load()
            np.testing.assert_array_equal(found["params"]["kernel"], VARIABLES["params"]["kernel"])


def test_another_checkpoint_in_its_place_is_refused(tmp_path):
    other = {**VARIABLES, "batch_stats": {"mean": np.zeros(4, np.float32)}}
    checksum = source_checkpoints.save_checkpoint(tmp_path / "a", VARIABLES)
    source_checkpoints.save_checkpoint(tmp_path / "b", other)
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    with pytest.raises(UserError, match="a is not the one that was recorded: delete the folder"):
        source_checkpoints.load_checkpoint(tmp_path / "a", TEMPLATE, checksum)
    source_checkpoints.load_checkpoint(tmp_path / "a", TEMPLATE)  # of which nothing was recorded
    source_checkpoints.load_checkpoint(tmp_path / "c", TEMPLATE, checksum)


def test_a_checkpoint_stays_until_the_new_one_is_there(tmp_path, monkeypatch):
    checksum = source_checkpoints.save_checkpoint(tmp_path / "a", VARIABLES)

    def full(*_):
        raise ValueError("RESOURCE_EXHAUSTED\nand more")

    monkeypatch.setattr(source_checkpoints, "_save", full)
    vouching = tmp_path / "record"
    vouching.write_text("")
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*a \(RESOURCE_EXHAUSTED\)"):
        source_checkpoints.save_checkpoint(tmp_path / "a", TEMPLATE, vouching)
    assert vouching.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "record"}
    source_checkpoints.load_checkpoint(tmp_path / "a", TEMPLATE, checksum)


def test_damaged_states_are_named(tmp_path):
    for number, rng in enumerate(damaging.trials("states")):
        file = tmp_path / f"{number}.npz"
        Unfinished(file).save(3, VARIABLES, {"curves": {"a": [1.0]}})
        damaging.damage(file, rng)
        if (sentence := refused(Unfinished(file).load, TEMPLATE)) is None:
            number, found, log = Unfinished(file).load(TEMPLATE) or (0, {}, {})
            assert (number, log) == (3, {"curves": {"a": [1.0]}})
            np.testing.assert_array_equal(found["params"]["kernel"], VARIABLES["params"]["kernel"])
        else:
            assert str(file) in sentence
        refused(Unfinished(file).number)


def test_a_state_of_another_revision_counts_as_none(tmp_path, monkeypatch):
    state = Unfinished(tmp_path / "a.npz")
    state.save(3, VARIABLES, {})
    assert state.number() == 3
    monkeypatch.setattr(surroundings, "source", lambda: "another")
    assert state.number() == 0
    assert state.load(TEMPLATE) is None


def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20, dtype=np.int32), 2)
    images = rng.integers(0, 256, (40, 4, 4, 3), np.uint8)
    return Arrays(images, labels, images, labels, np.arange(20, dtype=np.int32) // 5)


def test_damaged_caches_are_not_taken(tmp_path):
    """Not even where the superclasses alone are damaged, or another cache lies in the place."""
    whole = arrays()
    for number, rng in enumerate(damaging.trials("caches")):
        place = tmp_path / str(number)
        assert stored.write_cache(place, whole, stored.fingerprint(whole))
        if rng.randrange(2):
            damaging.damage(place / "superclass.npy", rng)
        else:
            damaging.damage_one_of(place, rng)
        if (found := stored.read_cache(place)) is not None:
            assert found[1] == stored.fingerprint(whole)
            assert all(np.array_equal(a, b) for a, b in zip(found[0], whole, strict=True))
    stored.write_cache(tmp_path / "a", whole, stored.fingerprint(whole))
    content = bytearray((tmp_path / "a" / "superclass.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a" / "superclass.npy").write_bytes(content)
    assert stored.read_cache(tmp_path / "a") is None
    stored.write_cache(tmp_path / "a", whole, stored.fingerprint(whole))
    assert stored.read_cache(tmp_path / "a") is not None
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert stored.read_cache(tmp_path / "b") is None
    (tmp_path / "a" / "superclass.npy").unlink()
    os.mkfifo(tmp_path / "a" / "superclass.npy")
    assert stored.read_cache(tmp_path / "a") is None


def test_the_fingerprint_of_images_is_as_it_was():
    """Recorded with every run, so that it must never change; by NumPy and hashlib alone."""
    whole = arrays()
    content = b"".join(array.tobytes() for array in whole[:4])
    assert stored.fingerprint(whole) == hashlib.sha256(content).hexdigest()[:12]


# Writing


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    store.check_writable(tmp_path, "banks")
    done = subprocess.run(
        [sys.executable, "-c", f"""
import functools
import hashlib
import os
from jaxinit import whole_files
for name in ("runs/a.json", "banks/b.npz"):
    open(whole_files.partial("{tmp_path}/" + name), "w")
os.mkdir(whole_files.partial("{tmp_path}/banks/c"))
os.kill(os.getpid(), 9)
"""], check=False)  # fmt: skip
    assert done.returncode == -9
    assert len(list(tmp_path.rglob(".*.partial"))) == 3
    mine = whole_files.partial(tmp_path / "runs" / "mine.json")
    others = [mine, tmp_path / "runs" / ".x.00000000-1.partial", tmp_path / "runs" / ".hidden"]
    for file in others:
        file.write_text("")
    store.check_writable(tmp_path, "banks")
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(others)


def test_who_writes_a_file_is_known_beyond_its_hosts_name_and_its_number(tmp_path):
    """Containers share host names, numbers are given again, and machines are started anew."""
    *front, number, began, _ = whole_files.partial(tmp_path / "a").name.replace("-", ".").split(".")
    assert int(number) == os.getpid()
    assert began == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    here = ".".join(front)
    other = f".a.{zlib.crc32(socket.gethostname().encode()):08x}"  # the same name elsewhere
    names = {
        f"{here}-{number}-{began}": True,
        f"{here}-{number}-1": False,
        f"{here}-1-{10**12}": False,
        f"{other}-{2**22}-1": True,
        f"{other}-{2**22}": True,
        f"{other}-{number}-2": False,
    }
    files = {tmp_path / f"{name}.partial": stays for name, stays in names.items()}
    for file in files:
        file.write_text("")
    yesterday = time.time() - 90_000
    os.utime(list(files)[-1], (yesterday, yesterday))
    whole_files.clean(tmp_path)
    assert [file for file, stays in files.items() if stays] == sorted(
        tmp_path.iterdir(), key=list(files).index
    )


def test_a_cache_that_a_killed_process_left_half_written_is_removed(tmp_path):
    mine = whole_files.partial(tmp_path / "a")
    mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")).mkdir()
    assert stored.write_cache(tmp_path / "b", arrays(), "0" * 12)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_that_another_process_removes_is_made_again(tmp_path, monkeypatch):
    target, make, left = tmp_path / "unfinished" / "state.npz", Path.mkdir, [3]

    def removed(folder, **options):
        make(folder, **options)
        left[0] -= 1
        if left[0] >= 0:
            folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", removed)
    assert files.write_bytes(b"x", target).read_bytes() == b"x"


def test_saving_keeps_links_and_modes(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    files.write_text("one", target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~_umask()
    target.chmod(0o640)
    link.symlink_to(target)
    files.write_text("two", link)
    assert link.is_symlink()
    assert target.read_text() == "two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_figure_is_written_whole_or_stays(tmp_path, monkeypatch):
    figure = matplotlib.figure.Figure()
    kept = style.save(figure, tmp_path, "a")
    before = [file.read_bytes() for file in kept]
    monkeypatch.setattr(os, "replace", _full)
    with pytest.raises(UserError, match="free some space"):
        style.save(figure, tmp_path, "a")
    assert [file.read_bytes() for file in kept] == before
    assert len(list(tmp_path.iterdir())) == 2


def _full(*_):
    raise OSError(28, "No space left on device")


LIMITED = """
import resource, sys, time
from pathlib import Path
import jax, numpy as np
from experiments.cli.errors import exit_status
from experiments.runs import source_checkpoints
from experiments.training.unfinished import Unfinished
from jaxinit import banks
variables = {"params": {str(i): np.random.default_rng(i).normal(size=(200, 200)).astype("f")
                        for i in range(20)}}
limit, folder = int(sys.argv[2]), Path(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
start = time.monotonic()
try:
    with exit_status():
        if sys.argv[1] == "checkpoint":
            source_checkpoints.save_checkpoint(folder / "a", variables)
        elif sys.argv[1] == "room":
            source_checkpoints.check_room(folder, variables, 10**9)
        elif sys.argv[1] == "state":
            Unfinished(folder / "a.npz").save(1, variables, {})
finally:
    assert time.monotonic() - start < 10
"""


@pytest.mark.parametrize("what", ["checkpoint", "state", "room"])
def test_what_cannot_be_written_ends_in_a_sentence(tmp_path, what):
    """Where the system allows files of a megabyte only; in a process of its own, all it says."""
    assert resource.RLIMIT_FSIZE is not None
    command = [sys.executable, "-c", LIMITED, what, str(10**6), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path) in line
    assert ("ulimit" in line) == (what != "room")
    assert list(tmp_path.iterdir()) == []
