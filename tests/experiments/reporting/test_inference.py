import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from experiments.cli.errors import UserError
from experiments.records import averages
from experiments.reporting import inference, wording
from tests.experiments.small import run


def test_summary_of_two_runs_by_hand():
    runs = [run("a", [10, 20]), run("a", [14, 20], seed=1), run("b", [1, 2])]
    summary = averages.summarize(runs)
    assert list(summary) == ["a", "b"]
    assert (summary["a"].n, summary["a"].stopped) == (2, 0)
    np.testing.assert_allclose(summary["a"].mean, [12, 20])
    np.testing.assert_allclose(summary["a"].std, [math.sqrt(8), 0])
    np.testing.assert_array_equal(summary["a"].low, [10, 20])
    np.testing.assert_array_equal(summary["a"].high, [14, 20])
    assert np.isnan(summary["b"].std).all()  # one run has no spread


def test_summary_agrees_with_scipy():
    curves = np.random.default_rng(0).normal(50, 5, (7, 4))
    summary = averages.summarize([run("a", c, seed=i) for i, c in enumerate(curves)])["a"]
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
    summary = averages.summarize(runs)
    assert (summary["a"].n, summary["a"].stopped) == (1, 3)
    np.testing.assert_array_equal(summary["a"].mean, [10, 20])
    assert (summary["b"].n, summary["b"].stopped) == (0, 1)
    assert np.isnan(summary["b"].mean).all()
    assert math.isnan(averages.final(runs[1]))
    assert math.isnan(averages.final(runs[2]))


def test_runs_of_different_lengths_are_refused():
    with pytest.raises(UserError, match="the runs of a have 2 and 3 epochs"):
        averages.summarize([run("a", [1, 2, 3]), run("a", [1, 2], seed=1)])


def test_final_is_the_mean_of_the_last_three_epochs():
    assert averages.final(run("a", [90, 1, 2, 6])) == 3
    assert averages.final(run("a", [4, 6])) == 5


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
    assert averages.paired_differences(runs, "a", "random") == expected
    assert averages.paired_differences(runs[::-1], "a", "random") == expected
    assert averages.paired_differences(runs, "a", "absent") == {}


def test_mean_std_as_text():
    assert wording.mean_std([]) == "–"
    assert wording.mean_std([1.25], digits=2) == "1.25"
    assert wording.mean_std([1, 3], "+") == "+2.0 ± 1.4"
    assert wording.mean_std([-1, -3], "+") == "−2.0 ± 1.4"


TENS = np.array([1.2, -0.4, 3.1, 2.2, 0.3, 1.9, -0.8, 2.7, 1.1, 0.6])


def test_sign_flip_counts_all_signs():
    """Against every flip, listed: 2 of 8 are as far from zero as three equal signs."""
    assert inference.sign_flip(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)
    assert inference.sign_flip(np.array([5.0])) == 1.0
    signs = np.array(list(itertools.product((-1, 1), repeat=10)))
    means = (signs * TENS).mean(axis=1)
    greater = np.mean(means >= TENS.mean() - 1e-12)
    assert inference.sign_flip(TENS) == pytest.approx(2 * greater)


def test_interval_holds_the_mean_and_widens_with_the_spread():
    low, high = inference.interval(TENS)
    assert low < TENS.mean() < high
    standard_error = scipy.stats.sem(TENS)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    wide = inference.interval(TENS.mean() + 3 * (TENS - TENS.mean()))
    assert wide[1] - wide[0] == pytest.approx(3 * (high - low), rel=0.02)
    assert inference.interval(np.full(4, 2.5)) == (2.5, 2.5)
    assert np.isnan(inference.interval(np.array([1.0, 2.0]))).all()


def test_values_that_are_equal_but_for_rounding_are_one():
    """SciPy's interval of these is NaN, with a warning, as nothing is left to resample."""
    rng = np.random.default_rng(0)
    for size in (1.2, -0.3, 1e-8):
        values = size * (1 + rng.integers(-2, 3, 10) * 2.0**-52)
        low, high = inference.interval(values)
        assert values.min() <= low <= high <= values.max()
        assert inference.sign_flip(values) == 2 / 2**10
    assert inference.interval(np.full(5, 2.0)) == (2.0, 2.0)
    assert inference.interval(np.array([0.0, 0.0, 0.0])) == (0.0, 0.0)
    low, high = inference.interval(1 + 1e-6 * np.arange(10))  # which are not
    assert 1 < low < high < 1 + 9e-6


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    samples = rng.normal(1.0, 2.0, (120, 12))
    held = [low <= 1.0 <= high for low, high in map(inference.interval, samples)]
    assert 0.85 <= np.mean(held) <= 1.0  # 95 % but for the bootstrap's optimism at n = 12


def test_holm_by_hand():
    # 0.01·4, 0.02·3, then 0.03·2 and 0.5·1 where they are not below the ones before.
    adjusted = inference.holm([0.03, 0.01, 0.5, 0.02])
    np.testing.assert_allclose(adjusted, [0.06, 0.04, 0.5, 0.06])
    np.testing.assert_array_equal(inference.holm([0.9, 0.8]), [1, 1])
    assert inference.holm([]).shape == (0,)


