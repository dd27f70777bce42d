import json
import math

import numpy as np
import pytest
import scipy.stats

from experiments import statistics, tracking
from experiments.errors import UserError


def run(variant, values, task="pair-0-1", seed=0, **changes) -> tracking.RunRecord:
    curves = {name: list(values) for name in tracking.METRICS}
    fields = {
        "experiment": "clusters",
        "settings": {"data_set": "cifar100", "lr": 0.1, "initializer": variant},
        "curves": {**curves, "learning_rate": [0.1] * len(curves["val_loss"])},
        "stopped": None,
        "environment": {"device": "cpu", "date": f"day {seed}"},
        "wall_seconds": 2.0,
    }
    return tracking.RunRecord(
        **{**fields, "variant": variant, "task": task, "seed": seed, **changes}
    )


def test_summary_of_two_runs_by_hand():
    runs = [run("a", [10, 20]), run("a", [14, 20], seed=1), run("b", [1, 2])]
    summary = statistics.summarize(runs)
    assert list(summary) == ["a", "b"]
    assert (summary["a"].n, summary["a"].stopped) == (2, 0)
    np.testing.assert_allclose(summary["a"].mean, [12, 20])
    np.testing.assert_allclose(summary["a"].std, [math.sqrt(8), 0])
    np.testing.assert_array_equal(summary["a"].low, [10, 20])
    np.testing.assert_array_equal(summary["a"].high, [14, 20])
    assert np.isnan(summary["b"].std).all()  # one run has no spread


def test_summary_agrees_with_scipy():
    curves = np.random.default_rng(0).normal(50, 5, (7, 4))
    summary = statistics.summarize([run("a", c, seed=i) for i, c in enumerate(curves)])["a"]
    np.testing.assert_allclose(summary.mean, np.asarray(scipy.stats.tmean(curves, axis=0)))
    np.testing.assert_allclose(summary.std, np.asarray(scipy.stats.tstd(curves, axis=0)))


def test_stopped_runs_are_counted_and_left_out():
    runs = [
        run("a", [10, 20]),
        run("a", [50, math.nan], seed=1, stopped="loss not finite in epoch 2, step 1"),
        run("a", [50, math.nan], seed=2),
        run("a", [50], seed=3, stopped="loss not finite in epoch 2, step 1"),
        run("b", [50, math.nan], stopped="loss not finite in epoch 2, step 1"),
    ]
    summary = statistics.summarize(runs)
    assert (summary["a"].n, summary["a"].stopped) == (1, 3)
    np.testing.assert_array_equal(summary["a"].mean, [10, 20])
    assert (summary["b"].n, summary["b"].stopped) == (0, 1)
    assert np.isnan(summary["b"].mean).all()
    assert math.isnan(statistics.final(runs[1]))
    assert math.isnan(statistics.final(runs[2]))


def test_runs_of_different_lengths_are_refused():
    with pytest.raises(UserError, match="the runs of a have 2 and 3 epochs"):
        statistics.summarize([run("a", [1, 2, 3]), run("a", [1, 2], seed=1)])


def test_final_is_the_mean_of_the_last_three_epochs():
    assert statistics.final(run("a", [90, 1, 2, 6])) == 3
    assert statistics.final(run("a", [4, 6])) == 5


def test_differences_are_within_task_and_seed():
    runs = [
        run("random", [10] * 3),
        run("random", [20] * 3, seed=1),
        run("random", [math.nan] * 3, seed=2, stopped="x"),
        run("a", [13] * 3),
        run("a", [25] * 3, seed=1),
        run("a", [99] * 3, seed=2),
        run("a", [99] * 3, task="pair-0-2"),
    ]
    expected = {("pair-0-1", 0): 3.0, ("pair-0-1", 1): 5.0}
    assert statistics.paired_differences(runs, "a", "random") == expected
    assert statistics.paired_differences(runs[::-1], "a", "random") == expected
    assert statistics.paired_differences(runs, "a", "absent") == {}


def test_mean_std_as_text():
    assert statistics.mean_std([]) == "–"
    assert statistics.mean_std([1.25], digits=2) == "1.25"
    assert statistics.mean_std([1, 3], "+") == "+2.0 ± 1.4"
    assert statistics.mean_std([-1, -3], "+") == "−2.0 ± 1.4"


