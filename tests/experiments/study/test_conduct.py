"""Each experiment whole, with small networks on very little data; and the paper's grids."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

from experiments import clusters, evidence, report
from experiments.cli.errors import UserError
from experiments.records import files, packing
from experiments.runs import protocol, side_by_side
from experiments.study import starts
from experiments.study.clustering import Clustering
from experiments.study.presets import quick
from jaxinit import distances

pytestmark = pytest.mark.usefixtures("small_networks")

TINY = (
    "--train-images-per-class", "4", "--test-images-per-class", "2", "--epochs", "1",
    "--source-epochs", "1", "--sources", "2", "--batch-size", "20",
)  # fmt: skip

# Which `small_networks` cuts to two convolutions.
SMALL = (*TINY, "--network", "vgg11")
PAIR = ("--pairs", "10-14")

# For each its options, the variants and the figures that follow. Models and banks that one has
# made the next finds, so all take 3 clusters.
EXPERIMENTS = {
    "baselines": ([], ["random", "pretrained"], ["baselines"]),
    "gabor": (["--layers", "1", "2"], ["random", "gabor-1", "gabor-2"], ["figure7"]),
    "source_models": (
        ["--models", "1", "2", "--distances", "euclidean", "--clusters", "3"],
        ["random", "euclidean-k3-m1", "euclidean-k3-m2"],
        ["figure5-euclidean"],
    ),
    "initialized_layers": (
        ["--layers", "1", "2", "--distances", "fourier", "--clusters", "3"],
        ["random", "gabor-1", "fourier-k3-l1", "fourier-k3"],
        ["figure4-fourier", "figure8"],
    ),
    "aligned_filters": (
        ["--layers", "1", "4", "--network", "custom"],
        ["random", "aligned-1", "aligned-4"],
        ["figure6"],
    ),
    "search": (
        ["--learning-rates", "0.1", "--schedules", "constant"],
        ["rate-0.1-constant", "rate-0.1-constant-raw"],
        ["search"],
    ),
    "ablations": (
        [
            "--starts",
            "random",
            "clustered",
            "random-at-norms",
            "shuffled",
            "bootstrap",
            "whole",
            "live",
            "--clusters",
            "3",
            "--distances",
            "euclidean",
            "--controlled-distances",
            "euclidean",
        ],
        [
            "random",
            "euclidean-k3",
            "random-at-euclidean-k3",
            "euclidean-k3-shuffled",
            "bootstrap",
            "bootstrap-at-euclidean-k3",
            "whole-1",
            "whole-1-at-gabor-1",
            "euclidean-k3-live",
        ],
        ["starts", "norms", "shapes", "stems"],
    ),
    "sweep": (
        ["--scales", "0.5", "--rates", "3", "--starts", "random"],
        ["random", "random-x0.5", "random-rate-0.03"],
        ["sweep-random"],
    ),
    "tiny_imagenet": (
        [],
        ["random", "pretrained", "fourier-k3"],
        ["figure9"],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all, so that they share what they have in common."""
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_from_its_command_line_to_its_files(name, folder, capsys):
    _, variants, figures = EXPERIMENTS[name]
    out = run(name, folder)
    summary = json.loads((out / f"{name}-procedural.json").read_text())
    assert list(summary["variants"]) == variants
    for stem in (*figures, "final_accuracy"):
        assert (out / f"{stem}-procedural.png").stat().st_size > 10_000
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == len(variants) + 2  # a heading and its rule


def run(name, folder):
    """Runs an experiment by its options above; returns where it wrote."""
    module, out = importlib.import_module(f"experiments.{name}"), folder / name
    folders = ["--output", str(out), "--models-dir", str(folder / "sources"), "--take-over"]
    tasks = () if name == "tiny_imagenet" else PAIR  # whose task is all classes
    module.main([*SMALL, *tasks, *EXPERIMENTS[name][0], *folders])
    return out


def test_what_the_ablations_settle(folder):
    """From one pair and one seed: nothing."""
    results = run("ablations", folder)
    evidence.main(["--results", str(results)])
    text = (results / "evidence-procedural.md").read_text()
    assert "its filters, norms being equal" in text
    assert text.count("| open |") == 8 + 4
    for stem in ("main", "further", "causes", "norms"):
        assert (results / f"evidence-{stem}-procedural.png").stat().st_size > 10_000


