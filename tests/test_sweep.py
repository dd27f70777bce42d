"""The sweep: what is tried of each start, and how the best is chosen."""

import jax
import numpy as np
import pytest

from experiments import summaries, sweep
from experiments.errors import UserError
from tests.small import run
from tests.test_controls_experiment import NoModels, norm

pytestmark = pytest.mark.usefixtures("quick_compilation")


def ask(**changes):
    return sweep.ask(sweep.Sweep(**changes), NoModels())


def test_every_start_is_swept_alike():
    names = [v.name for v in ask(scales=(0.1, 2.0), rates=(1.0, 3.0)).variants]
    assert names == [
        f"{start}{change}"
        for start in ("random", "euclidean-k3", "fourier-k3")
        for change in ("", "-x0.1", "-x2", "-rate-0.03")
    ]


def test_scales_are_those_of_the_default_start():
    made_of = NoModels()
    variants = {v.name: v for v in sweep.ask(sweep.Sweep(), made_of).variants}
    for name in ("random-x0.35", "euclidean-k3-x0.35", "fourier-k3-x0.35"):
        tree = variants[name].make()(jax.random.key(0), made_of.params)
        assert norm(tree) == pytest.approx(0.35 * norm(made_of.params), rel=1e-5)
    rated = variants["random-rate-0.1"].training
    assert rated is not None
    assert rated.learning_rate == pytest.approx(0.1)


@pytest.fixture
def folder(tmp_path):
    finals = {"random": 50.0, "random-x0.5": 52.0, "random-rate-0.03": 51.0}
    records = [
        run(name, [value + task] * 3, task=f"pair-2-{task}", experiment="sweep")
        for name, value in finals.items()
        for task in (4, 5)
    ]
    records.append(run("random-rate-0.03", [np.nan] * 3, task="pair-2-6", experiment="sweep",
                       stopped="the loss is not finite"))  # fmt: skip
    summaries.write_summary(records, tmp_path)
    return tmp_path


def test_the_best_of_each_start_runs_beside_random(folder):
    question = ask(scales=(0.5,), rates=(1.0, 3.0), starts=("random",), best_of=str(folder))
    assert [v.name for v in question.variants] == ["random", "random-x0.5"]
    assert question.baseline == "random"


def test_what_cannot_be_chosen_from_gets_a_sentence(folder, tmp_path):
    with pytest.raises(UserError, match="no finished run of random-x2"):
        ask(scales=(2.0,), starts=("random",), best_of=str(folder))
    with pytest.raises(UserError, match="holds no summary"):
        ask(best_of=str(tmp_path / "nothing"))
    other = tmp_path / "validation"
    summaries.write_summary([run("random", [1.0] * 3, task="pair-10-11")], other)
    with pytest.raises(UserError, match="pair-10-11, a task of the comparison"):
        ask(best_of=str(other))
    with pytest.raises(UserError, match="--scales 0 must be positive"):
        sweep.Sweep(scales=(0,))


def test_presets_tune_on_clustering_tasks_alone():
    for preset in sweep.PRESETS.values():
        assert all(max(pair) < 10 for pair in preset.evaluation.pairs)
