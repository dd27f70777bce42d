"""The machinery of an experiment: resume, refuse, carry over; and pretraining with checkpoints."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli import processes
from experiments.cli.errors import UserError
from experiments.data.tasks import check_pairs, pair_task, sample
from experiments.records import store, surroundings
from experiments.runs import protocol, side_by_side, source_checkpoints
from experiments.runs.evaluation import Evaluation
from experiments.runs.runner import Runner
from experiments.runs.sources import SourceModels, Sources
from experiments.runs.variants import Variant
from experiments.study import starts
from experiments.training import networks, unfinished
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer
from jaxinit import catalogue, initializers
from tests.experiments.small import make_dataset
from tests.small import SmallNetwork

SETTINGS = Training(epochs=2, batch_size=64)
SOURCES = Sources(sources=1, source_epochs=1, source_schedule="constant")


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(
        networks, "make_network", lambda classes, settings: SmallNetwork(classes=classes)
    )


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(superclasses=10)


def spoiled(key, params, *, network=None):
    del key, network
    return jax.tree.map(lambda leaf: leaf * jnp.nan, params)


def make_runner(
    dataset, folder, settings=SETTINGS, variants=("random", "scaled"), name="trial", **changed
):
    known = {
        name: Variant(name, name, lambda made=made: made, {"kind": name})
        for name, made in (
            ("random", initializers.unchanged()),
            ("scaled", initializers.scaled(0.5)),
            ("sick", spoiled),
        )
    }
    usual = Evaluation(pairs=((0, 1), (2, 3)), seeds=1, output=str(folder / "out"))
    evaluation = dataclasses.replace(usual, **changed)
    return Runner(name, [known[v] for v in variants], dataset, settings, evaluation)


def note_training(monkeypatch):
    """Returns a list that every run goes into as it is trained."""
    trained = []
    real = side_by_side.train_runs

    def noting(trainer, runs, *rest, **options):
        trained.extend(runs)
        return real(trainer, runs, *rest, **options)

    monkeypatch.setattr(side_by_side, "train_runs", noting)
    return trained


def curves(records):
    return {(r.variant, r.task, r.seed): r.curves for r in records}


def test_every_run_is_recorded_with_all_that_decides_it(dataset, tmp_path):
    records = make_runner(dataset, tmp_path).run()
    assert [(r.variant, r.task) for r in records] == [
        ("random", "pair-0-1"), ("scaled", "pair-0-1"),
        ("random", "pair-2-3"), ("scaled", "pair-2-3"),
    ]  # fmt: skip
    assert {r.variant for r in store.read_all(tmp_path / "out")} == {"random", "scaled"}
    settings = records[1].settings
    assert settings["data_set"] == "procedural"
    assert settings["data_fingerprint"] == dataset.fingerprint
    assert settings["network"] == "resnet18"
    # A stem that is not frozen goes without saying: runs before there was that switch are the same.
    said = {"network": "resnet18", "freeze_stem": False, **settings["training"]}
    assert said == dataclasses.asdict(SETTINGS)
    assert settings["initializer"] == {"kind": "scaled"}
    assert len(records[0].curves["val_acc_top1"]) == 2
    assert records[0].wall_seconds > 0


def test_an_interrupted_experiment_trains_only_what_is_missing(dataset, tmp_path, monkeypatch):
    whole = make_runner(dataset, tmp_path / "whole").run()
    part = make_runner(dataset, tmp_path / "part", variants=("random",)).run()
    trained = note_training(monkeypatch)
    both = make_runner(dataset, tmp_path / "part").run()
    assert {run.variant for run in trained} == {"scaled"}
    assert curves(both) == curves(whole)
    assert all(record in both for record in part)


def test_what_another_experiment_has_trained_is_taken_over(dataset, tmp_path, monkeypatch):
    one, two, three, four = (str(tmp_path / name) for name in ("one", "two", "three", "four"))
    make_runner(dataset, tmp_path, variants=("random",), output=one).run()
    trained = note_training(monkeypatch)
    options = {"variants": ("scaled", "random"), "output": two}
    records = make_runner(dataset, tmp_path, **options, take_over=True, name="another").run()
    assert {run.variant for run in trained} == {"scaled"}
    assert {record.experiment for record in records} == {"another"}
    assert curves(store.read_all(two)) == curves(records)
    # Not with other settings, and not where told to train again.
    shorter = dataclasses.replace(SETTINGS, epochs=1)
    options = {"variants": ("random",), "take_over": True}
    make_runner(dataset, tmp_path, shorter, **options, output=three).run()
    make_runner(dataset, tmp_path, **options, output=four, overwrite=True).run()
    assert len(trained) == 2 + 2 + 2
    # Nor unasked; what is broken beside is no matter.
    (tmp_path / "one" / "runs" / "x.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "one" / "runs" / "pipe.json")
    make_runner(dataset, tmp_path, variants=("random",), output=str(tmp_path / "five")).run()
    assert len(trained) == 2 + 2 + 2 + 2
    six = make_runner(dataset, tmp_path, **options, output=str(tmp_path / "six"))
    assert six.work() == {}
    six.run()
    assert len(trained) == 2 + 2 + 2 + 2


def test_runs_at_once_do_not_change_the_runs(dataset, tmp_path):
    alone = curves(make_runner(dataset, tmp_path / "alone", runs_at_once=1).run())
    together = curves(make_runner(dataset, tmp_path / "together", runs_at_once=3).run())
    assert alone.keys() == together.keys()
    for key, values in alone.items():
        losses = [np.asarray(c["train_loss"], float) for c in (values, together[key])]
        np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.parametrize("protocol", ["fresh", "sequential"])
def test_a_resumed_experiment_has_the_bits_of_an_uninterrupted_one(
    dataset, tmp_path, monkeypatch, protocol
):
    """Whatever is left of a group is trained by the program of whole groups."""
    options = {"pairs": ((0, 1), (2, 3), (4, 5)), "runs_at_once": 4, "protocol": protocol}
    whole = make_runner(dataset, tmp_path / "whole", **options, seeds=2).run()
    first = make_runner(dataset, tmp_path / "part", **options, seeds=2)
    write, left = store.write_all, [2]  # two groups are recorded

    def killed(records, folder):
        write(records, folder)
        left[0] -= bool(records)
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_all", killed)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    monkeypatch.setattr(store, "write_all", write)
    runs = tmp_path / "part" / "out" / "runs"
    if protocol == "fresh":
        next(runs.glob("trial-procedural.scaled.*.json")).unlink()  # a hole within a group
    before = len(list(runs.iterdir()))
    trained = note_training(monkeypatch)
    resumed = make_runner(dataset, tmp_path / "part", **options, seeds=2).run()
    assert curves(resumed) == curves(whole)
    assert {r.environment["places"] for r in resumed} == {4}
    # Of a chain the run after which it was killed is trained again, and none before.
    again = 4 if protocol == "sequential" else 0
    assert len(trained) == 12 - before + again
    assert [path.name for path in runs.parent.iterdir()] == ["runs"]


@pytest.mark.parametrize("damage", ["emptied", "flipped", "of another", "deleted"])
def test_a_kept_chain_that_is_damaged_is_refused(dataset, tmp_path, monkeypatch, damage):
    options = {"variants": ("random",), "protocol": "sequential", "seeds": 2, "runs_at_once": 2}
    whole = make_runner(dataset, tmp_path / "whole", **options).run()
    save = unfinished.Unfinished.save

    def killed(*args):
        save(*args)
        if len(list((tmp_path / "part" / "out" / "unfinished").iterdir())) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(unfinished.Unfinished, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        make_runner(dataset, tmp_path / "part", **options).run()
    monkeypatch.setattr(unfinished.Unfinished, "save", save)
    one, other = sorted((tmp_path / "part" / "out" / "unfinished").iterdir())
    content = bytearray(one.read_bytes())
    if damage == "emptied":
        one.write_bytes(b"")
    elif damage == "flipped":
        content[len(content) // 3] ^= 1
        one.write_bytes(content)
    elif damage == "of another":
        one.write_bytes(other.read_bytes())
    else:
        one.unlink()
    resumed = make_runner(dataset, tmp_path / "part", **options)
    if damage == "deleted":  # the whole chain is trained again
        assert curves(resumed.run()) == curves(whole)
        return
    with pytest.raises(UserError, match=rf"unfinished run in .*{one.name} is damaged, or of an"):
        resumed.run()


def test_what_another_revision_recorded_is_mixed_only_when_told(dataset, tmp_path, monkeypatch):
    def run(**options):
        return make_runner(dataset, tmp_path, variants=("random",), **options).run()

    run(pairs=((0, 1),))
    monkeypatch.setattr(surroundings, "source", lambda: "another")
    run(pairs=((0, 1),))  # nothing is to be trained
    beside = {"output": str(tmp_path / "beside"), "take_over": True, "pairs": ((0, 1),)}
    assert len(make_runner(dataset, tmp_path, variants=("random",), **beside).work()) == 1
    with pytest.raises(UserError, match=r"pair-0-1.* was recorded by revision .*--any-revision"):
        run()
    run(any_revision=True)
    with pytest.raises(UserError, match="was recorded by revision"):
        run()


def test_what_is_to_be_trained_is_what_the_first_process_has_not_found(
    dataset, tmp_path, monkeypatch
):
    """Between its look and another's a command that is not joined may have recorded some."""
    models = SourceModels(dataset, SETTINGS, dataclasses.replace(SOURCES, models_dir=str(tmp_path)))
    own = make_runner(dataset, tmp_path, variants=("random",))
    assert len(own.work()) == 2
    assert len(models.work()) == 1
    monkeypatch.setattr(processes, "agreed", lambda numbers: [1.0] * len(numbers))
    assert own.work() == {}
    assert models.work() == {}


