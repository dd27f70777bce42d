"""How numbers are written, and the rule of the verdicts in words."""

from collections.abc import Sequence

import numpy as np

from experiments.records import averages

_NAMES = {
    "loss": ("loss", "cross-entropy, nats"),
    "acc_top1": ("accuracy", "%"),
    "acc_top5": ("accuracy among the first five", "%"),
}
_SPLITS = {"train": "training", "val": "validation"}


def metric_name(metric: str) -> tuple[str, str]:
    """Returns what a reader calls a metric, and its unit: ("validation accuracy", "%")."""
    split, _, rest = metric.partition("_")
    name, unit = _NAMES[rest]
    return f"{_SPLITS[split]} {name}", unit


def decimals(metric: str) -> int:
    """Returns how many decimals a number of this metric is shown with: accuracies are percent."""
    return 1 if "acc" in metric else 3


def mean_std(values: Sequence[float], sign: str = "", digits: int = 1) -> str:
    """Returns "64.2 ± 3.1": mean and sample standard deviation; sign="+" shows the sign."""
    if not len(values):
        return "–"
    mean = f"{np.mean(values):{sign}.{digits}f}".replace("-", "−")
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def difference_text(mean: float, low: float, high: float) -> str:
    """Returns "+1.2 [+0.5, +1.6]": a difference and its interval, where there is one."""
    bounds = f" [{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else ""
    return f"{mean:+.1f}{bounds}".replace("-", "−")


def rule() -> str:
    """Says in words how a verdict is reached."""
    return (
        f"The final value of a run is its mean validation accuracy over the last "
        f"{averages.LAST_EPOCHS} epochs. Differences are between runs on the same task with the "
        "same seed, averaged over the seeds of a task; the task is the unit. In brackets the 95 % "
        "BCa bootstrap interval; p is that of the sign-flip permutation test, then corrected by "
        "Holm’s method for all rows of a table. Better or worse: corrected p below 0.05 and zero "
        "outside the interval. As good: neither, and the whole interval, which is not corrected, "
        "of eight or more tasks within one point. Open: none of these. Detectable is the "
        "difference that a t test at 5 %, not corrected, of as many tasks with this scatter finds "
        "in four of five cases. Pairs of superclasses overlap, so that tasks are not wholly "
        "independent, and all clusters are of the same source models: what is settled is settled "
        "for these."
    )
