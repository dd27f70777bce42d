"""Training: one epoch against a loop written out, many runs against one, and what must stop."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data.tasks import pair_task
from experiments.runs import protocol
from experiments.training import augmentation, dead_taps, networks, programs, run_log
from experiments.training import trainer as trainers
from experiments.training.epoch import Epoch, Split, batch_metrics, init_state
from experiments.training.hyperparameters import Training
from experiments.training.run_log import Curves
from experiments.training.trainer import Trainer
from tests.experiments.small import make_dataset
from tests.small import SmallNetwork

PAIRS = ((0, 1), (2, 3), (0, 3))
SETTINGS = Training(epochs=3, batch_size=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


@pytest.fixture(scope="module")
def trainer(dataset):
    return Trainer(dataset, SETTINGS, 10, SmallNetwork())


def curve(curves: Curves, name: str) -> np.ndarray:
    return np.asarray(curves.values[name], np.float64)


def tasks_and_starts(trainer, dataset, pairs=PAIRS):
    keys = [protocol.run_keys(0, pair) for pair in pairs]
    return (
        [pair_task(dataset, pair) for pair in pairs],
        [trainer.init_variables(key.network) for key in keys],
        [key.training for key in keys],
    )


def test_one_epoch_is_the_loop_written_out(dataset):
    """130 images in batches of 32: four whole ones and the last of 2, as PyTorch's loader keeps."""
    network: Any = SmallNetwork()
    trainer = Trainer(dataset, SETTINGS, 10, network)
    (task,), (variables,), (key,) = tasks_and_starts(trainer, dataset, PAIRS[:1])
    epoch = Epoch(network, SETTINGS, dataset.mean, dataset.std)
    train = Split(jnp.asarray(task.train_index), jnp.asarray(task.train_labels))
    test = Split(jnp.asarray(task.test_index), jnp.asarray(task.test_labels))
    state = init_state(variables, SETTINGS)
    state, result = jax.jit(epoch)(trainer.images, train, test, state, key)

    order_key, augment_key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, 130))
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.05, momentum=0.9))
    params, stats = variables["params"], variables["batch_stats"]
    slots, losses = optimizer.init(params), []

    def normalize(images):
        return jnp.asarray((np.asarray(images, np.float32) / 255 - 0.5) / 0.25)

    def loss_of(params, stats, x, y):
        logits, new = network.apply(
            {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, new["batch_stats"]

    for number, rows in enumerate(np.split(order, [32, 64, 96, 128])):
        images = jnp.asarray(dataset.train_images[task.train_index[rows]])
        images = augmentation.augment(jax.random.fold_in(augment_key, number), images)
        y = jnp.asarray(task.train_labels[rows])
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, stats), grads = gradient(params, stats, normalize(images), y)
        updates, slots = optimizer.update(grads, slots, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(loss))

    np.testing.assert_allclose(result.step_losses, losses, rtol=1e-4)
    for a, b in zip(
        jax.tree.leaves((state.params, state.batch_stats)),
        jax.tree.leaves((params, stats)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    logits = network.apply(
        {"params": params, "batch_stats": stats},
        normalize(dataset.test_images[task.test_index]),
        train=False,
    )
    hits = float(np.mean(np.argmax(np.asarray(logits), axis=1) == task.test_labels))
    assert float(result.validation.top1) == pytest.approx(hits, abs=0.03)


def test_taps_that_see_no_data_are_those_of_steps_with_all(monkeypatch):
    """On 2×2 images five of the nine taps of the only convolution meet padding alone."""
    dataset = make_dataset(size=2)
    settings = dataclasses.replace(SETTINGS, weight_decay=0.1)
    network: Any = SmallNetwork()
    assert networks.trace(network, (2, 2)).live_taps() == {"conv1": (slice(1, 3), slice(1, 3))}

    def train():
        trainer = Trainer(dataset, settings, 10, network)
        return trainer.train(*tasks_and_starts(trainer, dataset, PAIRS[:1]))

    (left_out,), (fast,) = train()
    monkeypatch.setattr(dead_taps, "trimmed_layers", lambda network: ())
    programs.programs_for.cache_clear()
    (whole,), (plain,) = train()
    programs.programs_for.cache_clear()
    for name in run_log.CURVES:
        np.testing.assert_allclose(curve(left_out, name), curve(whole, name), rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), fast, plain)
    # Weight decay has shrunk the dead taps, and the same everywhere.
    (start,) = tasks_and_starts(Trainer(dataset, settings, 10, network), dataset)[1][:1]
    ratio = fast["params"]["conv1"]["kernel"][0, 0] / start["params"]["conv1"]["kernel"][0, 0]
    assert 0.3 < float(ratio.mean()) < 0.95
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("logits", "label", "top1", "top5"),
    [
        (np.zeros(10), 0, 1, 1),  # all equal: as argmax has it, of class 0
        (np.zeros(10), 4, 0, 1),
        (np.zeros(10), 5, 0, 0),
        (np.full(10, np.nan), 0, 0, 0),
        (np.r_[np.zeros(9), np.nan], 9, 0, 0),
        (np.r_[np.zeros(9), np.nan], 0, 0, 1),  # argmax, too, is where NaN is
        (np.full(3, np.nan), 1, 0, 0),  # of fewer classes than five
        (np.array([2.0, np.nan]), 1, 0, 0),
    ],
)
def test_ties_go_to_the_lower_label_and_nan_is_no_hit(logits, label, top1, top5):
    got = batch_metrics(jnp.asarray(logits[None], jnp.float32), jnp.asarray([label]))
    assert (float(got.top1), float(got.top5)) == (top1, top5)


def test_hits_are_those_of_a_stable_sort():
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (500, 10)).astype(np.float32)  # many ties
    labels = rng.integers(0, 10, 500).astype(np.int32)
    order = np.argsort(-logits, axis=1, kind="stable")
    got = batch_metrics(jnp.asarray(logits), jnp.asarray(labels))
    assert float(got.top1) == np.sum(order[:, 0] == labels)
    assert float(got.top5) == np.sum((order[:, :5] == labels[:, None]).any(axis=1))