def test_other_settings_of_jax_are_other_runs(dataset, tmp_path):
    make_runner(dataset, tmp_path, variants=("random",)).run()
    same = make_runner(dataset, tmp_path, variants=("random",))
    with (
        jax.default_prng_impl("rbg"),
        pytest.raises(UserError, match=r"jax_default_prng_impl is not set there and rbg now"),
    ):
        same.run()
    with jax.enable_x64(True), pytest.raises(UserError, match="JAX_ENABLE_X64 is set"):
        same.run()


def test_a_streamed_experiment_records_what_the_resident_one_does(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)  # the state is saved at every chance
    kept, save = [], unfinished.Unfinished.save

    def noting(self, *state):
        save(self, *state)
        kept.extend((tmp_path / "streamed" / "out" / "unfinished").iterdir())

    monkeypatch.setattr(unfinished.Unfinished, "save", noting)
    runs = [
        make_runner(data, tmp_path / name, variants=("random",), pairs=((0, 1),)).run()[0]
        for name, data in (("resident", dataset), ("streamed", dataset._replace(stream="always")))
    ]
    assert kept
    assert runs[0].settings == runs[1].settings
    for name, values in runs[0].curves.items():
        pair = [np.asarray(own, np.float64) for own in (values, runs[1].curves[name])]
        np.testing.assert_allclose(*pair, rtol=1e-6, err_msg=name)
    assert [path.name for path in (tmp_path / "streamed" / "out").iterdir()] == ["runs"]


