import dataclasses
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from experiments.cli.errors import UserError
from experiments.records import checksums, run_record, store, strict
from experiments.records.run_record import RunRecord

NAMES = ("clusters", "euclidean-k3", "pair-10-14", 2)
SETTINGS = {"data_set": "cifar100", "training": {"lr": 0.01, "batch": 128}, "pairs": [[10, 14]]}


def record(**changes) -> RunRecord:
    curves = {name: [1.0, 2.0, 3.0] for name in (*run_record.METRICS, "learning_rate")}
    fields = {
        "experiment": NAMES[0],
        "variant": NAMES[1],
        "task": NAMES[2],
        "seed": NAMES[3],
        "settings": SETTINGS,
        "curves": curves,
        "stopped": None,
        "environment": {"device": "cpu"},
        "wall_seconds": 1.5,
    }
    return RunRecord(**{**fields, **changes})


def without_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_reads_back_as_it_was_written(tmp_path):
    written = store.write(record(), tmp_path)
    assert written == store.path(tmp_path, *NAMES)
    assert written == tmp_path / "runs" / "clusters.euclidean-k3.pair-10-14.seed-2.json"
    assert store.read(written) == record()
    assert [p.name for p in written.parent.iterdir()] == [written.name]


def test_arrays_and_numbers_that_are_not_finite_become_json(tmp_path):
    curves: dict[str, Any] = dict(record().curves)
    curves["val_loss"] = jnp.array([0.5, jnp.nan, jnp.inf])
    curves["train_loss"] = [np.float32(0.25), np.float64(-np.inf), 1]
    original = record(
        curves=curves, seed=np.int64(2), settings={**SETTINGS, "layers": (1, 2), 3: np.int8(4)}
    )
    assert original.curves["val_loss"] == [0.5, None, None]
    assert original.curves["train_loss"] == [0.25, None, 1]
    text = store.write(original, tmp_path).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["settings"] == {**SETTINGS, "layers": [1, 2], "3": 4}
    assert store.read_all(tmp_path) == [original]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": "2"}, "seed is '2', and should be a valid integer"),
        ({"seed": True}, "seed is True, and should be a valid integer"),
        ({"wall_seconds": None}, "wall_seconds is None, and should be a valid number"),
        ({"stopped": 3}, "stopped is 3, and should be a valid string"),
        ({"variant": "a/b"}, "variant 'a/b' cannot be part of a file name"),
        ({"task": "a.b"}, "task 'a.b' cannot be part of a file name"),
        ({"task": "../x"}, "cannot be part of a file name"),
        ({"settings": {}}, "it lacks settings.data_set"),
        ({"settings": {"data_set": "cifar100", "f": open}}, "cannot be written as JSON"),
        ({"settings": {**SETTINGS, "training": "slow"}}, "settings.training is 'slow', and should"),
        ({"curves": {"val_loss": [1.0]}}, "curves lack train_loss, train_acc_top1"),
        (
            {"curves": {**record().curves, "val_loss": [1.0]}},
            "differ in length: learning_rate has 3, val_loss has 1",
        ),
        ({"curves": {**record().curves, "val_loss": ["1", 2, 3]}}, "curves.val_loss.0 is '1', and"),
        ({"curves": {**record().curves, "val_loss": [True, 2, 3]}}, "curves.val_loss.0 is True"),
        ({"colour": 1}, "it has unknown colour"),
    ],
)
def test_a_bad_record_is_refused(changes, sentence):
    with pytest.raises(ValidationError) as caught:
        record(**changes)
    assert re.search(sentence, strict.sentence(caught.value))
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: "{", "is not JSON"),
        (lambda d: "[1]", "no schema_version"),
        (lambda d: {k: v for k, v in d.items() if k != "schema_version"}, "no schema_version"),
        (lambda d: d | {"schema_version": 3}, "has schema version 3, and this reads 1 to 2"),
        (lambda d: d | {"wall_seconds": 1.75}, "does not match its checksum"),
        (lambda d: {k: v for k, v in d.items() if k != "checksum"}, "not match its checksum"),
        (lambda d: {k: v for k, v in d.items() if k != "seed"}, "lacks seed"),
        (lambda d: d | {"colour": 1}, "has unknown colour"),
        (lambda d: d | {"seed": "two"}, "is not valid .seed is 'two'"),
        (lambda d: d | {"curves": None}, "is not valid .curves is None"),
        (lambda d: d | {"curves": d["curves"] | {"val_loss": [1]}}, "differ in length"),
    ],
)
def test_a_bad_file_is_named(tmp_path, change, sentence):
    path = store.write(record(), tmp_path)
    written = json.loads(path.read_text())
    changed = change(written)
    if isinstance(changed, dict) and "checksum" not in sentence:
        changed["checksum"] = checksums.of_json(changed)
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(UserError, match=sentence) as caught:
        store.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent\.json .No such file"):
        store.read(tmp_path / "absent.json")