def test_table_by_hand():
    runs = [
        run("random", [10] * 4),
        run("random", [20] * 4, seed=1),
        run("k3", [13] * 4),
        run("k3", [25] * 4, seed=1),
        run("k3", [math.nan] * 4, seed=2, stopped="x"),
    ]
    table = statistics.results_table(runs, authors={"k3": [0, 60, 61, 62, 99]})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[:4]]
    assert lines[0][4] == "authors (carried over)"
    assert lines[0][3] == "difference from random (pairs)"
    assert lines[2] == ["random", "2", "15.0 ± 7.1", "–", "–", "0"]
    assert lines[3] == ["k3", "2", "19.0 ± 8.5", "+4.0 ± 1.4 (2)", "61.0", "1"]
    assert "Data: cifar100. Device: cpu. Wall time: 10 s." in table
    assert len({len(line) for line in table.splitlines()[:4]}) == 1


def test_table_shows_the_labelled_variants_in_their_order():
    runs = [run("random", [10] * 3), run("k3", [13] * 3), run("k9", [1] * 3)]
    table = statistics.results_table(
        runs, labels={"k3": "3 clusters", "random": "Random"}, metric="val_loss"
    )
    rows = [line.split("|") for line in table.splitlines()]
    assert [row[1].strip() for row in rows[:4]][2:] == ["3 clusters", "Random"]
    assert rows[0][4].strip() == "difference from Random (pairs)"
    assert rows[2][4].strip() == "+3.000 (1)"
    assert "k9" not in table


def test_summary_file(tmp_path):
    runs = [
        run("random", [10.0, 20.0]),
        run("random", [12.0, 20.0], seed=1),
        run("k3", [13.0, math.nan], stopped="loss not finite in epoch 2, step 1"),
    ]
    path = statistics.write_summary(runs, tmp_path)
    assert path == tmp_path / "clusters.json"
    text = path.read_text()
    assert "NaN" not in text
    data = json.loads(text)
    assert data["settings"] == {"data_set": "cifar100", "lr": 0.1}
    assert data["environments"] == [{"device": "cpu"}]
    assert data["wall_seconds"] == 6.0
    assert data["procedural"] is False
    random = data["variants"]["random"]
    assert random["mean"].keys() == set(tracking.METRICS)
    assert random["mean"]["val_loss"] == [11.0, 20.0]
    assert random["min"]["val_loss"] == [10.0, 20.0]
    assert random["max"]["val_loss"] == [12.0, 20.0]
    assert random["std"]["val_loss"] == [pytest.approx(math.sqrt(2)), 0.0]
    assert random["lr_list"] == [pytest.approx(0.1)] * 2
    assert [r["date"] for r in random["runs"]] == ["day 0", "day 1"]
    assert random["runs"][1]["curves"]["val_acc_top1"] == [12.0, 20.0]
    assert random["runs"][1]["settings"] == {"initializer": "random"}
    clustered = data["variants"]["k3"]
    assert (clustered["n"], clustered["stopped"]) == (0, 1)
    assert clustered["mean"]["val_loss"] == [None, None]
    assert clustered["runs"][0]["stopped"].startswith("loss not finite")


def test_procedural_output_says_so(tmp_path):
    runs = [run("random", [10.0] * 3, settings={"data_set": "procedural"})]
    assert statistics.write_summary(runs, tmp_path).name == "clusters-procedural.json"
    table = statistics.write_table("| a |\n", runs, tmp_path)
    assert table.name == "clusters-procedural.md"
    assert table.read_text() == "# clusters – procedural data\n\n| a |\n"


def test_table_file_of_real_data(tmp_path):
    path = statistics.write_table("| a |\n", [run("random", [10.0])], tmp_path)
    assert path == tmp_path / "clusters.md"
    assert path.read_text().startswith("# clusters\n")


def test_output_of_no_or_two_experiments_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of no experiments"):
        statistics.write_summary([], tmp_path)
    runs = [run("random", [1.0]), run("random", [1.0], experiment="layers")]
    with pytest.raises(ValueError, match=r"\['clusters', 'layers'\]"):
        statistics.write_summary(runs, tmp_path)


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the output folder"):
        statistics.write_summary([run("random", [1.0])], tmp_path / "file")