def test_metrics_by_hand():
    logits = jnp.log(
        jnp.asarray([[0.5, 0.2, 0.1, 0.1, 0.05, 0.05], [0.4, 0.3, 0.1, 0.1, 0.06, 0.04]])
    )
    got = batch_metrics(logits, jnp.asarray([1, 5]))
    assert float(got.loss) == pytest.approx(-math.log(0.2) - math.log(0.04), rel=1e-5)
    assert (float(got.top1), float(got.top5)) == (0.0, 1.0)


def test_many_runs_at_once_are_the_same_runs(trainer, dataset):
    tasks, starts, keys = tasks_and_starts(trainer, dataset)
    together, finals = trainer.train(tasks, starts, keys)
    for i in range(len(tasks)):
        (alone,), (final,) = trainer.train(tasks[i : i + 1], starts[i : i + 1], keys[i : i + 1])
        for name in run_log.CURVES:
            np.testing.assert_allclose(
                curve(together[i], name), curve(alone, name), rtol=2e-3, atol=1e-6
            )
        for a, b in zip(jax.tree.leaves(finals[i]), jax.tree.leaves(final), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4)


def test_a_smaller_last_group_fills_up_and_changes_nothing(trainer, dataset):
    tasks, starts, keys = tasks_and_starts(trainer, dataset)
    whole, _ = trainer.train(tasks, starts, keys)
    part, finals = trainer.train(tasks[:2], starts[:2], keys[:2], places=3)
    assert part == whole[:2]
    assert len(finals) == 2


