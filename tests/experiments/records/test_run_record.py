"""The schema of recorded runs, read by others' programs: jsonschema, and pandas by the example."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.records import checksums, files, run_record, schema, store, summaries
from experiments.records.run_record import RunRecord

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads(
    (ROOT / "experiments" / "records" / "run.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
ARCHIVES = sorted(path.parent for path in ROOT.glob("results/**/runs.jsonl"))


def record(variant="random", seed=0, value=50.0):
    names = (*run_record.METRICS, "learning_rate")
    curves: dict[str, list[float | None]] = {name: [value, value + 1] for name in names}
    return RunRecord(
        experiment="gabor",
        variant=variant,
        task="pair-10-11",
        seed=seed,
        settings={"data_set": "cifar100", "protocol": "fresh"},
        curves={**curves, "train_loss": [np.inf, 1.0]},
        stopped=None,
        environment=run_record.environment(),
        wall_seconds=1.5,
    )


def test_the_schema_is_one_and_that_of_the_model():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), "run the module"
    assert SCHEMA["properties"]["schema_version"]["enum"][-1] == files.SCHEMA_VERSION


def test_what_is_written_is_as_the_schema_says(tmp_path):
    VALIDATOR.validate(json.loads(store.write(record(), tmp_path).read_text()))


@pytest.mark.parametrize("folder", ARCHIVES, ids=lambda path: path.name)
def test_recorded_results_are_as_the_schema_says(folder):
    """All are read; the other program takes a line of each, as it takes its time."""
    first, *_ = store.lines(folder).read_text(encoding="utf-8").split("\n")
    VALIDATOR.validate(json.loads(first))
    records = store.read_all(folder)
    assert records
    if (folder / summaries.STUDY).exists():
        study = summaries.read(folder)
        assert len(study.runs) == len(records)
        assert study.showing().labels.keys() >= {record.variant for record in records}


def test_no_recorded_run_is_missing():
    assert len(ARCHIVES) >= 32
    assert sum(len(store.read_all(folder)) for folder in ARCHIVES) >= 785
    assert not list(ROOT.glob("results/**/runs/*.json"))


@pytest.mark.parametrize(
    "damage",
    [
        {"schema_version": 1},
        {"schema_version": 3},
        {"experiment": 3},
        {"task": "a.b"},
        {"variant": "../x"},
        {"seed": "0"},
        {"settings": {}},
        {"settings": {"data_set": "cifar100", "protocol": "other"}},
        {"curves": {"train_loss": [1.0]}},
        {"curves": {name: ["1"] for name in (*run_record.METRICS, "learning_rate")}},
        {"stopped": 1},
        {"wall_seconds": None},
        {"more": 1},
    ],
)
def test_the_reader_refuses_what_the_schema_does(tmp_path, damage):
    file = store.write(record(), tmp_path)
    data = json.loads(file.read_text()) | damage
    assert not VALIDATOR.is_valid(data)
    data["checksum"] = checksums.of_json(data)
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match="run"):
        store.read(file)


def test_the_example_needs_no_jaxinit(tmp_path):
    """In a process where importing jax or anything of this project fails."""
    for variant, value in (("random", 50.0), ("gabor-1", 60.0)):
        store.write_all([record(variant, seed, value + seed) for seed in range(2)], tmp_path)
    block = "import sys; sys.modules.update(dict.fromkeys(['jax', 'jaxinit', 'experiments']));"
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    picture, script = tmp_path / "curves.png", str(ROOT / "results" / "plot.py")
    code = f"{block} sys.argv = {[script, str(tmp_path), str(picture)]!r}; {run}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 10_000
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[2:]}
    assert rows == {"gabor-1": ["2", "61.5", "0.7"], "random": ["2", "51.5", "0.7"]}


def test_the_example_without_runs_says_so(tmp_path):
    command = [sys.executable, str(ROOT / "results" / "plot.py"), str(tmp_path), "x.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"no runs in {tmp_path}: give the folder of an experiment\n"
