"""Learning rates: the published sequence, PyTorch's plateau rule, and each other rule by hand."""

import math

import numpy as np
import pytest

from experiments.training import schedules


def rates(schedule, epochs, losses=(), accuracies=(), base=0.01):
    return [
        schedules.learning_rate(
            schedule, base, epoch, epochs, train_losses=losses, val_accuracies=accuracies
        )
        for epoch in range(epochs)
    ]


FALLING = [2.3 * 0.9**epoch for epoch in range(30)]


def test_published_sequence():
    """The paper's 15 epochs: a falling loss never "rises" under a rule that maximises."""
    expected = [0.01] * 7 + [0.002] * 6 + [0.0004] * 2
    assert rates("published", 15, FALLING) == pytest.approx(expected, rel=1e-12)


def test_published_source_sequence():
    expected = [0.01] * 7 + [0.005] * 6 + [0.0025] * 6 + [0.00125] * 6
    assert rates("published-source", 25, FALLING) == pytest.approx(expected, rel=1e-12)


def test_report_halves_after_five_epochs_without_a_rise():
    accuracies = [10, 20, 20, 19, 20, 18, 20, 30, 30, 30, 30, 30, 30]
    expected = [0.01] * 7 + [0.005] * 6 + [0.0025]
    assert rates("report", 14, FALLING, accuracies) == pytest.approx(expected, rel=1e-12)


def test_constant_and_cosine():
    assert rates("constant", 3) == [0.01] * 3
    assert rates("cosine", 4) == pytest.approx(
        [0.01, 0.005 * (1 + math.sqrt(0.5)), 0.005, 0.005 * (1 - math.sqrt(0.5))]
    )


def test_an_epoch_sees_only_those_before_it():
    late = FALLING[:10] + [1e9] * 20
    assert rates("published", 11, FALLING) == rates("published", 11, late)


def test_an_unknown_schedule():
    with pytest.raises(ValueError, match=r"unknown schedule 'warm'.*cosine"):
        rates("warm", 1)


def test_plateaus_by_hand():
    assert schedules.plateaus([], patience=1) == 0
    assert schedules.plateaus([1.0, 1.00005, 1.0], patience=1) == 1  # below the threshold
    assert schedules.plateaus([1.0, 1.001, 1.0], patience=1) == 0
    assert schedules.plateaus([1.0, 0.9, 0.9, 0.9, 0.9], patience=1) == 2


@pytest.mark.parametrize(("schedule", "factor", "patience"), [
    ("published", 0.2, 5), ("published-source", 0.5, 5), ("report", 0.5, 4),
])  # fmt: skip
def test_the_rule_is_pytorchs(schedule, factor, patience):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    dropped = set()
    for _ in range(60):
        trend = rng.choice([-0.02, -0.002, 0.0, 0.002, 0.02])
        values = 1 + trend * np.arange(40) + rng.choice([0, 1e-4, 0.1]) * rng.normal(size=40)
        values = np.abs(values).tolist()
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=factor, patience=patience, eps=0.0
        )
        expected = []
        for value in values:
            expected.append(optimizer.param_groups[0]["lr"])
            theirs.step(value)
        assert rates(schedule, 40, values, values) == pytest.approx(expected, rel=1e-9)
        dropped.add(round(math.log(expected[-1] / 0.01, factor)))
    assert len(dropped) > 3  # the sequences differ in how often the rate falls
