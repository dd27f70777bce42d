"""What many runs say together: means with their spread, paired differences, and their certainty.

Runs on one task share its classes and images, so that the task is the unit of all that is
inferred: differences are averaged over the seeds of a task first. Intervals are BCa bootstrap
intervals (Efron, 1987), p values those of the exact sign-flip permutation test, corrected by Holm's
method (1979); probability of improvement and interquartile mean are those of Agarwal et al. (2021,
"Deep reinforcement learning at the edge of the statistical precipice").
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats
from jaxtyping import Float

from experiments.errors import UserError
from experiments.tracking import RunRecord

LAST_EPOCHS = 3  # the final value of a run is its mean over so many
CONFIDENCE = 0.95
POWER = 0.8
_FEWEST = 3  # values, below which there is no interval
_FEWEST_AS_GOOD = 8  # tasks, as intervals of fewer are too narrow to show equality
_RESAMPLES = 10_000
_MOST_FLIPS = 2**14  # all signs of up to 14 tasks; of more tasks so many at random

Values = Float[np.ndarray, " n"]
Finals = Mapping[tuple[str, int], float]  # by task and seed


@dataclasses.dataclass(frozen=True)
class Summary:
    """One metric of one variant over its runs; NaN where there are too few runs."""

    n: int  # runs counted
    stopped: int  # runs left out
    mean: Float[np.ndarray, " epochs"]
    std: Float[np.ndarray, " epochs"]  # of the sample: n − 1
    low: Float[np.ndarray, " epochs"]  # minimum over runs
    high: Float[np.ndarray, " epochs"]  # maximum over runs

    @property
    def margin(self) -> Float[np.ndarray, " epochs"]:
        """Half the 95 % interval of the mean by Student's t; NaN with fewer than three runs."""
        if self.n < _FEWEST:
            return np.full_like(self.mean, np.nan)
        return scipy.stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1) * self.std / math.sqrt(self.n)


def by_variant(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Groups runs by their variant, in the order of their first."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.variant, []).append(record)
    return groups


def finished(record: RunRecord, metric: str) -> bool:
    """Whether a run went to its end, with numbers throughout."""
    return record.stopped is None and None not in record.curves[metric]


def summarize(records: Iterable[RunRecord], metric: str = "val_acc_top1") -> dict[str, Summary]:
    """Returns each variant's mean, sample standard deviation and range over runs, per epoch.

    Raises:
        UserError: If finished runs of one variant differ in their number of epochs.
    """
    summaries = {}
    for variant, runs in by_variant(records).items():
        curves = [r.curves[metric] for r in runs if finished(r, metric)]
        lengths = {len(c) for c in curves or [runs[0].curves[metric]]}
        if len(lengths) > 1:
            epochs = " and ".join(map(str, sorted(lengths)))
            raise UserError(f"the runs of {variant} have {epochs} epochs: give one --output each")
        values = np.array(curves, np.float64).reshape(len(curves), *lengths)
        nan = np.full(values.shape[1], np.nan)
        n = len(values)
        summaries[variant] = Summary(
            n=n,
            stopped=len(runs) - n,
            mean=values.mean(axis=0) if n else nan,
            std=values.std(axis=0, ddof=1) if n > 1 else nan,
            low=values.min(axis=0) if n else nan,
            high=values.max(axis=0) if n else nan,
        )
    return summaries


def final(record: RunRecord, metric: str = "val_acc_top1") -> float:
    """Returns the mean of the last `LAST_EPOCHS` epochs of a run, NaN if it stopped early."""
    if not finished(record, metric):
        return math.nan
    return float(np.mean(np.array(record.curves[metric], np.float64)[-LAST_EPOCHS:]))


def paired_differences(
    records: Sequence[RunRecord], variant: str, baseline: str, metric: str = "val_acc_top1"
) -> dict[tuple[str, int], float]:
    """Returns final value of variant − baseline per (task, seed) that both finished."""
    ours, theirs = (finals(records, name, metric) for name in (variant, baseline))
    return {pair: value - theirs[pair] for pair, value in ours.items() if pair in theirs}


def decimals(metric: str) -> int:
    """Returns how many decimals a number of this metric is shown with: accuracies are percent."""
    return 1 if "acc" in metric else 3


def mean_std(values: Sequence[float], sign: str = "", digits: int = 1) -> str:
    """Returns "64.2 ± 3.1": mean and sample standard deviation; sign="+" shows the sign."""
    if not len(values):
        return "–"
    mean = f"{np.mean(values):{sign}.{digits}f}".replace("-", "−")
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


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
        differences = paired_differences(records, variant, baseline, metric)
        if not differences:
            continue
        values = task_means(differences)
        low, high = interval(values)
        ours, theirs = (finals(records, name, metric) for name in (variant, baseline))
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


def finals(
    records: Iterable[RunRecord], variant: str, metric: str = "val_acc_top1"
) -> dict[tuple[str, int], float]:
    """Returns the final value of each finished run of a variant, by task and seed."""
    return {
        (r.task, r.seed): final(r, metric)
        for r in records
        if r.variant == variant and finished(r, metric)
    }


def task_means(values: Finals) -> Values:
    """Averages over the seeds of each task."""
    by_task: dict[str, list[float]] = {}
    for (task, _), value in values.items():
        by_task.setdefault(task, []).append(value)
    return np.array([np.mean(of_task) for of_task in by_task.values()])


def interval(values: Values) -> tuple[float, float]:
    """Returns the 95 % BCa bootstrap interval of the mean; NaN with fewer than three values."""
    if len(values) < _FEWEST:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
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


def detectable_difference(values: Values, alpha: float = 1 - CONFIDENCE) -> float:
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


def epochs_to(record: RunRecord, level: float, metric: str = "val_acc_top1") -> int | None:
    """Returns after how many epochs a run first reaches the level; None if it never does."""
    values = record.curves[metric]
    return next((i for i, v in enumerate(values, 1) if v is not None and v >= level), None)


def epochs_to_finals(runs: Iterable[RunRecord], levels: Finals) -> list[int | None]:
    """Returns `epochs_to` the level of its task and seed for each run that has one."""
    return [
        epochs_to(run, levels[run.task, run.seed]) for run in runs if (run.task, run.seed) in levels
    ]


def first_epochs(record: RunRecord, epochs: int) -> RunRecord:
    """Returns a run as it was after so many epochs, or whole where it had fewer."""
    curves = {name: values[:epochs] for name, values in record.curves.items()}
    return dataclasses.replace(record, curves=curves)


def difference_text(mean: float, low: float, high: float) -> str:
    """Returns "+1.2 [+0.5, +1.6]": a difference and its interval, where there is one."""
    bounds = f" [{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else ""
    return f"{mean:+.1f}{bounds}".replace("-", "−")


def verdict(comparison: Comparison, margin: float = 1.0) -> str:
    """Says in words what a comparison settles.

    "better" or "worse" where the corrected p value is below 0.05 and the interval leaves out zero;
    else "as good" where the whole interval, which is not corrected, of eight or more tasks is
    within the margin (percentage points); else "open".
    """
    low, high = comparison.low, comparison.high
    if comparison.adjusted < 1 - CONFIDENCE and low > 0:
        return "better"
    if comparison.adjusted < 1 - CONFIDENCE and high < 0:
        return "worse"
    within = comparison.tasks >= _FEWEST_AS_GOOD and -margin < low and high < margin
    return "as good" if within else "open"