def test_find_gives_what_is_recorded_with_these_settings(tmp_path):
    assert store.find(tmp_path, *NAMES, SETTINGS) is None
    store.write(record(), tmp_path)
    assert store.find(tmp_path, *NAMES, {**SETTINGS, "pairs": ((10, 14),)}) == record()
    assert store.find(tmp_path, *NAMES[:3], 3, SETTINGS) is None
    assert store.find(tmp_path, "layers", *NAMES[1:], SETTINGS) is None


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        (SETTINGS | {"training": {"lr": 0.1, "batch": 128}}, "training.lr is 0.01 there and 0.1 n"),
        (SETTINGS | {"extra": 1}, "extra is not set there and 1 now"),
        ({"data_set": "cifar100", "pairs": [[10, 14]]}, "training is .* there and not set now"),
        (SETTINGS | {"data_set": "procedural"}, "data_set is cifar100 there and procedural now"),
    ],
)
def test_find_names_the_first_setting_that_differs(tmp_path, settings, difference):
    path = store.write(record(), tmp_path)
    with pytest.raises(UserError, match=difference) as caught:
        store.find(tmp_path, *NAMES, settings)
    assert str(path) in str(caught.value)
    assert "use another --output, or --overwrite" in str(caught.value)


def test_procedural_runs_say_so_in_their_file_names_and_are_not_mixed(tmp_path):
    made_up = record(settings={**SETTINGS, "data_set": "procedural"})
    path = store.write(made_up, tmp_path)
    assert path.name == "clusters-procedural.euclidean-k3.pair-10-14.seed-2.json"
    assert store.find(tmp_path, *NAMES, made_up.settings) == made_up
    with pytest.raises(UserError, match="data_set is procedural there"):
        store.find(tmp_path, *NAMES, SETTINGS)
    assert run_record.output_name("figure2", [made_up]) == "figure2-procedural"
    assert run_record.output_name("figure2", [record()]) == "figure2"
    with pytest.raises(UserError, match="mix the procedural data with others"):
        run_record.is_procedural([made_up, record()])
    store.write(record(), tmp_path)  # --overwrite with other data
    assert store.read_all(tmp_path) == [record()]


def test_read_all_is_sorted_and_can_be_of_one_experiment(tmp_path):
    runs = [record(seed=s, experiment=e) for s in (1, 0) for e in ("layers", "clusters")]
    store.write_all(runs, tmp_path)
    (tmp_path / "runs" / ".half.json.1.partial").write_text("{")
    found = [(r.experiment, r.seed) for r in store.read_all(tmp_path)]
    assert found == [("clusters", 0), ("clusters", 1), ("layers", 0), ("layers", 1)]
    assert [r.seed for r in store.read_all(tmp_path, "layers")] == [0, 1]
    assert store.read_all(tmp_path / "absent") == []


def test_a_failed_write_leaves_the_older_record_and_nothing_half_written(tmp_path, monkeypatch):
    path = store.write(record(), tmp_path)
    monkeypatch.setattr(os, "fsync", without_space)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="free some space; the finished run could not be saved"):
        store.write(record(wall_seconds=9.0), tmp_path)
    monkeypatch.undo()
    assert store.read(path) == record()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_fills_up_costs_no_finished_run(tmp_path, monkeypatch):
    rescue = tmp_path / "temporary"
    rescue.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(rescue))
    original = os.replace

    def full_after_one(source, target):
        if "seed-0" not in str(target) and rescue not in Path(target).parents:
            without_space()
        original(source, target)

    monkeypatch.setattr(os, "replace", full_after_one)
    runs = [record(seed=s) for s in range(3)]
    with pytest.raises(
        UserError, match=r"No space left.*the 2 finished runs not written"
    ) as caught:
        store.write_all(runs, tmp_path / "out")
    (saved,) = rescue.iterdir()
    assert f"are in {saved}/runs" in str(caught.value)
    assert store.read_all(tmp_path / "out") == runs[:1]
    assert store.read_all(saved) == runs[1:]


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    store.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b" / "runs").iterdir()) == []


def test_check_writable_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"output folder .*file .*: choose another one"):
        store.check_writable(tmp_path / "file")


def test_environment_holds_versions_device_and_utc_date():
    found = run_record.environment()
    json.dumps(found, allow_nan=False)
    packages = {"python", "jax", "jaxlib", "flax", "optax", "jaxinit"}
    assert packages | {"device", "platform", "cpu_count", "date"} <= found.keys()
    assert found["platform"] == "cpu"
    assert found["date"].endswith("+00:00")


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().seed = 1  # type: ignore[misc]
