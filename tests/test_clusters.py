"""`python -m experiments.clusters` whole: the real network, on very little data."""

import json

import pytest

from experiments import clusters, config, reference, runner

TINY = (
    "--train-images-per-class", "4", "--test-images-per-class", "2", "--epochs", "1",
    "--source-epochs", "1", "--sources", "1", "--pairs", "10-14", "--batch-size", "20",
)  # fmt: skip


def test_the_whole_experiment(tmp_path, capsys):
    argv = [
        *TINY, "--clusters", "1", "2", "--output", str(tmp_path / "out"),
        "--models-dir", str(tmp_path / "models"), "--layers", "3",
    ]  # fmt: skip
    clusters.main(argv)
    printed = capsys.readouterr()
    out = tmp_path / "out"
    summary = json.loads((out / "clusters-procedural.json").read_text())
    assert list(summary["variants"]) == [
        "random", "pretrained", "gabor-1",
        "euclidean-k1", "fourier-k1", "euclidean-k2", "fourier-k2",
    ]  # fmt: skip
    for variant in summary["variants"].values():
        (run,) = variant["runs"]
        assert len(run["curves"]["val_acc_top1"]) == 1
    for stem in ("figure2", "figure3-euclidean", "figure3-fourier", "final_accuracy"):
        assert (out / f"{stem}-procedural.png").stat().st_size > 10_000
        assert "procedural" in (out / f"{stem}-procedural.svg").read_text()
    assert (out / "banks" / "fourier-k2.npz").exists()
    assert "| Euclidean, 2 clusters" in printed.out
    assert str(out) in printed.out
    assert "epoch 1/1" in printed.err

    # A second start finds everything, and writes the same table.
    clusters.main(argv)
    again = capsys.readouterr()
    assert "7 runs recorded already, 0 to train" in again.err
    assert "1 of 1 found" in again.err
    table = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert [line for line in again.out.splitlines() if line.startswith("|")] == table


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--pairs", "10-25"], "pair 10-25 is out of range"),
        (["--clusters", "900", "--layers", "1"], "too few for 900 clusters"),
        (["--representative", "inverse"], "inverse"),
        (["--dataset", "cifar100", "--data-dir", "/nonexistent"], "python -m experiments.data"),
        (["--output", "/dev/null/results"], "cannot write to the output folder"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(tmp_path, capsys, argv, words):
    defaults = ["--output", str(tmp_path / "out"), "--models-dir", str(tmp_path / "models")]
    with pytest.raises(SystemExit) as stop:
        clusters.main([*TINY, *defaults, *argv])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last


def test_auto_representative():
    auto = clusters.Clusters()
    chosen = {d: clusters.representative(auto, d) for d in clusters._DISTANCES}
    assert chosen == {
        "euclidean": "centroid", "fourier": "member", "fourier_real": "inverse",
        "cosine": "centroid",
    }  # fmt: skip
    assert (
        clusters.representative(clusters.Clusters(representative="member"), "fourier") == "member"
    )


def variant(distance, k):
    settings = {"kind": "clustered", "distance": distance, "clusters": k}
    return runner.Variant(f"{distance}-k{k}", "", lambda key, params: params, settings)


def test_authors_curves_only_where_the_setting_is_theirs():
    random = runner.Variant("random", "", lambda key, params: params, {"kind": "random"})
    listed = [random, variant("euclidean", 3), variant("euclidean", 7), variant("fourier", 3),
              variant("fourier_real", 3)]  # fmt: skip
    cifar = clusters.Clusters(data=config.Data(dataset="cifar100"))
    got = clusters.authors_curves(cifar, listed)
    assert set(got) == {"random", "euclidean-k3", "fourier_real-k3"}
    assert got["euclidean-k3"] == reference.curve("euclid_model_num_clusters_3")
    four = clusters.Clusters(
        data=config.Data(dataset="cifar100"), sources=config.Sources(sources=4)
    )
    assert set(clusters.authors_curves(four, [*listed, variant("euclidean", 10)])) == {
        "random", "euclidean-k10",
    }  # fmt: skip
    assert clusters.authors_curves(clusters.Clusters(), listed) == {}