def test_as_many_runs_at_once_as_memory_holds(trainer, dataset, monkeypatch):
    task = pair_task(dataset, PAIRS[0])
    assert trainer.runs_that_fit(task) is None  # a CPU does not say how much memory it has
    start = trainer.init_variables(jax.random.key(0))
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(start["params"]))
    counts = {}
    for times in (1, 1_000, 2_000):
        monkeypatch.setattr(trainers, "free_memory", lambda t=times: t * 100.0 * state)
        counts[times] = trainer.runs_that_fit(task)
    assert counts[1] >= 1
    # Parameters, momenta and gradients at least; and twice the memory holds twice the runs.
    assert counts[1_000] <= 100_000 / 3
    assert counts[2_000] == pytest.approx(2 * counts[1_000], abs=1)


SPREAD = """
import json
from experiments.training.trainer import Trainer
from tests.experiments.training import test_trainer as test_training
from tests.small import SmallNetwork
from tests.experiments.small import make_dataset

dataset = make_dataset()
trainer = Trainer(dataset, test_training.SETTINGS, 10, SmallNetwork())
assert trainer._mesh.size == 8
curves, _ = trainer.train(*test_training.tasks_and_starts(trainer, dataset))
print(json.dumps([c.values for c in curves]))
"""


def test_runs_spread_over_eight_devices_are_the_same_runs(trainer, dataset):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", SPREAD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spread = json.loads(done.stdout.splitlines()[-1])
    here, _ = trainer.train(*tasks_and_starts(trainer, dataset))
    assert len(spread) == len(here)
    for a, b in zip(spread, here, strict=True):
        for name in run_log.CURVES:
            np.testing.assert_allclose(a[name], curve(b, name), rtol=2e-3, atol=1e-6)


def test_training_learns_and_the_same_key_gives_the_same_curve(trainer, dataset):
    tasks, starts, keys = tasks_and_starts(trainer, dataset, PAIRS[:1])
    (first,), _ = trainer.train(tasks, starts, keys)
    (again,), _ = trainer.train(tasks, starts, keys)
    (other,), _ = trainer.train(tasks, starts, [jax.random.key(77)])
    assert first == again
    assert first.values["train_loss"] != other.values["train_loss"]
    assert first.values["train_loss"][-1] < first.values["train_loss"][0]
    assert first.values["val_acc_top1"][-1] > 15
    assert first.values["learning_rate"] == [0.05] * 3


def test_a_loss_that_is_not_finite_stops_only_its_run(trainer, dataset):
    tasks, starts, keys = tasks_and_starts(trainer, dataset)
    sick = jax.tree.map(jnp.copy, starts[1])
    sick["params"]["fc"]["bias"] = sick["params"]["fc"]["bias"].at[0].set(jnp.nan)
    curves, _ = trainer.train(tasks, [starts[0], sick, starts[2]], keys)
    healthy, _ = trainer.train(tasks, starts, keys)
    assert curves[1].stopped == "the loss is not finite in epoch 1, in training step 1"
    assert curves[1].values["train_loss"] == []
    assert curves[0] == healthy[0]
    assert curves[2] == healthy[2]
    assert healthy[1].stopped is None


def test_all_runs_stopped_ends_the_training(trainer, dataset):
    tasks, starts, keys = tasks_and_starts(trainer, dataset, PAIRS[:1])
    sick = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.inf), starts[0])
    told = []
    curves, _ = trainer.train(tasks, [sick], keys, lambda epoch, accuracies: told.append(epoch))
    assert curves[0].stopped
    assert told == [1]


def test_learning_rate_follows_the_schedule(dataset):
    settings = dataclasses.replace(SETTINGS, schedule="cosine", learning_rate=0.1)
    trainer = Trainer(dataset, settings, 10, SmallNetwork())
    (curves,), _ = trainer.train(*tasks_and_starts(trainer, dataset, PAIRS[:1]))
    expected = [0.1, 0.1 * 0.75, 0.1 * 0.25]
    np.testing.assert_allclose(curve(curves, "learning_rate"), expected, rtol=1e-6)


