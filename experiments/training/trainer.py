"""Training as in the paper: compiled epochs, on data that stay on the device or are streamed."""

import dataclasses
import functools
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from experiments.cli import processes
from experiments.cli.options import check
from experiments.data.image_rows import ImageRows
from experiments.data.sets import Dataset
from experiments.data.tasks import Task
from experiments.training import networks, programs
from experiments.training.epoch import DeviceData, Split, init_state, with_learning_rate
from experiments.training.hyperparameters import Training
from experiments.training.run_log import Curves, RunLog
from experiments.training.streamed import Course
from experiments.training.unfinished import Unfinished
from jaxinit.layers import Network
from jaxinit.signatures import PRNGKey

_USABLE = 0.85  # of a device's memory: the rest is for what the compiler's account leaves out


_IMAGES = 0.5  # of that, what the images may hold: the rest is for the runs

# Called after each epoch with the number of epochs done and each run's last validation accuracy.
Progress = Callable[[int, Sequence[float]], None]


def to_device(dataset: Dataset, sharding: Sharding | None = None) -> DeviceData:
    """Puts all images on the default device, or where the sharding says, as bytes."""
    put = jnp.asarray if sharding is None else lambda host: processes.spread(host, sharding)

    def whole(images: ImageRows) -> np.ndarray:
        return images if isinstance(images, np.ndarray) else images[np.arange(images.shape[0])]

    return DeviceData(put(whole(dataset.train_images)), put(whole(dataset.test_images)))


def free_memory() -> float | None:
    """Bytes of the default device that may be used still; None where it does not say."""
    memory = jax.local_devices()[0].memory_stats()
    if not memory or "bytes_limit" not in memory:
        return None
    return _USABLE * memory["bytes_limit"] - memory["bytes_in_use"]


def is_streamed(dataset: Dataset) -> bool:
    """Whether the images are read while training, rather than kept on the device.

    Where `--stream` leaves that open: if they are no arrays in memory, or would take more than half
    of the memory that the device has free; of a CPU, of the machine's.
    """
    if dataset.stream != "auto":
        return dataset.stream == "always"
    images: tuple[Any, ...] = (dataset.train_images, dataset.test_images)
    if not all(isinstance(own, np.ndarray) for own in images):
        return True
    free = free_memory()
    if free is None:
        free = _USABLE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return sum(own.nbytes for own in images) > _IMAGES * free


