"""The sweep: what is tried of each start, and how the best is chosen."""

import dataclasses

import jax
import pytest

from experiments import sweep
from experiments.cli.errors import UserError
from experiments.data.sets import Data
from experiments.records import summaries
from experiments.runs.evaluation import Evaluation
from experiments.sweep import Sweep
from experiments.training.hyperparameters import Training
from tests.experiments.small import run
from tests.experiments.test_ablations import NoModels, norm

OPTIONS = {"scales": (0.5,), "rates": (1.0, 3.0), "starts": ("random",)}
VALIDATION = Evaluation(output="elsewhere")
STOPPED = ("random-rate-0.03", 6)


def ask(**changes):
    return sweep.ask(Sweep(**changes), NoModels())


def test_every_start_is_swept_alike():
    names = [v.name for v in ask(scales=(0.1, 2.0), rates=(1.0, 3.0)).variants]
    assert names == [
        f"{start}{change}"
        for start in ("random", "euclidean-k3", "fourier-k3", "gabor-1")
        for change in ("", "-x0.1", "-x2", "-rate-0.03")
    ]


def test_scales_are_those_of_the_default_start():
    made_of = NoModels()
    variants = {v.name: v for v in sweep.ask(Sweep(), made_of).variants}
    for name in ("random-x0.35", "euclidean-k3-x0.35", "fourier-k3-x0.35", "gabor-1-x0.35"):
        tree = variants[name].make()(jax.random.key(0), made_of.params)
        assert norm(tree) == pytest.approx(0.35 * norm(made_of.params), rel=1e-5)
    rated = variants["random-rate-0.1"].training
    assert rated is not None
    assert rated.learning_rate == pytest.approx(0.1)


def conditions(variant, epochs=15, **changes):
    """What is recorded with a run of a variant, in part."""
    trained = dataclasses.replace(variant.training or Training(), epochs=epochs, **changes)
    common = {"data_set": "procedural", "protocol": "fresh", "initializer": variant.settings}
    return {**common, **trained.described()}


@pytest.fixture
def folder(tmp_path):
    finals = {"random": 50.0, "random-x0.5": 52.0, "random-rate-0.03": 99.0}
    starts = {v.name: v for v in ask(**OPTIONS).variants}
    records = [
        run(
            name,
            [value + task] * 3,
            task=f"pair-2-{task}",
            experiment="sweep",
            settings=conditions(starts[name]),
            stopped="the loss is not finite" if (name, task) == STOPPED else None,
        )
        for name, value in finals.items()
        for task in (4, 5, 6)
    ]
    summaries.write_summary(records, tmp_path)
    return tmp_path


def test_the_best_of_each_start_runs_beside_random(folder):
    """The one with the highest mean but a run that stopped is not chosen."""
    question = ask(**OPTIONS, best_of=str(folder), evaluation=VALIDATION)
    assert [v.name for v in question.variants] == ["random", "random-x0.5"]
    ((_, variant, other),) = question.families[0].contrasts
    assert (variant, other) == ("random", "random-x0.5")  # tuned against untuned


def test_what_cannot_be_chosen_from_gets_a_sentence(folder, tmp_path):
    def refused(words, **changes):
        with pytest.raises(UserError, match=words):
            ask(**{**OPTIONS, "best_of": str(folder), "evaluation": VALIDATION, **changes})

    refused("has a random-x2 that has not run", scales=(2.0,))
    refused("holds no summary", best_of=str(tmp_path / "nothing"))
    refused("was chosen on superclasses 0 to 9: give --pairs", evaluation=Evaluation(
        pairs=((2, 4),), output="elsewhere"))  # fmt: skip
    refused("is what --best-of chooses from", evaluation=Evaluation(output=str(folder)))
    refused("leave it in --starts", starts=("gabor",))
    for task in ("pair-12-13", "all"):
        other = tmp_path / task
        summaries.write_summary([run("random", [1.0] * 3, task=task)], other)
        refused(f"ran on {task}, which tuning must not see", best_of=str(other))
    (start, *_) = ask(**OPTIONS).variants
    for words, settings in {
        "a random that started otherwise": {**conditions(start), "initializer": {"kind": "other"}},
        "a random that was trained otherwise": conditions(start, learning_rate=1.0),
        "ran on cifar100, not on procedural": {**conditions(start), "data_set": "cifar100"},
        "ran on other groups of classes": {**conditions(start), "groups": {"seed": 1}},
    }.items():
        other = tmp_path / words
        summaries.write_summary([run("random", [1.0] * 3, settings=settings)], other)
        refused(words, best_of=str(other))
    whole = Evaluation(whole=True, output="elsewhere")
    refused("hold those that --best-of", evaluation=whole)
    tiny = [run("random", [1.0] * 3, settings={"data_set": "tiny_imagenet32"})]
    summaries.write_summary(tiny, tmp_path / "tiny")
    refused("hold those that --best-of", evaluation=whole, best_of=str(tmp_path / "tiny"),
            data=Data(dataset="tiny_imagenet"))  # fmt: skip
    with pytest.raises(UserError, match="--scales 0 must be positive"):
        Sweep(scales=(0,))


def test_the_rates_of_a_cosine_depend_on_how_many_epochs_there_are(tmp_path):
    records = [
        run(v.name, [1.0] * 15, settings=conditions(v, schedule="cosine"))
        for v in ask(**OPTIONS).variants
    ]
    summaries.write_summary(records, tmp_path)
    common = {**OPTIONS, "best_of": str(tmp_path), "evaluation": VALIDATION}
    assert ask(**common, training=Training(schedule="cosine")).variants
    with pytest.raises(UserError, match="trained otherwise"):
        ask(**common, training=Training(schedule="cosine", epochs=3))


def test_a_start_is_not_chosen_for_stopping_on_the_hard_task(tmp_path):
    """Each start stopped on another task, so that none can be compared with another."""
    starts = [v for v in ask(**OPTIONS).variants if v.name != "random-rate-0.03"]
    records = [
        run(
            start.name,
            [value] * 3,
            task=f"pair-2-{task}",
            settings=conditions(start),
            stopped="not finite" if task == lost else None,
        )
        for start, lost, own in zip(starts, (4, 5), (50.0, 60.0), strict=True)
        for task, value in ((4, own - 40), (5, own))
    ]
    summaries.write_summary(records, tmp_path)
    with pytest.raises(UserError, match="no start like random of which all runs"):
        ask(**{**OPTIONS, "rates": (1.0,)}, best_of=str(tmp_path), evaluation=VALIDATION)


def test_presets_tune_on_clustering_tasks_alone():
    for preset in sweep.PRESETS.values():
        assert all(max(pair) < 10 for pair in preset.evaluation.pairs)