def test_a_task_of_all_classes(dataset, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "make_network", lambda classes, _: SmallNetwork(classes=classes))
        records = make_runner(dataset, tmp_path, whole=True, pairs=protocol.VALIDATION_PAIRS).run()
    assert {record.task for record in records} == {"all"}
    assert all(record.stopped is None for record in records)


def test_variants_are_paired_and_seeds_differ(dataset, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    got = curves(make_runner(dataset, tmp_path, settings, pairs=((0, 1),), seeds=2).run())
    first, second = got["random", "pair-0-1", 0], got["random", "pair-0-1", 1]
    assert first["train_loss"] != second["train_loss"]
    same = make_runner(dataset, tmp_path / "again", settings, pairs=((0, 1),), seeds=2).run()
    assert curves(same) == got


def test_a_start_of_images_is_given_those_of_its_own_task(dataset, tmp_path, monkeypatch):
    settings, started = dataclasses.replace(SETTINGS, epochs=1), {}
    real = Runner._start

    def noting(self, trainer, run):
        found = real(self, trainer, run)
        started[run.pair] = np.asarray(found["params"]["conv1"]["kernel"])
        return found

    monkeypatch.setattr(Runner, "_start", noting)
    whitening = starts.first_layer("patch_whitening")
    evaluation = Evaluation(pairs=((0, 1), (2, 3)), seeds=1, output=str(tmp_path / "out"))
    Runner("trial", [whitening], dataset, settings, evaluation).run()
    for pair, kernel in started.items():
        images = sample(dataset, pair_task(dataset, pair), 130, normalize=True)
        own = catalogue.start("patch_whitening", layers=1, images=images)
        key, params = protocol.run_keys(0, pair).initializer, {"conv1": {"kernel": kernel}}
        made = np.asarray(own(key, params)["conv1"]["kernel"])
        np.testing.assert_allclose(np.abs(kernel), np.abs(made), rtol=1e-3, atol=1e-4)
    assert len(started) == 2


def test_records_of_other_settings_are_refused_and_overwritten_only_when_told(dataset, tmp_path):
    make_runner(dataset, tmp_path, variants=("random",)).run()
    other = dataclasses.replace(SETTINGS, learning_rate=0.1)
    with pytest.raises(UserError, match=r"learning_rate is 0\.01 there and 0\.1 now"):
        make_runner(dataset, tmp_path, other, variants=("random",)).run()
    records = make_runner(dataset, tmp_path, other, variants=("random",), overwrite=True).run()
    assert records[0].settings["training"]["learning_rate"] == 0.1


def test_a_run_that_is_not_finite_is_recorded_and_the_others_go_on(dataset, tmp_path, capsys):
    records = make_runner(dataset, tmp_path, variants=("sick", "random"), runs_at_once=4).run()
    stopped = {r.variant: r.stopped for r in records}
    assert stopped["sick"] is not None
    assert "not finite in epoch 1" in stopped["sick"]
    assert stopped["random"] is None
    assert "sick pair-0-1 seed 0 stopped" in capsys.readouterr().err


def test_sequential_runs_carry_over_and_fresh_ones_do_not(dataset, tmp_path):
    fresh = curves(make_runner(dataset, tmp_path / "f", variants=("random",)).run())
    carried = curves(
        make_runner(dataset, tmp_path / "s", variants=("random",), protocol="sequential").run()
    )
    first, second = ("random", "pair-0-1", 0), ("random", "pair-2-3", 0)
    assert fresh[first] == carried[first]
    assert fresh[second] != carried[second]
    # The second task starts from what the first left behind, written out:
    keys = [protocol.run_keys(0, pair) for pair in ((0, 1), (2, 3))]
    trainer = Trainer(dataset, SETTINGS, 10)
    tasks = [pair_task(dataset, pair) for pair in ((0, 1), (2, 3))]
    variables = [trainer.init_variables(keys[0].network)]
    _, variables = trainer.train(tasks[:1], variables, [keys[0].training])
    (last,), _ = trainer.train(tasks[1:], variables, [keys[1].training])
    assert last.values == carried[second]


def test_sequential_trains_a_broken_chain_again(dataset, tmp_path):
    make = lambda: make_runner(dataset, tmp_path, variants=("random",), protocol="sequential")  # noqa: E731
    whole = curves(make().run())
    (tmp_path / "out" / "runs" / "trial-procedural.random.pair-2-3.seed-0.json").unlink()
    assert curves(make().run()) == whole


def test_pairs_that_the_data_lack_get_a_sentence(dataset):
    with pytest.raises(UserError, match=r"pair 8-10 is out of range: .* superclasses 0 to 9"):
        check_pairs([(0, 1), (8, 10)], dataset)


def test_sources_are_trained_once_and_reused(dataset, tmp_path, monkeypatch):
    settings = dataclasses.replace(SOURCES, models_dir=str(tmp_path))
    first = SourceModels(dataset, SETTINGS, settings).load()
    monkeypatch.setattr(side_by_side, "train_runs", None)  # nothing may be trained now
    again = SourceModels(dataset, SETTINGS, settings).load()
    assert [s.name for s in first] == [s.name for s in again]
    jax.tree.map(np.testing.assert_array_equal, first[0].load(), again[0].load())
    stored = again[0].stored_params()
    assert all(not hasattr(leaf, "nbytes") for leaf in jax.tree.leaves(stored))  # not read yet
    jax.tree.map(np.testing.assert_array_equal, first[0].load()["params"], stored)


def test_only_missing_sources_are_trained(dataset, tmp_path, monkeypatch):
    settings = dataclasses.replace(SOURCES, models_dir=str(tmp_path))
    SourceModels(dataset, SETTINGS, settings).load()
    trained = note_training(monkeypatch)
    more = dataclasses.replace(settings, sources=3)
    assert len(SourceModels(dataset, SETTINGS, more).load()) == 3
    assert [run.pair for run in trained] == list(protocol.source_pairs(3, 5)[1:])


def test_sources_of_other_settings_live_elsewhere(dataset, tmp_path):
    one = dataclasses.replace(SOURCES, models_dir=str(tmp_path))
    two = dataclasses.replace(one, source_epochs=2)
    other_data = dataset._replace(fingerprint="ffffffffffff")
    folders = {
        SourceModels(dataset, SETTINGS, one).folder,
        SourceModels(dataset, SETTINGS, two).folder,
        SourceModels(dataset, dataclasses.replace(SETTINGS, momentum=0.5), one).folder,
        SourceModels(other_data, SETTINGS, one).folder,
    }
    assert len(folders) == 4
    # The epochs of the evaluation say nothing about the source models.
    longer = dataclasses.replace(SETTINGS, epochs=9)
    assert SourceModels(dataset, longer, one).folder in folders


def test_a_damaged_checkpoint_gets_a_sentence(dataset, tmp_path):
    settings = dataclasses.replace(SOURCES, models_dir=str(tmp_path))
    sources = SourceModels(dataset, SETTINGS, settings)
    sources.load()
    for root, _, files in os.walk(sources.folder / "checkpoints"):
        for name in files:
            path = os.path.join(root, name)
            os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(UserError, match=r"checkpoint .* is damaged or of another network: delete"):
        sources.load()


def test_a_checkpoint_of_another_network_gets_a_sentence(tmp_path):
    source_checkpoints.save_checkpoint(tmp_path / "c", {"params": {"kernel": jnp.ones((3, 4))}})
    other = {"params": {"kernel": jax.ShapeDtypeStruct((3, 5), jnp.float32)}}
    with pytest.raises(UserError, match="another network"):
        source_checkpoints.load_checkpoint(tmp_path / "c", other)


def test_a_checkpoint_that_is_not_finite_gets_a_sentence(tmp_path):
    source_checkpoints.save_checkpoint(
        tmp_path / "c", {"params": {"kernel": jnp.full((3, 4), jnp.nan)}}
    )
    same = {"params": {"kernel": jax.ShapeDtypeStruct((3, 4), jnp.float32)}}
    with pytest.raises(UserError, match="not finite"):
        source_checkpoints.load_checkpoint(tmp_path / "c", same)


def test_a_source_that_does_not_train_gets_a_sentence(dataset, tmp_path):
    settings = dataclasses.replace(SOURCES, models_dir=str(tmp_path))
    wild = dataclasses.replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(UserError, match="cannot be used, as the loss is not finite"):
        SourceModels(dataset, wild, settings).load()


def test_an_output_folder_that_is_a_file_gets_a_sentence(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the output folder"):
        make_runner(dataset, tmp_path / "file").run()


def test_settings_hash_is_of_json(dataset, tmp_path):
    """What names the folder can be written down and read back unchanged."""
    sources = SourceModels(
        dataset, SETTINGS, dataclasses.replace(SOURCES, models_dir=str(tmp_path))
    )
    assert json.loads(json.dumps(sources._settings)) == sources._settings