def test_probability_of_improvement_by_hand_and_by_scipy():
    ours = {("a", 0): 5.0, ("a", 1): 1.0, ("b", 0): 3.0, ("only ours", 0): 9.0}
    theirs = {("a", 0): 2.0, ("a", 1): 5.0, ("b", 0): 3.0}
    # Task a: 5 > 2, 5 = 5, 1 < both; task b: a tie.
    assert inference.probability_of_improvement(ours, theirs) == np.mean([1.5 / 4, 0.5])
    rng = np.random.default_rng(2)
    x, y = rng.normal(1, 1, 7), rng.normal(0, 1, 9)
    u = scipy.stats.mannwhitneyu(x, y).statistic
    sides = ({("t", i): float(v) for i, v in enumerate(values)} for values in (x, y))
    assert inference.probability_of_improvement(*sides) == pytest.approx(u / 63)


def test_interquartile_mean_leaves_out_the_outer_quarters():
    assert inference.interquartile_mean([-1000, 1, 2, 3, 4, 5, 6, 1000]) == 3.5


def test_detectable_difference_is_found_four_times_in_five():
    """Cohen's d of 0.996 at ten values is the textbook's; and a simulation agrees."""
    values = np.arange(10.0)
    values /= values.std(ddof=1)
    shift = inference.detectable_difference(values)
    assert shift == pytest.approx(0.996, abs=0.002)
    draws = np.random.default_rng(3).normal(shift, 1, (4000, 10))
    p_values: Any = scipy.stats.ttest_1samp(draws, 0, axis=1)[1]
    found = p_values < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)
    assert math.isnan(inference.detectable_difference(np.array([1.0])))


def test_spreads_are_those_of_the_analysis_of_variance():
    """Its quotient is SciPy's F; and of many draws the spreads are those they were drawn with."""
    rng = np.random.default_rng(4)
    drawn = rng.normal(0, 2, (9, 1)) + rng.normal(0, 1, (9, 4))

    def spreads(values):
        of = {
            (f"t{i}", seed): float(v) for i, row in enumerate(values) for seed, v in enumerate(row)
        }
        return inference.spreads(of)

    between, within = spreads(drawn)
    assert 1 + 4 * between**2 / within**2 == pytest.approx(scipy.stats.f_oneway(*drawn).statistic)
    many = rng.normal(0, 2, (4000, 1)) + rng.normal(0, 1, (4000, 3))
    assert spreads(many) == (pytest.approx(2, rel=0.05), pytest.approx(1, rel=0.05))
    # By hand: sums of squares 16 within, of 4 degrees of freedom, and 552 / 7 between, of 2; and
    # 2 seeds a task, as (7 − 21 / 7) / 2.
    assert spreads([[1.0], [2.0, 4.0], [9.0, 7.0, 8.0, 12.0]]) == (
        pytest.approx(math.sqrt((552 / 7 / 2 - 16 / 4) / 2)),
        pytest.approx(2),
    )
    # Tasks that differ by less than their seeds explain.
    assert spreads([[1, -1], [-1, 1], [1, -1]]) == (0, pytest.approx(math.sqrt(2)))
    assert np.isnan(spreads([[1.0], [2.0]])).all()
    one_task = spreads([[1.0, 2.0, 4.0]])
    assert np.isnan(one_task[0])
    assert one_task[1] == pytest.approx(np.std([1.0, 2.0, 4.0], ddof=1))
    assert np.isnan(spreads([])).all()


def test_epochs_to_a_level():
    record = run("a", [10, 30, 20, 40])
    levels = (5, 30, 35, 41)
    assert [averages.epochs_to(record, level) for level in levels] == [1, 2, 4, None]


def test_a_family_of_comparisons():
    """The task is the unit: seeds of a task count as one."""
    records = [
        run(variant, [50 + task + shift + 0.2 * seed * task] * 3, task=f"pair-{task}", seed=seed)
        for variant, shift in (("random", 0), ("much", 5), ("none", 0))
        for task in range(6)
        for seed in range(2)
    ]
    records.append(run("much", [math.nan] * 3, task="pair-9", stopped="x"))
    contrasts = [("much", "random"), ("none", "random"), ("absent", "random")]
    much, none = inference.compare(records, contrasts)
    assert (much.tasks, much.runs, much.mean) == (6, 12, pytest.approx(5))
    assert much.p == pytest.approx(2 / 64)
    assert much.adjusted == pytest.approx(6 / 64)  # what has not run counts
    assert (much.low, much.high) == (pytest.approx(5), pytest.approx(5))
    assert inference.verdict(much) == "open"  # six tasks cannot show more after correction
    assert inference.verdict(dataclasses.replace(much, adjusted=0.01)) == "better"
    worse = dataclasses.replace(much, adjusted=0.01, low=-3.0, high=-1.0)
    assert inference.verdict(worse) == "worse"
    assert (none.mean, none.improvement) == (0, 0.5)
    assert inference.verdict(none) == "open"  # of six tasks
    assert inference.verdict(dataclasses.replace(none, tasks=8)) == "as good"
    # Both are needed: a small p, and zero outside the interval.
    assert inference.verdict(dataclasses.replace(much, adjusted=0.01, low=-0.1)) == "open"
    assert inference.verdict(dataclasses.replace(none, tasks=8, high=1.2)) == "open"
