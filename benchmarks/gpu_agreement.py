"""Whether the library computes on the device what it does on the CPU, and a short experiment."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit
from benchmarks import gpu_parts, many_runs, training_step
from benchmarks.gpu_plan import AGREEMENT, GRID_FAILED, Sizes
from experiments.data.sets import Dataset
from experiments.runs.evaluation import Evaluation
from experiments.runs.runner import Runner
from experiments.study import starts
from experiments.training.epoch import Epoch, init_state
from experiments.training.hyperparameters import Training
from jaxinit import banks, catalogue, kmeans

_LEARNT = 20.0  # % of ten classes

_UPDATE, _LABELS, _INERTIAS, _STARTS = AGREEMENT


def agreement(sizes: Sizes, report: Any) -> None:
    """Computes the same on the device and on the CPU, in float32 on both, and compares."""
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]

    def both(call: Callable[[], Any]) -> tuple[Any, Any]:
        return _on(device, call), _on(cpu, call)

    with jax.default_matmul_precision("highest"):
        (labels, inertia), (their_labels, their_inertia) = both(lambda: _clusters(sizes))
        report.number(_LABELS, [float(np.mean(labels != their_labels))], "")
        report.number("device and CPU, k-means' inertia", [abs(inertia / their_inertia - 1)], "")
        inertias, theirs = both(lambda: _bank(sizes))
        report.number(_INERTIAS, [float(np.max(np.abs(inertias / theirs - 1)))], "")
        update, their_update = both(lambda: _update(sizes))
        report.number(_UPDATE, [_distance(update, their_update)], "")
        differences = list(_initialisers(both, report))
        known = [own for own in differences if own is not None]
        if len(known) == len(differences):
            report.number(_STARTS, [max(known)], "")
        else:
            report.missing(_STARTS, "an initialiser failed")
    usual = _on(device, lambda: _update(sizes))
    report.number("a step's update as JAX has it (TF32 on a GPU)", [_distance(usual, update)], "")


def _on(device: Any, call: Callable[[], Any]) -> Any:
    """What a call makes on a device, as arrays of NumPy."""
    with jax.default_device(device):
        return jax.tree.map(np.asarray, call())


def _distance(ours: Any, theirs: Any) -> float:
    """The norm of the difference of two trees, relative to that of the second."""
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    square = sum(float(np.sum(np.square(a.astype(np.float64) - b))) for a, b in pairs)
    whole = sum(float(np.sum(np.square(b.astype(np.float64)))) for _, b in pairs)
    return (square / whole) ** 0.5


def _update(sizes: Sizes) -> Any:
    """By how much one step of training, without augmentation, changes each parameter."""
    size, batch = sizes.images[0], min(sizes.batch, 64)
    settings = Training(batch_size=batch, augment=False)
    network = gpu_parts.make_network(sizes, "float32")
    epoch = Epoch(network, settings, training_step.MEAN, training_step.STD)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, training_step.CLASSES, batch, dtype=np.int32))

    @jax.jit
    def run(key: Any, images: Any, labels: Any) -> Any:
        variables = network.init(key, jnp.zeros((1, size, size, 3)), train=False)
        state = init_state(variables, settings)
        after, _ = epoch.step(state, key, images, labels)
        return jax.tree.map(jnp.subtract, after.params, state.params)

    return run(jax.random.key(0), images, labels)


def _clusters(sizes: Sizes) -> Any:
    """Labels and inertia of points around centres that are apart."""
    rng, count = np.random.default_rng(0), min(sizes.points, 200_000)
    centres = 6 * rng.standard_normal((sizes.clusters, 9))
    points = centres[np.arange(count) % sizes.clusters] + rng.standard_normal((count, 9))
    points = jnp.asarray(points, jnp.float32)
    start = points[: sizes.clusters]
    found = kmeans.fit(jax.random.key(0), points, sizes.clusters, centers=start)
    return found.labels, found.inertia


def _params(channels: int, draw: Callable[[tuple[int, ...]], Any]) -> Any:
    """Two layers' kernels in a tree whose names tell their order."""
    kernels = {"conv1": draw((7, 7, 3, channels)), "layer1": draw((3, 3, channels, channels))}
    return {
        "conv1": {"kernel": kernels["conv1"]},
        "layer1_0": {"conv1": {"kernel": kernels["layer1"]}},
    }


def _bank(sizes: Sizes) -> Any:
    """The inertias of a bank of two models."""
    rng = np.random.default_rng(0)
    models = [
        _params(64, lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32))
        for _ in range(2)
    ]
    found = banks.fit(jax.random.key(0), models, clusters=sizes.clusters)
    return jnp.stack([jnp.asarray(inertia) for inertia in found.inertia.values()])


def _initialisers(
    both: Callable[[Callable[[], Any]], tuple[Any, Any]], report: Any
) -> Iterator[float | None]:
    """The largest difference of each initialiser that needs nothing, relative to its values.

    None of one that fails.
    """
    for name in catalogue.names("nothing"):
        start = jaxinit.start(name)

        def fill(start: Any = start) -> Any:
            return jax.jit(start)(jax.random.key(0), _params(16, jnp.zeros))

        try:
            ours, theirs = (jax.tree.leaves(tree) for tree in both(fill))
        except Exception as error:  # one must not cost the others
            report.missing(f"device and CPU, {name}", str(error).splitlines()[0][:200])
            yield None
            continue
        largest = max(float(np.max(np.abs(b))) for b in theirs)
        difference = max(float(np.max(np.abs(a - b))) for a, b in zip(ours, theirs, strict=True))
        report.number(f"device and CPU, {name}", [difference / largest], "")
        yield difference / largest


def grid(sizes: Sizes, report: Any) -> None:
    """Trains starts, two seeds of each, as an experiment does, on what one sees at a glance."""
    count = sizes.runs[1]
    variants = [
        starts.random(),
        starts.gabor(1),
        starts.first_layer("colour_gabor"),
        starts.first_layer("centred_gabor"),
    ][: count // 2]
    settings = Training(epochs=sizes.epochs, network=sizes.grid_network)
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "grid")
        evaluation = Evaluation(pairs=((0, 1),), seeds=2, runs_at_once=count, output=output)
        start = time.perf_counter()
        dataset = _coloured(*sizes.task)
        records = Runner("clusters", variants, dataset, settings, evaluation).run()
        seconds = time.perf_counter() - start
    report.number(f"grid, {len(records)} runs of {sizes.epochs} epochs", [seconds], "s")
    accuracies = [record.curves["val_acc_top1"][-1] or 0.0 for record in records]
    report.number("grid, accuracies after the last epoch", accuracies, "%")
    stopped = sum(record.stopped is not None for record in records)
    report.number(GRID_FAILED, [max(stopped, sum(last < _LEARNT for last in accuracies))], "")


def _coloured(train: int, test: int) -> Dataset:
    """Noise in the colour of its class; in the shape of the data of the part `runs`.

    The epoch is thus the program that this part has compiled.
    """
    noise = many_runs.made_up(train, test)
    colours = np.random.default_rng(1).integers(0, 256, (training_step.CLASSES, 1, 1, 3), np.uint8)
    return noise._replace(
        train_images=np.asarray(noise.train_images) // 2 + colours[noise.train_labels] // 2,
        test_images=np.asarray(noise.test_images) // 2 + colours[noise.test_labels] // 2,
    )