def test_clusters_and_a_second_start(folder, capsys):
    out, models = folder / "clusters", folder / "sources"
    argv = [*SMALL, *PAIR, "--clusters", "3", "--output", str(out), "--models-dir", str(models)]
    argv += ["--take-over"]
    clusters.main(argv)
    printed = capsys.readouterr()
    summary = json.loads((out / "clusters-procedural.json").read_text())
    assert list(summary["variants"]) == [
        "random", "pretrained", "gabor-1", "euclidean-k3", "fourier-k3",
    ]  # fmt: skip
    for variant in summary["variants"].values():
        (run,) = variant["runs"]
        assert len(run["curves"]["val_acc_top1"]) == 1
    for stem in ("figure2", "final_accuracy"):
        assert (out / f"{stem}-procedural.png").stat().st_size > 10_000
        assert "procedural" in (out / f"{stem}-procedural.svg").read_text()
    names = {path.name for path in models.glob("*/banks/*")}
    assert f"fourier-k3-m2-member-restarts-1-most_slices-{2**17}.npz" in names
    assert "| Euclidean, 3 clusters" in printed.out
    assert str(out) in printed.out

    # A second start finds everything, and writes the same table.
    clusters.main(argv)
    again = capsys.readouterr()
    assert "5 runs recorded already, 0 to train" in again.err
    table = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert [line for line in again.out.splitlines() if line.startswith("|")] == table

    # So does a start from its archive, which then has the summary again.
    packed = folder / "archive" / "clusters"
    packing.pack(out, packed)
    clusters.main(
        [*SMALL, *PAIR, "--clusters", "3", "--output", str(packed), "--models-dir", str(models)]
    )
    again = capsys.readouterr()
    assert "5 runs recorded already, 0 to train" in again.err
    assert [line for line in again.out.splitlines() if line.startswith("|")] == table
    assert not list(packed.glob("runs/*.json"))
    made = json.loads((packed / "clusters-procedural.json").read_text())
    assert made["variants"] == summary["variants"]


@pytest.mark.parametrize(
    "name", ["baselines", "gabor", "source_models", "initialized_layers", "clusters"]
)
def test_the_papers_presets_are_its_grid(name):
    paper = importlib.import_module(f"experiments.{name}").PRESETS["paper"]
    assert paper.data.dataset == "cifar100"
    assert paper.data.train_images_per_class is None
    assert paper.evaluation.pairs == protocol.VALIDATION_PAIRS
    assert (paper.evaluation.seeds, paper.evaluation.protocol) == (5, "fresh")
    training = paper.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (15, 128, 0.01)
    assert (training.momentum, training.weight_decay, training.augment) == (0.9, 1e-4, True)
    assert paper.sources.sources == (20 if name == "source_models" else 10)
    assert paper.evaluation.output == f"output/paper/{name}"
    varied = {
        "baselines": {},
        "gabor": {"layers": (1, 2, 6, 10, 17), "identical": False},
        "source_models": {"models": (2, 4, 6, 10, 20), "clusters": 10},
        "initialized_layers": {"layers": (1, 2, 6, 10, 17), "clusters": 10},
        "clusters": {"clusters": (1, 2, 3, 10, 30, 50), "layers": None},
    }
    for field, value in varied[name].items():
        assert getattr(paper, field) == value
    assert paper.clustering.distances == ("euclidean", "fourier")


@pytest.mark.parametrize(
    "name",
    ["gabor", "source_models", "initialized_layers", "clusters", "aligned_filters", "search"],
)
def test_the_reduced_presets_are_part_of_the_papers_grid(name):
    presets = importlib.import_module(f"experiments.{name}").PRESETS
    reduced, paper = presets["reduced"], presets["paper"]
    for field in ("clusters", "layers", "models"):
        ours, theirs = (np.atleast_1d(getattr(p, field, ())) for p in (reduced, paper))
        assert set(ours) <= set(theirs)
    assert set(reduced.evaluation.pairs) <= set(paper.evaluation.pairs)
    assert reduced.data == paper.data
    assert reduced.training == dataclasses.replace(paper.training, epochs=5)
    assert reduced.evaluation.output == f"output/reduced/{name}"
    assert reduced.sources.source_epochs == 10


def test_the_paper_on_tiny_imagenet():
    paper = importlib.import_module("experiments.tiny_imagenet").PRESETS["paper"]
    assert paper.data.dataset == "tiny_imagenet"
    assert paper.evaluation.whole
    assert paper.evaluation.seeds == 5
    assert (paper.training.epochs, paper.training.augment) == (15, False)
    assert (paper.clusters, paper.sources.sources) == (3, 6)
    # The source models are those of the other experiments.
    assert paper.sources.source_dataset == "cifar100"
    assert paper.sources.source_augment


def test_auto_representative():
    chosen = {d: Clustering().resolved(d) for d in distances.names()}
    known = {"euclidean": "centroid", "fourier": "member", "fourier_real": "inverse"}
    assert chosen.items() >= known.items()
    assert Clustering(representative="medoid").resolved("fourier") == "medoid"


