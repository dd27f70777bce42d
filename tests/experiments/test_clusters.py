"""What `python -m experiments.clusters` asks, and what it says to bad input."""

import pytest

from experiments import clusters
from experiments.clusters import Clusters
from experiments.records import published
from experiments.runs.sources import Sources
from experiments.runs.variants import Variant
from experiments.study.clustering import Clustering
from experiments.study.ingredients import Ingredients
from jaxinit import initializers

TINY = (
    "--train-images-per-class", "4", "--test-images-per-class", "2", "--epochs", "1",
    "--source-epochs", "1", "--sources", "1", "--batch-size", "20",
)  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--pairs", "10-25"], "pair 10-25 is out of range"),
        (
            ["--pairs", "0-9"],
            "--pairs 0-9 has classes that source models are trained on: give pairs",
        ),
        (["--pairs", "10-14", "--whole"], "--pairs does not go with one task of all classes"),
        (["--whole"], "--whole has classes that source models are trained on"),
        (["--sources", "46"], "--sources 46 is out of range: say 1 to 45"),
        (["--dataset", "nothing"], "'nothing' is not known: choose one of procedural"),
        (["--clusters", "900", "--layers", "1"], "--clusters 900 is too large"),
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


class NoModels(Ingredients):
    """Stands for what is made of source models, without any."""

    def __init__(self):
        self.layers = 17

    def pretrained(self):
        return named("pretrained")

    def clustered(
        self, distance, k, *, models=None, layers=None, representative=None, live_only=False
    ):
        return named(f"{distance}-k{k}")


def named(name):
    return Variant(name, name, initializers.unchanged, {})


def ask(**settings):
    return clusters.ask(Clusters(**settings), NoModels())


def test_authors_configurations_only_where_the_setting_is_theirs():
    both = Clustering(distances=("fourier", "fourier_real"))
    got = ask(clusters=(3, 7), clustering=both).authors
    assert got == {
        "random": published.RANDOM,
        "pretrained": published.PRETRAINED,
        "gabor-1": "gabor_model_num_layers_1",
        "fourier-k3": None,
        "fourier-k7": None,
        "fourier_real-k3": "fourier_model_num_clusters_3",
        "fourier_real-k7": None,
    }
    few = ask(clusters=(3, 10), sources=Sources(sources=4)).authors
    assert few["euclidean-k10"] == "euclid_model_num_models_4"
    assert few["euclidean-k3"] is None
    assert ask(layers=5).authors["euclidean-k10"] is None


def test_figures_show_what_the_papers_do():
    question = ask()
    assert [variant.name for variant in question.variants][:3] == [
        "random",
        "pretrained",
        "gabor-1",
    ]
    shown = {figure.stem: figure.variants for figure in question.figures}
    assert shown["figure2"] == ("random", "pretrained", "gabor-1", "euclidean-k2", "fourier-k2")
    steps = tuple(f"fourier-k{k}" for k in (1, 2, 3, 10, 30, 50))
    assert shown["figure3-fourier"] == ("random", *steps)
    assert set(shown) == {"figure2", "figure3-euclidean", "figure3-fourier"}
    assert [figure.stem for figure in ask(clusters=(3,)).figures] == ["figure2"]
