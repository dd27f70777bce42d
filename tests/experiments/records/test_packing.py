"""A finished study in few files: nothing is lost, and all that reads a study reads it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import archive as command
from experiments import evidence, report
from experiments.cli.errors import UserError
from experiments.records import packing, store, summaries
from experiments.records.run_record import RunRecord
from experiments.records.shown import Family, Figure, Shown
from tests.experiments.small import run, sealed

ROOT = Path(__file__).parents[3]
LABELS = {"random": "Random", "gabor-1": "Gabor"}
SHOWN = Shown(
    labels=LABELS,
    figures=(Figure("figure7", "Layers of Gabor filters", tuple(LABELS)),),
    authors={"random": "random_model"},
    baseline="random",
    families=(Family("all", "Against Random", [("Gabor", "gabor-1", "random")]),),
    subtitle="CIFAR-100: 2 pairs × 1 seed a variant",
)


def runs() -> list[RunRecord]:
    return [
        run(
            variant,
            [value, value + task / 3, float("nan") if task == 3 else value],
            task=f"pair-1-{task}",
            experiment="gabor",
            environment={"device": "cpu", "jax": f"0.{task}", "date": f"day {task}"},
            stopped="the loss is not finite in epoch 3" if task == 3 else None,
        )
        for variant, value in (("random", 50), ("gabor-1", 60.0))
        for task in (2, 3, 4)
    ]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "working" / "gabor"
    store.write_all(runs(), folder)
    summaries.write_summary(runs(), folder, SHOWN)
    (folder / "banks").mkdir()
    for name in ("figure7.png", "figure7.svg", "gabor.md", "evidence.md", "banks/k3.npz",
                 "norms.json", "PLAN.md"):  # fmt: skip
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def packed(folder, tmp_path):
    packing.pack(folder, tmp_path / "archive" / "gabor")
    return tmp_path / "archive" / "gabor"


def test_an_archive_holds_every_run_as_its_file_had_it(folder, packed):
    names = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()}
    kept = {"figure7.png", "banks/k3.npz", "norms.json", "PLAN.md"}
    assert names == {"runs.jsonl", "study.json", *kept}
    lines = (packed / "runs.jsonl").read_text().splitlines(keepends=True)
    assert sorted(lines) == sorted(file.read_text() for file in folder.glob("runs/*.json"))
    assert store.read_all(packed) == store.read_all(folder)
    study = json.loads((packed / "study.json").read_text())
    named = {"experiment", "procedural", "shown", "runs", "runs_checksum"}
    assert study.keys() == named | {"schema_version", "checksum"}
    assert (study["experiment"], study["procedural"]) == ("gabor", False)
    shown, read, _ = summaries.read(packed)
    assert shown == SHOWN
    assert read == runs()  # in the order of the summary, each with its own environment


def test_all_that_reads_a_study_reads_both_forms_alike(folder, packed, tmp_path):
    pages = []
    for number, place in enumerate((folder, packed)):
        out = tmp_path / f"out{number}"
        evidence.write(place, out)
        report.write(place.parent, out)
        pages.append([(out / name).read_text() for name in ("evidence.md", "report.md")])
        pages[-1].append((out / "gabor-figure7.svg").read_bytes())
        script = [sys.executable, str(ROOT / "results" / "plot.py"), str(place)]
        done = subprocess.run([*script, str(out / "x.png")], capture_output=True, text=True)
        pages[-1].append(done.stdout)
        assert done.returncode == 0, done.stderr
    assert pages[0] == pages[1]
    assert "| Gabor |" in pages[0][1]


def test_a_study_goes_on_from_its_archive(packed):
    first, *_ = runs()
    names = ("gabor", first.variant, first.task, first.seed)
    assert store.find(packed, *names, first.settings) == first
    assert store.find(packed, "gabor", "random", "pair-8-9", 0, first.settings) is None
    with pytest.raises(UserError, match=r"runs\.jsonl was recorded with other settings .lr is"):
        store.find(packed, *names, {**first.settings, "lr": 1.0})
    assert store.identity(first.settings, first.task, 0) in store.by_identity(
        packed.parent / "new", beside=True
    )
    # What is run again or added is a file, which counts.
    store.check_writable(packed)
    again = dataclasses.replace(first, wall_seconds=9.0)
    more = dataclasses.replace(first, task="pair-8-9")
    store.write_all([again, more], packed)
    assert store.find(packed, *names, first.settings) == again
    assert len(store.read_all(packed)) == len(runs()) + 1
    assert summaries.read(packed).runs == runs()  # until the experiment has written its summary
    summaries.write_summary([again, more], packed, SHOWN)
    assert summaries.read(packed).runs == [again, more]


def test_an_archive_can_be_packed_again(packed, tmp_path):
    packing.pack(packed, tmp_path / "second")
    for name in ("runs.jsonl", "study.json", "banks/k3.npz"):
        assert (tmp_path / "second" / name).read_bytes() == (packed / name).read_bytes()


def test_source_models_have_runs_alone(tmp_path):
    record = run("source", [1.0], experiment="pretrain")
    store.write(record, tmp_path / "sources")
    written = packing.pack(tmp_path / "sources", tmp_path / "packed")
    assert written == [tmp_path / "packed" / "runs.jsonl"]
    assert store.read_all(tmp_path / "packed") == [record]


def test_what_cannot_be_packed_gets_a_sentence_and_leaves_nothing(folder, tmp_path, capsys):
    target = tmp_path / "target"

    def refused(words, source=folder, destination=target):
        with pytest.raises(SystemExit, match="2"):
            command.main([str(source), str(destination)])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert words in line
        assert not target.exists()
        assert not list(tmp_path.glob(".*"))

    refused("holds no runs: give the --output", tmp_path / "nothing")
    refused("is not empty: give another folder", destination=folder)
    refused("cannot write to the output folder", destination=Path("/dev/null/x"))
    (first, *_) = sorted(folder.glob("runs/*.json"))
    whole = first.read_text()
    for damage, words in (
        ("{", "is not JSON"),
        (whole.replace("60.0", "61.0", 1), "does not match its checksum"),
        (sealed(whole.replace('"seed": 0', '"seed": "0"')), "is not valid (seed is '0'"),
        (sealed(whole.replace('"seed": 0', '"seed": 0, "colour": 1')), "it has unknown colour"),
        (sealed(whole.replace("60.0", "61.0", 1)), "gabor.json has another gabor.gabor-1.pair-1-2"),
        (sealed(whole.replace("cifar100", "procedural")), "holds the run gabor-procedural.gabor"),
    ):
        first.write_text(damage)
        refused(words)
    first.unlink()
    refused("has runs only in its summary (gabor.gabor-1.pair-1-2.seed-0.json)")
    first.write_text(whole)
    store.write(run("random", [1.0], experiment="gabor", task="pair-8-9"), folder)
    refused("has runs not in its summary (gabor.random.pair-8-9.seed-0.json)")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("runs.jsonl", lambda text: text[:-20], "line 6 of .* is not JSON"),
        (
            "runs.jsonl",
            lambda text: text + text.splitlines()[0],
            "line 7 of .* is a second run called",
        ),
        (
            "runs.jsonl",
            lambda text: sealed(text.replace('"seed": 0', '"seed": true')),
            "line 1 of .* is not valid",
        ),
        (
            "runs.jsonl",
            lambda text: sealed(text.replace('"gabor"', '"other"')),
            "has no run of gabor",
        ),
        ("runs.jsonl", lambda text: "".join(text.splitlines(True)[:4]), "has 4 runs of the 6"),
        ("runs.jsonl", lambda text: sealed(text.replace("50", "51")), "is not the one that study"),
        ("study.json", lambda text: "[]", "has no schema_version"),
        ("study.json", lambda text: sealed(text.replace('"shown"', '"said"')), "is not a summary"),
        ("study.json", lambda text: sealed(text.replace('"labels"', '"names"')), "it lacks labels"),
    ],
)
def test_a_damaged_archive_is_named(packed, file, change, words):
    path = packed / file
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=words) as caught:
        evidence.write(packed, packed)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
