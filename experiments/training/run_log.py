"""The curves of one run as they grow, and the learning rate that follows from them."""

import math
import time
from typing import Any, NamedTuple

import numpy as np

from experiments.records.run_record import CURVES
from experiments.training import schedules
from experiments.training.epoch import EpochResult
from experiments.training.hyperparameters import Training


class Curves(NamedTuple):
    """What one run recorded: lists with one value an epoch.

    Those of `CURVES`, accuracies in percent; `norm/<layer>`, the norm of the layer's taps that
    meet data, as the epoch begins, so that the first is the initialiser's; and `turn/<layer>`, the
    angle in degrees between these taps before the epoch and after it.
    """

    values: dict[str, list[float | None]]
    stopped: str | None
    earlier: float = 0.0  # seconds that it was trained before it was interrupted


class RunLog:
    """The curves of one run as they grow, and the learning rate that follows from them."""

    def __init__(self, settings: Training) -> None:
        self.settings = settings
        self.curves: dict[str, list[Any]] = {name: [] for name in CURVES}
        self.stopped: str | None = None
        self.earlier = 0.0
        self._start = time.monotonic()

    def seconds(self) -> float:
        """How long the run has been trained, interruptions not counted."""
        return self.earlier + time.monotonic() - self._start

    def learning_rate(self) -> float:
        """The rate of the next epoch."""
        return schedules.learning_rate(
            self.settings.schedule,
            self.settings.learning_rate,
            len(self.curves["train_loss"]),
            self.settings.epochs,
            train_losses=self.curves["train_loss"],
            val_accuracies=self.curves["val_acc_top1"],
        )

    def last_accuracy(self) -> float:
        """Validation accuracy of the last epoch in percent; NaN where there is none."""
        return self.curves["val_acc_top1"][-1] if self.curves["val_acc_top1"] else math.nan

    def add(self, result: EpochResult) -> None:
        """Records one epoch, unless its loss was not finite: then the run is stopped."""
        if self.stopped:
            return
        losses = np.append(result.step_losses, result.validation.loss)
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            epoch = len(self.curves["train_loss"]) + 1
            last = bad[0] == len(losses) - 1
            where = "the validation" if last else f"training step {bad[0] + 1}"
            self.stopped = f"the loss is not finite in epoch {epoch}, in {where}"
            return
        rate = self.learning_rate()
        for split, metrics in (("train", result.train), ("val", result.validation)):
            self.curves[f"{split}_loss"].append(float(metrics.loss))
            self.curves[f"{split}_acc_top1"].append(100 * float(metrics.top1))
            self.curves[f"{split}_acc_top5"].append(100 * float(metrics.top5))
        self.curves["learning_rate"].append(rate)
        for kind, values in (("norm", result.norms), ("turn", result.turns)):
            for name, value in values.items():
                self.curves.setdefault(f"{kind}/{name}", []).append(float(f"{value:.5g}"))