def test_a_rate_of_almost_nothing_changes_almost_nothing(dataset):
    """The rate that the log holds is the rate that the step uses."""
    settings = dataclasses.replace(SETTINGS, learning_rate=1e-12)
    trainer = Trainer(dataset, settings, 10, SmallNetwork())
    tasks, starts, keys = tasks_and_starts(trainer, dataset, PAIRS[:1])
    _, (final,) = trainer.train(tasks, starts, keys)
    for a, b in zip(
        jax.tree.leaves(final["params"]), jax.tree.leaves(starts[0]["params"]), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-8)


@pytest.mark.parametrize("change", [{"augment": False}, {"normalize": False}, {"momentum": 0.0}])
def test_every_switch_does_something(trainer, dataset, change):
    tasks, starts, keys = tasks_and_starts(trainer, dataset, PAIRS[:1])
    (before,), _ = trainer.train(tasks, starts, keys)
    other = Trainer(dataset, dataclasses.replace(SETTINGS, **change), 10, SmallNetwork())
    (after,), _ = other.train(tasks, starts, keys)
    assert before.values["train_loss"][-1] != pytest.approx(
        after.values["train_loss"][-1], rel=1e-4
    )


def test_bfloat16_trains_close_to_float32(dataset):
    """One epoch of two of ResNet-18's stages, narrow and of one block each, in both arithmetics."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=65, precision=precision)
        whole: Any = networks.make_network(10, settings)
        network = dataclasses.replace(whole, stages=(1, 1), widths=(16, 32))
        trainer = Trainer(dataset, settings, 10, network)
        (curves,), (final,) = trainer.train(*tasks_and_starts(trainer, dataset, PAIRS[:1]))
        losses[precision] = curves.values["train_loss"][0]
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(final))
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_norms_and_turns_of_layers_are_recorded(trainer, dataset):
    tasks, starts, keys = tasks_and_starts(trainer, dataset, PAIRS[:2])
    curves, _ = trainer.train(tasks, starts, keys)
    short = Trainer(dataset, dataclasses.replace(SETTINGS, epochs=1), 10, SmallNetwork())
    _, after_one = short.train(tasks, starts, keys)
    for i in range(2):
        norms = curve(curves[i], "norm/conv1")
        wanted = [np.linalg.norm(of[i]["params"]["conv1"]["kernel"]) for of in (starts, after_one)]
        assert len(norms) == 3
        np.testing.assert_allclose(norms[:2], wanted, rtol=1e-4)
        kernels = [np.ravel(of[i]["params"]["conv1"]["kernel"]) for of in (starts, after_one)]
        cosine = np.dot(*(kernel / np.linalg.norm(kernel) for kernel in kernels))
        turns = curve(curves[i], "turn/conv1")
        assert len(turns) == 3
        assert turns[0] == pytest.approx(np.degrees(np.arccos(cosine)), rel=0.01)


def test_a_frozen_stem_stays_and_the_rest_learns(dataset):
    settings = dataclasses.replace(SETTINGS, freeze_stem=True)
    trainer = Trainer(dataset, settings, 10, SmallNetwork())
    tasks, starts, keys = tasks_and_starts(trainer, dataset, PAIRS[:1])
    (curves,), (final,) = trainer.train(tasks, starts, keys)
    before = starts[0]["params"]
    np.testing.assert_array_equal(final["params"]["conv1"]["kernel"], before["conv1"]["kernel"])
    assert not np.allclose(final["params"]["bn1"]["scale"], before["bn1"]["scale"])
    assert not np.any(curve(curves, "turn/conv1"))
    losses = curve(curves, "train_loss")
    assert losses[-1] < losses[0]
    # Runs recorded before there was this switch are runs without it.
    assert "freeze_stem" not in SETTINGS.described()["training"]
    assert settings.described()["training"]["freeze_stem"]