def test_more_clusters_than_slices_are_refused_before_anything_is_trained(tmp_path, capsys):
    places = ["--output", str(tmp_path / "out"), "--models-dir", str(tmp_path / "sources")]
    with pytest.raises(SystemExit, match="2"):
        clusters.main([*TINY, *PAIR, "--clusters", "3", "385", *places])
    assert "--clusters 385 is too large: 384 slices of the first layer" in capsys.readouterr().err
    assert not list(tmp_path.glob("sources/*/*"))


def test_identical_gabor_filters_do_not_depend_on_the_run():
    import jax
    import jax.numpy as jnp

    params = {"conv1": {"kernel": jnp.zeros((7, 7, 3, 4))}}
    keys = jax.random.split(jax.random.key(5), 2)
    for identical in (True, False):
        draw = starts.gabor(1, identical=identical).make()
        a, b = (draw(key, params)["conv1"]["kernel"] for key in keys)
        assert jnp.array_equal(a, b) == identical
    assert quick("gabor")["evaluation"].output == "output/gabor"


def test_norms(folder, capsys):
    module = importlib.import_module("experiments.norms")
    out = folder / "norms"
    places = ["--output", str(out), "--models-dir", str(folder / "sources")]
    module.main([*SMALL, *PAIR, "--clusters", "3", "--distances", "euclidean", *places])
    found = json.loads((out / "norms-procedural.json").read_text())["norms"]
    assert [name.rsplit(", ")[-1] for name in found] == [
        "mean", "Gabor", "centroid", "medoid", "member", "inverse",
    ]  # fmt: skip
    assert all(len(of_layers) == 2 for of_layers in found.values())
    # After one epoch the sources are near their start, and averages of filters are short.
    assert found["source models, mean"]["conv2"] == pytest.approx(1, abs=0.1)
    centroid, member = (found[f"Euclidean, 3 clusters, {r}"] for r in ("centroid", "member"))
    assert all(centroid[name] < 0.8 * member[name] for name in centroid)
    assert "| Gabor |" in (out / "norms-procedural.md").read_text()
    assert "| Gabor |" in capsys.readouterr().out


def test_the_picture_of_filters(folder, capsys):
    module = importlib.import_module("experiments.filters")
    out = folder / "filters"
    places = ["--output", str(out), "--models-dir", str(folder / "sources")]
    module.main([*SMALL, *PAIR, "--shown", "1", "2", *places])
    printed = [word for word in capsys.readouterr().out.split() if word.startswith("/")]
    assert len(printed) == 5  # JSON, and two figures in two forms
    recorded = json.loads((out / "filters-procedural.json").read_text())["drawings"]["fourier"]
    assert list(recorded["kernels"]) == ["conv1", "conv2"]
    before, after = (np.array(part) for part in recorded["kernels"]["conv1"])
    assert before.shape == after.shape == (20, 3, 3)
    assert not np.allclose(before, after)
    assert np.array(recorded["clusters"]["conv2"]["filters"]).shape == (3, 3, 3)
    for stem in ("figure10-fourier-procedural", "clusters-fourier-procedural"):
        assert (out / f"{stem}.png").stat().st_size > 10_000
        assert str(out / f"{stem}.svg") in printed
    # What is recorded is drawn again, and nothing trained.
    pictures = {path.name: path.read_bytes() for path in out.glob("*.svg")}
    module.main([*SMALL, *PAIR, "--shown", "1", "2", *places])
    assert "epoch" not in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.glob("*.svg")} == pictures
    written = {path.name for path in report.write(folder, folder / "report")}
    assert "filters-figure10-fourier-procedural.png" in written
    assert "Figure 10" in (folder / "report" / "report.md").read_text()


def test_a_network_that_does_not_train_is_not_drawn(folder, capsys, monkeypatch):
    module = importlib.import_module("experiments.filters")
    real = side_by_side.train_runs

    def stopping(trainer, runs, *rest, **options):
        curves, finals, seconds = real(trainer, runs, *rest, **options)
        if runs[0].variant != "source":
            curves = [curve._replace(stopped="the loss is not finite") for curve in curves]
        return curves, finals, seconds

    monkeypatch.setattr(side_by_side, "train_runs", stopping)
    out = folder / "undrawn"
    places = ["--output", str(out), "--models-dir", str(folder / "sources")]
    with pytest.raises(SystemExit) as ended:
        module.main([*SMALL, *PAIR, "--shown", "1", *places])
    assert ended.value.code == 2
    assert "cannot be drawn, as the loss is not finite: lower --" in capsys.readouterr().err
    assert not list(out.glob("*.json"))
    # As was recorded before networks that stopped were refused.
    drawing = {"kernels": {"conv1": [[[[1.0]]], [[[None]]]]}}
    content = {"schema_version": files.SCHEMA_VERSION, "drawings": {"fourier": drawing}}
    files.write_json(content, out / "filters-procedural.json")
    with pytest.raises(UserError, match=r"not finite.*delete it to draw again"):
        module.recorded(out / "filters-procedural.json")
