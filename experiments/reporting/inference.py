"""What many runs say together: means with their spread, paired differences, and their certainty.

Runs on one task share its classes and images, so that the task is the unit of all that is
inferred: differences are averaged over the seeds of a task first. Intervals are BCa bootstrap
intervals (Efron, 1987), p values those of the exact sign-flip permutation test, corrected by Holm's
method (1979); probability of improvement and interquartile mean are those of Agarwal et al. (2021,
"Deep reinforcement learning at the edge of the statistical precipice").
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

from experiments.records import averages
from experiments.records.averages import Finals, Values
from experiments.records.run_record import RunRecord

POWER = 0.8
_FEWEST_AS_GOOD = 8  # tasks, as intervals of fewer are too narrow to show equality
_RESAMPLES = 10_000
_ROUNDING = 1e-9  # values that differ by no more of themselves are one
_MOST_FLIPS = 2**14  # all signs of up to 14 tasks; of more tasks so many at random


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One variant against another, on the same tasks with the same seeds."""

    variant: str
    baseline: str
    tasks: int  # what the certainty rests on
    runs: int  # pairs of runs
    mean: float  # difference, in the units of the metric
    low: float  # of its 95 % interval; NaN with fewer than 3 tasks
    high: float
    p: float  # of no difference, two-sided
    adjusted: float  # p, corrected for the number of comparisons
    improvement: float  # probability that the variant does better on a task
    detectable: float  # the difference that would be found four times in five; NaN with one task


def compare(
    records: Sequence[RunRecord],
    contrasts: Sequence[tuple[str, str]],
    metric: str = "val_acc_top1",
) -> list[Comparison]:
    """Compares variants with others, all as one family.

    Args:
        records: Runs of all of them.
        contrasts: (variant, baseline), whose p values are corrected together; those without runs
            count too.
        metric: A name in METRICS; higher is better.

    Returns:
        One a contrast of which both finished some run on the same task with the same seed.
    """
    found = []
    for variant, baseline in contrasts:
        differences = averages.paired_differences(records, variant, baseline, metric)
        if not differences:
            continue
        values = averages.task_means(differences)
        low, high = interval(values)
        ours, theirs = (averages.finals(records, name, metric) for name in (variant, baseline))
        found.append(
            Comparison(
                variant,
                baseline,
                tasks=len(values),
                runs=len(differences),
                mean=float(values.mean()),
                low=low,
                high=high,
                p=sign_flip(values),
                adjusted=math.nan,
                improvement=probability_of_improvement(ours, theirs),
                detectable=detectable_difference(values),
            )
        )
    missing = len(contrasts) - len(found)
    adjusted = holm([one.p for one in found] + [1.0] * missing)[: len(found)]
    return [
        dataclasses.replace(one, adjusted=float(p)) for one, p in zip(found, adjusted, strict=True)
    ]


def interval(values: Values) -> tuple[float, float]:
    """Returns the 95 % BCa bootstrap interval of the mean; NaN with fewer than three values.

    Of values that are one up to rounding, where the bootstrap has no distribution to speak of, it
    is from the least of them to the greatest.
    """
    if len(values) < averages.FEWEST:
        return math.nan, math.nan
    low, high = float(np.min(values)), float(np.max(values))
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        return low, high
    found = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=averages.CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def sign_flip(values: Values) -> float:
    """Returns the two-sided p value of a mean of zero, from all ways to flip the values' signs.

    Exact for up to 14 values, else from 2¹⁴ ways at random. The least that n values can give is
    2 / 2ⁿ.
    """
    if len(values) < 2:
        return 1.0
    found = scipy.stats.permutation_test(
        (values,),
        lambda flipped, axis: np.mean(flipped, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_MOST_FLIPS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> Values:
    """Corrects p values so that the chance of any false finding stays that of one test."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def probability_of_improvement(ours: Finals, theirs: Finals) -> float:
    """Returns how often a run of ours does better than one of theirs on the same task.

    All seeds against all, the mean over tasks that both have; a tie counts half.
    """
    shares = []
    for task in dict.fromkeys(task for task, _ in ours):
        x, y = (np.array([v for (t, _), v in of.items() if t == task]) for of in (ours, theirs))
        if len(y):
            shares.append(np.mean((x[:, None] > y) + 0.5 * (x[:, None] == y)))
    return float(np.mean(shares)) if shares else math.nan


def interquartile_mean(values: Sequence[float]) -> float:
    """Returns the mean of the middle half, which outliers hardly move."""
    return float(scipy.stats.trim_mean(values, 0.25)) if len(values) else math.nan


def detectable_difference(values: Values, alpha: float = 1 - averages.CONFIDENCE) -> float:
    """Returns the mean that a two-sided t test of as many, as scattered values finds at 80 % power.

    In the units of the values; NaN for fewer than two.
    """
    n = len(values)
    if n < 2:
        return math.nan
    critical = scipy.stats.t.ppf(1 - alpha / 2, n - 1)

    def lack(shift: float) -> float:  # of power; the other tail is far below it
        return POWER - float(scipy.stats.nct.sf(critical, n - 1, shift))

    noncentrality: Any = scipy.optimize.brentq(lack, 0.0, 100.0)
    return noncentrality * float(np.std(values, ddof=1)) / math.sqrt(n)


def spreads(differences: Finals) -> tuple[float, float]:
    """Returns how differences scatter between tasks, and between the seeds of a task.

    Standard deviations in the units of the values, from the analysis of variance with one random
    effect (Searle, Casella and McCulloch, 1992, "Variance components", chapter 3); that between
    tasks is zero where tasks differ by less than their seeds explain, and NaN with fewer than two
    tasks. Both are NaN with one seed each.
    """
    groups = [np.array(values) for values in averages.by_task(differences).values()]
    seeds = np.array([len(values) for values in groups])
    tasks, runs = len(seeds), int(seeds.sum())
    if runs == tasks:
        return math.nan, math.nan
    means = averages.task_means(differences)
    squares = [np.sum((own - mean) ** 2) for own, mean in zip(groups, means, strict=True)]
    within = sum(squares) / (runs - tasks)
    if tasks < 2:
        return math.nan, math.sqrt(within)
    overall = np.average(means, weights=seeds)
    between = np.sum(seeds * (means - overall) ** 2) / (tasks - 1)
    # How many seeds a task has, where all have as many.
    per_task = (runs - np.sum(seeds**2) / runs) / (tasks - 1)
    return math.sqrt(max(0.0, (between - within) / per_task)), math.sqrt(within)


def verdict(comparison: Comparison, margin: float = 1.0) -> str:
    """Says in words what a comparison settles.

    "better" or "worse" where the corrected p value is below 0.05 and the interval leaves out zero;
    else "as good" where the whole interval, which is not corrected, of eight or more tasks is
    within the margin (percentage points); else "open".
    """
    low, high = comparison.low, comparison.high
    if comparison.adjusted < 1 - averages.CONFIDENCE and low > 0:
        return "better"
    if comparison.adjusted < 1 - averages.CONFIDENCE and high < 0:
        return "worse"
    within = comparison.tasks >= _FEWEST_AS_GOOD and -margin < low and high < margin
    return "as good" if within else "open"
