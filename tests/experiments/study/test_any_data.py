"""A study of data that nobody knows, from the command line to its records."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    baselines,
    clusters,
    filters,
    gabor,
    norms,
    pretrain,
    recipes,
    source_models,
    sweep,
)
from experiments.data.tasks import pair_task
from experiments.records import store
from experiments.training import networks
from experiments.training.epoch import Epoch
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer
from tests.experiments.small import make_dataset, save_folder
from tests.small import SmallNetwork

FEW = (
    "--epochs", "1", "--source-epochs", "1", "--batch-size", "4", "--runs-at-once", "6",
    "--train-images-per-class", "5",
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        networks, "make_network", lambda classes, settings: SmallNetwork(classes=classes)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight classes of grey images of 12×12, one with fewer images than the others."""
    folder = save_folder(tmp_path_factory.mktemp("data") / "shapes")
    for file in sorted((folder / "c5").iterdir())[4:]:
        file.unlink()
    return folder


def places(tmp_path):
    return ["--output", str(tmp_path / "out"), "--models-dir", str(tmp_path / "models")]


def run(module, folder, tmp_path, *argv):
    module.main([*FEW, "--dataset", str(folder), *places(tmp_path), *argv])
    return store.read_all(tmp_path / "out")


def test_a_folder_of_grey_images_trains_and_its_records_name_it(folder, tmp_path, capsys):
    """With tasks of fewer images than the others, which are trained at once with their like."""
    chosen = ("--clusters", "2", "--distances", "euclidean")
    records = run(clusters, folder, tmp_path, *chosen)
    assert {r.variant for r in records} == {"random", "pretrained", "gabor-1", "euclidean-k2"}
    assert {r.task for r in records} == {"pair-4-7", "pair-5-6"}
    settings = records[0].settings
    assert settings["data_set"] == "folder-shapes"
    assert settings["image_shape"] == [12, 12, 1]
    assert settings["groups"] == {"classes": 1, "seed": 0}
    assert str(folder) not in json.dumps([r.settings for r in records])
    assert all(r.stopped is None and r.curves["val_acc_top1"][-1] is not None for r in records)
    printed = capsys.readouterr()
    summary = (tmp_path / "out" / "clusters.json").read_text()
    assert "folder-shapes, 3 to 5 training images a class: 2 pairs × 1 seed" in summary
    assert str(folder) not in summary
    assert "1 of 8 classes have fewer than 5 training images (the smallest 3)" in printed.err
    # A second start finds all; another size or other groups are other runs.
    run(clusters, folder, tmp_path, *chosen)
    assert "8 runs recorded already, 0 to train" in capsys.readouterr().err
    for other in (("--image-size", "8"), ("--group-seed", "1")):
        with pytest.raises(SystemExit):
            run(clusters, folder, tmp_path, *chosen, *other)
        assert "was recorded with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "argv", "words"),
    [
        (baselines, ["--pairs", "0-3"], "--pairs 0-3 has classes that source models"),
        (baselines, ["--whole"], "give pairs of the groups 4 to 7"),
        (baselines, ["--pairs", "4-8"], "pair 4-8 is out of range: folder-shapes has groups 0 to"),
        (baselines, ["--sources", "7"], "--sources 7 is out of range: say 1 to 6"),
        (baselines, ["--group-classes", "4"], "8 classes in 2 groups, too few to compare on pairs"),
        (baselines, ["--group-classes", "3"], "8 classes in 2 groups, too few to compare on pairs"),
        (baselines, ["--group-classes", "4", "--whole"], "too few for source models"),
        (baselines, ["--source-dataset", "procedural"],
         "Pretrained takes whole filters of source models, of 3 channels, where the images have 1"),
        (source_models, ["--group-classes", "2", "--models", "1", "2"],
         "--models 2 is out of range: there are 1"),
    ],
)  # fmt: skip
def test_what_the_data_do_not_allow(folder, tmp_path, capsys, module, argv, words):
    with pytest.raises(SystemExit) as stop:
        run(module, folder, tmp_path, *argv)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_source_models_and_tuning_are_of_the_first_half(folder, tmp_path, capsys):
    pretrain.main([*FEW[:-4], *FEW[-2:], "--dataset", str(folder), *places(tmp_path)[2:],
                   "--preset", "paper"])  # fmt: skip
    assert len([line for line in capsys.readouterr().out.splitlines() if "%" in line]) == 6
    tuned = ("--scales", "0.5", "--rates", "3", "--starts", "random")
    records = run(sweep, folder, tmp_path, *tuned)
    assert {r.task for r in records} == {"pair-0-3"}
    best = ["--best-of", str(tmp_path / "out"), "--output", str(tmp_path / "best")]
    run(sweep, folder, tmp_path, *tuned, *best, "--pairs", "4-7")
    assert {r.task for r in store.read_all(tmp_path / "best")} == {"pair-4-7"}
    capsys.readouterr()
    # Whatever source models are of, or would be: none is used.
    run(sweep, folder, tmp_path, *tuned, *best, "--pairs", "4-7", "--source-dataset", "procedural")
    assert "2 runs recorded already, 0 to train" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(sweep, folder, tmp_path, *tuned, *best, "--pairs", "3-4")
    assert "was chosen on superclasses 0 to 3: give --pairs" in capsys.readouterr().err


