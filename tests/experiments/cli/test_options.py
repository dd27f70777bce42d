"""The command line that follows from the dataclasses."""

import dataclasses
import re
from typing import Any

import pytest

from experiments import (
    aligned_filters,
    clusters,
    gabor,
    initialized_layers,
    pretrain,
    search,
    source_models,
)
from experiments.cli import options
from experiments.cli.errors import UserError
from experiments.data.sets import Data
from experiments.runs import protocol
from experiments.training.hyperparameters import Training


def _any(value: Any) -> Any:
    return value


def parse(*argv, presets=clusters.PRESETS):
    return options.parse(presets, list(argv), program="prog", about="what it does")


def test_no_arguments_give_the_first_preset():
    assert parse() == clusters.PRESETS["quick"]


def test_paper_preset_is_the_grid_of_the_paper():
    paper = parse("--preset", "paper")
    assert paper.clusters == (1, 2, 3, 10, 30, 50)
    assert paper.clustering.distances == ("euclidean", "fourier")
    assert paper.sources.sources == 10
    assert paper.layers is None
    assert paper.evaluation.pairs == protocol.VALIDATION_PAIRS
    assert paper.evaluation.seeds == 5
    assert paper.data == Data(dataset="cifar100")
    training = paper.training
    assert (training.learning_rate, training.momentum, training.weight_decay) == (0.01, 0.9, 1e-4)
    assert (training.batch_size, training.epochs, training.schedule) == (128, 15, "published")


def test_options_replace_values_of_the_preset_at_any_depth():
    got = parse(
        "--preset", "paper", "--epochs", "3", "--clusters", "2", "5", "--pairs", "14-10", "11-12",
        "--no-augment", "--train-images-per-class", "7", "--learning-rate", "0.5",
    )  # fmt: skip
    assert got.training == Training(epochs=3, augment=False, learning_rate=0.5)
    assert got.clusters == (2, 5)
    assert got.evaluation.pairs == ((10, 14), (11, 12))
    assert got.data.train_images_per_class == 7
    assert got.sources == clusters.PRESETS["paper"].sources


@pytest.mark.parametrize(
    "presets",
    [
        m.PRESETS
        for m in (
            clusters,
            pretrain,
            gabor,
            source_models,
            initialized_layers,
            aligned_filters,
            search,
        )
    ],
)
def test_help_shows_every_option_with_its_default(capsys, presets):
    with pytest.raises(SystemExit) as stop:
        parse("--help", presets=presets)
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--preset {" in text

    def flags(settings):
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            yield from (
                flags(value) if dataclasses.is_dataclass(value) else [options.flag(field.name)]
            )

    every = list(flags(presets["quick"]))
    assert text.count("(default: ") == len(every) + 1
    for flag in every:
        # The flag, what it takes, some words on what it does, and the default.
        whats = [part.split("(default: ")[0] for part in text.split(f" {flag}")[1:]]
        words = [re.findall(r"(?<![{,\[])\b[a-z]+\b", what) for what in whats]
        assert max(map(len, words)) > 1, flag


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--colour", "red"], "--colour"),
        (["--schedule", "mnist"], "mnist"),
        (["--epochs", "many"], "many"),
        (["--preset", "huge"], "huge"),
        (["--distances", "manhattan"], "manhattan"),
    ],
)
def test_malformed_options_end_with_status_2(capsys, argv, words):
    with pytest.raises(SystemExit) as stop:
        parse(*argv)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--epochs", "0"], "--epochs 0 is out of range: say 1 to 100000"),
        (["--batch-size", "1"], "--batch-size 1 is out of range"),
        (["--learning-rate", "-1"], "--learning-rate -1.0 must be positive"),
        (["--momentum", "1"], "--momentum 1.0 must be in"),
        (["--weight-decay", "-1"], "--weight-decay -1.0 must be finite and not negative"),
        (["--clusters", "0"], "--clusters 0 is too small"),
        (["--seeds", "0"], "--seeds 0 is out of range"),
        (["--runs-at-once", "0"], "--runs-at-once 0 is out of range"),
        (["--train-images-per-class", "0"], "--train-images-per-class 0 is out of range"),
        (["--pairs", "10-11", "11-10"], "--pairs names 10-11 twice: name each once"),
        (["--pairs", "10"], "two numbers with a dash"),
        (["--pairs", "10-10"], "twice"),
        (["--clusters"], "--clusters names none"),
        (["--seeds", str(10**20)], "--seeds 1.* is out of range: say 1 to 10000"),
        (["--group-seed", str(10**20)], "is too large: say 2147483647 or less"),
        (["--epochs", str(10**20)], "--epochs 1.* is out of range"),
        (["--batch-size", str(10**9)], "--batch-size 1.* is out of range"),
        (["--restarts", str(10**9)], "--restarts 1.* is out of range"),
        (["--test-images-per-class", str(10**9)], "is out of range"),
        (["--clusters", "2", "3", "2"], "--clusters names 2 twice: name each once"),
        (["--distances", "euclidean", "euclidean"], "--distances names euclidean twice"),
        (["--baselines", "random", "random"], "--baselines names random twice"),
        (["--baselines", "pretrained"], "--baselines lacks random"),
        (["--whole", "--pairs", "10-11"], "--pairs does not go with one task of all classes"),
        (["--output", "~no-such-user/x"], "names a home folder that is not there"),
        (["--weight-decay", "inf"], "--weight-decay inf must be finite"),
        (["--output", ""], "--output is empty: give a value"),
    ],
)
def test_values_out_of_range_get_a_sentence(argv, words):
    with pytest.raises(UserError, match=words):
        parse(*argv)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Training(schedule=_any("plateau")),
            "--schedule plateau is not known: choose one of",
        ),
        (lambda: Training(network="lenet"), "--network lenet is not known: choose one of resnet18"),
        (lambda: Data(group_seed=-1), "--group-seed -1 is too small"),
        (lambda: Training(momentum=float("nan")), "--momentum nan must be in"),
        (lambda: Training(learning_rate=float("inf")), "--learning-rate inf must be positive"),
    ],
)
def test_values_are_checked_where_settings_are_made_in_python_too(make, words):
    with pytest.raises(UserError, match=re.escape(words)):
        make()


def test_infinite_learning_rates_to_try_are_refused():
    with pytest.raises(UserError, match=r"--learning-rates inf must be positive and finite"):
        parse("--learning-rates", "0.1", "inf", presets=search.PRESETS)


def test_a_leading_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    got = parse("--output", "~/here", "--models-dir", "~", "--data-dir", "./~")
    assert got.evaluation.output == "/home/someone/here"
    assert got.sources.models_dir == "/home/someone"
    assert got.data.data_dir == "./~"


def test_main_ends_with_status_2_and_one_sentence(capsys):
    with pytest.raises(SystemExit) as stop:
        clusters.main(["--layers", "18"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