class Trainer:
    """Trains groups of runs on one data set.

    Every group of the same shape shares one program, whatever its epochs and its learning rates.

    Where the images are streamed (`is_streamed`), one run is trained at a time, on one device: runs
    side by side would gain nothing, as those of different tasks need different images, each of them
    read for that run alone, and a set of this size keeps a device busy with a single run. The
    curves are the same.

    Args:
        dataset: Images and normalisation.
        settings: Of the training.
        classes: Number of logits.
        network: Another network than ResNet-18, if any.
    """

    def __init__(
        self, dataset: Dataset, settings: Training, classes: int, network: Any = None
    ) -> None:
        self.settings = settings
        self.network: Any = networks.make_network(classes, settings) if network is None else network
        # Trainers that differ in what only the host sees share their programs.
        compiled = dataclasses.replace(settings, epochs=1, learning_rate=1.0, schedule="constant")
        size = dataset.train_images.shape[1:]
        normalization = (tuple(dataset.mean), tuple(dataset.std))
        self._programs = programs.programs_for(self.network, compiled, size, *normalization)
        self._mesh = self._programs.mesh
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self.images: DeviceData | Dataset
        if not is_streamed(dataset):
            self.images = to_device(dataset, everywhere if self.devices > 1 else None)
            return
        check(
            self.devices == 1,
            f"the images are streamed, which takes one device, and there are {self.devices}: let "
            "JAX see one alone, or keep the images on the devices with --stream never",
        )
        self.images = dataset

    @property
    def streams(self) -> bool:
        """Whether the images are read while training."""
        return isinstance(self.images, Dataset)

    @property
    def layers(self) -> Network:
        """The network's convolutions."""
        return networks.trace(self.network, self.images.train_images.shape[1:])

    @property
    def devices(self) -> int:
        """How many devices the runs are spread over."""
        return self._mesh.size

    def init_variables(self, key: PRNGKey) -> Any:
        """Draws the network's default start: {"params": …, "batch_stats": …}."""
        return self._programs.init(key)

    def shapes(self) -> Any:
        """The shapes of what `init_variables` draws, and of what `train` returns."""
        return self._programs.init.eval_shape(jax.random.key(0))

    def runs_that_fit(self, task: Task) -> int | None:
        """How many runs the devices hold at once, by the compiler's account of what two need.

        None where a device or the compiler does not say, as on a CPU; 1 of streamed images.

        Args:
            task: One like those to train on.
        """
        if self.streams:
            return 1
        free = free_memory()
        needed = None if free is None else self._bytes_per_run(task)
        if free is None or needed is None:
            return None
        return max(1, int(processes.agreed([free / needed])[0])) * self.devices

    def _bytes_per_run(self, task: Task) -> float | None:
        key = jax.random.key(0)
        variables = self._programs.init.eval_shape(key)
        state = jax.eval_shape(lambda own: init_state(own, self.settings), variables)
        splits = (
            _split(task.train_index, task.train_labels),
            _split(task.test_index, task.test_labels),
        )
        count = 2 * self.devices
        runs = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype),
            (*splits, state, jax.eval_shape(lambda: key)),
        )
        needed = self._programs.many.lower(self.images, *runs).compile().memory_analysis()
        if needed is None:
            return None
        images = sum(leaf.nbytes for leaf in jax.tree.leaves(self.images))
        # The caller holds each run's start, too.
        start = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state[:2]))
        total = needed.temp_size_in_bytes + needed.argument_size_in_bytes
        total += needed.output_size_in_bytes - needed.alias_size_in_bytes
        return (total - images) / 2 + start

    def train(
        self,
        tasks: Sequence[Task],
        variables: Sequence[Any],
        keys: Sequence[PRNGKey],
        progress: Progress = lambda epochs, accuracies: None,
        *,
        places: int = 1,
        keep: bool = True,
        unfinished: Path | None = None,
    ) -> tuple[list[Curves], list[Any]]:
        """Trains one run for each task, all at once, spread over the devices.

        Args:
            tasks: One a run; all with as many images.
            variables: Each run's start.
            keys: Each run's order of images and augmentation.
            progress: Told after every epoch.
            places: Train as if there were at least so many runs, so that a smaller last group
                needs no program of its own.
            keep: Return the variables.
            unfinished: File in which the state of a streamed run is kept while it trains, and
                from which it goes on. Whoever records the run removes it.

        Returns:
            Each run's curves, and its variables after the last epoch where they are to be kept. A
            run whose loss is not finite is recorded up to the epoch before, stopped, and does not
            touch the others.

        Raises:
            UserError: Several runs on streamed images; images that cannot be read.
        """
        if isinstance(self.images, Dataset):
            streamed = (self.images, tasks, variables, keys, progress, unfinished)
            curves, trained = self._train_streamed(*streamed)
            return [curves], [trained] if keep else []
        single = self.filled(len(tasks), places) == 1
        join = operator.itemgetter(0) if single else functools.partial(self._join, places=places)
        part = (lambda tree, _: tree) if single else _part
        call = self._programs.one if single else self._programs.many
        train = join([_split(t.train_index, t.train_labels) for t in tasks])
        test = join([_split(t.test_index, t.test_labels) for t in tasks])
        start = self._programs.start if single else self._programs.starts
        state = start(join(variables))
        logs = [RunLog(self.settings) for _ in tasks]
        for epoch in range(self.settings.epochs):
            rate = join([jnp.float32(log.learning_rate()) for log in logs])
            state = with_learning_rate(state, rate)
            key = join([jax.random.fold_in(key, epoch) for key in keys])
            state, result = call(self.images, train, test, state, key)
            host = processes.gather(result)
            for number, log in enumerate(logs):
                log.add(part(host, number))
            progress(epoch + 1, [log.last_accuracy() for log in logs])
            if all(log.stopped for log in logs):
                break
        curves = [Curves(log.curves, log.stopped) for log in logs]
        if not keep:
            return curves, []
        trained = {"params": state.params, "batch_stats": state.batch_stats}
        if jax.process_count() > 1:
            trained = processes.gather(trained)
        return curves, [part(trained, number) for number in range(len(tasks))]

    def _train_streamed(
        self,
        dataset: Dataset,
        tasks: Sequence[Task],
        variables: Sequence[Any],
        keys: Sequence[PRNGKey],
        progress: Progress,
        unfinished: Path | None,
    ) -> tuple[Curves, Any]:
        check(
            len(tasks) == 1,
            "images are streamed for one run at a time: leave --runs-at-once out, or keep the "
            "images on the device with --stream never",
        )
        log = RunLog(self.settings)
        course = Course(
            dataset,
            tasks[0],
            self.settings,
            self._programs.streamed,
            keys[0],
            log,
            Unfinished(unfinished),
        )
        start = self._programs.start(variables[0])
        state = course.run(start, lambda epochs: progress(epochs, [log.last_accuracy()]))
        trained = {"params": state.params, "batch_stats": state.batch_stats}
        return Curves(log.curves, log.stopped, log.earlier), trained

    def filled(self, runs: int, places: int) -> int:
        """How many runs the program that trains so many is made for: it decides the last bits."""
        if self.streams or max(runs, places, self.devices) == 1:
            return 1
        return -(-max(runs, places) // self.devices) * self.devices

    def _join(self, trees: Sequence[Any], places: int) -> Any:
        """Stacks one tree a run, the last repeated to fill all places of all devices."""
        count = self.filled(len(trees), places)
        filled = [*trees, *[trees[-1]] * (count - len(trees))]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)
        if self.devices == 1:
            return stacked
        return processes.spread(stacked, NamedSharding(self._mesh, PartitionSpec("runs")))


def _split(rows: np.ndarray, labels: np.ndarray) -> Split:
    return Split(jnp.asarray(rows), jnp.asarray(labels))


def _part(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)