def test_numbers_of_source_models_in_a_preset_are_at_most_those_there_are(folder, tmp_path):
    chosen = ("--group-classes", "2", "--clusters", "2", "--distances", "euclidean")
    records = run(source_models, folder, tmp_path, *chosen)
    assert {r.variant for r in records} == {"random", "euclidean-k2-m1"}


def test_a_question_without_source_models_runs_where_there_can_be_none(folder, tmp_path):
    chosen = ("--group-classes", "4", "--whole", "--layers", "1")
    records = run(gabor, folder, tmp_path, *chosen)
    assert {r.variant for r in records} == {"random", "gabor-1"}


def test_a_start_of_images_sees_those_of_its_own_task_whatever_else_runs(folder, tmp_path):
    """Task 5-6 has ten images, 4-7 eight."""
    start = ("--only", "patch-kmeans,1,random,0.35,1", "--output")
    curves = []
    for pairs in (["5-6"], ["4-7", "5-6"]):
        out = tmp_path / str(len(pairs))
        run(recipes, folder, tmp_path, "--pairs", *pairs, *start, str(out))
        curves.append({r.variant: r.curves for r in store.read_all(out) if r.task == "pair-5-6"})
    assert curves[0] == curves[1]


def test_pictures_and_norms_of_filters_of_one_channel(folder, tmp_path):
    run(filters, folder, tmp_path, "--shown", "1", "--clusters", "2")
    drawn = json.loads((tmp_path / "out" / "filters.json").read_text())["drawings"]["fourier"]
    assert np.shape(drawn["kernels"]["conv1"]) == (2, 8, 3, 3)  # before and after, eight filters
    assert (tmp_path / "out" / "figure10-fourier.png").stat().st_size > 5_000
    run(norms, folder, tmp_path, "--clusters", "2", "--distances", "euclidean")
    assert "(folder-shapes data)" in (tmp_path / "out" / "norms.md").read_text()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_normalisation_is_of_each_channel(channels):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, channels), np.uint8)
    mean, std = np.linspace(0.3, 0.6, channels), np.linspace(0.2, 0.4, channels)
    network: Any = SmallNetwork()
    epoch = Epoch(network, Training(), tuple(mean), tuple(std))
    expected = (images / 255 - mean) / std
    np.testing.assert_allclose(
        epoch.normalized(jnp.asarray(images)), expected, rtol=1e-5, atol=1e-6
    )
    raw = Epoch(network, Training(normalize=False), tuple(mean), tuple(std))
    np.testing.assert_allclose(raw.normalized(jnp.asarray(images)), images / 255, rtol=1e-6)


def test_images_of_four_channels_train():
    dataset = make_dataset(train_per_class=4, test_per_class=2)
    four = [np.concatenate([np.asarray(i), np.asarray(i)[..., :1]], -1) for i in dataset[2:6:2]]
    dataset = dataset._replace(
        train_images=four[0], test_images=four[1], mean=(0.5,) * 4, std=(0.25,) * 4
    )
    trainer = Trainer(dataset, Training(epochs=1, batch_size=20), 10, SmallNetwork())
    assert trainer.layers.main[0].shape[2] == 4
    task = pair_task(dataset, (0, 1))
    start = trainer.init_variables(jax.random.key(0))
    (curves,), _ = trainer.train([task], [start], [jax.random.key(1)])
    assert curves.stopped is None
