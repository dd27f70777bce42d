"""Epochs on images that are read as they are needed: the resident epoch's steps, chunk by chunk.

A chunk is some batches in one array. While the device works on one, the next is put on it, and
never more, so that memory does not grow with the data set.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from experiments.cli import processes
from experiments.cli.progress import say
from experiments.data.sets import Dataset
from experiments.data.tasks import Task
from experiments.training import input_pipeline
from experiments.training.epoch import (
    Epoch,
    EpochResult,
    Metrics,
    State,
    evaluation_batches,
    with_learning_rate,
)
from experiments.training.hyperparameters import Training
from experiments.training.input_pipeline import Batch, Batches
from experiments.training.run_log import RunLog
from experiments.training.unfinished import Unfinished
from jaxinit.signatures import PRNGKey

_CHUNK_BYTES = 2**26  # of images, unless a single batch is larger
_CHUNK_BATCHES = 32


class Chunk(NamedTuple):
    """Batches of one part of an epoch, one after the other."""

    images: UInt8[Array, "k b h w c"]
    labels: Int[Array, "k b"]
    first: Int[Any, ""]  # number of the first of them in that part
    count: Int[Any, ""]  # how many there are: the others of the k places are to be left alone


class Programs:
    """The parts of an epoch, compiled once for all chunks of a size.

    Args:
        epoch: What is to be done.
        size: Of the images: (h, w, c).
    """

    def __init__(self, epoch: Epoch, size: tuple[int, ...]) -> None:
        self._epoch = epoch
        self._size = size
        self.begin = jax.jit(self._begin)
        self.train = jax.jit(self._train, donate_argnums=1)
        self.end = jax.jit(self._end, static_argnums=3, donate_argnums=0)
        self.evaluate = jax.jit(self._evaluate, static_argnums=3)
        self.mean = jax.jit(_mean, static_argnums=1)

    def _begin(self, state: State) -> tuple[State, dict[str, Array]]:
        # Copied, as it is given away to the steps, and what it was made of is needed at the end.
        begun, norms = self._epoch.begin(state, self._size)
        return jax.tree.map(jnp.copy, begun), norms

    def _train(self, whole: Any, state: State, chunk: Chunk, key: PRNGKey) -> tuple[State, Metrics]:
        """One step on each batch of a chunk; returns the sums of each, too."""

        def one(place: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, sums = carry
            step_key = jax.random.fold_in(key, chunk.first + place)
            batch = chunk.images[place], chunk.labels[place]
            state, own = self._epoch.step(state, step_key, *batch, whole)
            return state, jax.tree.map(lambda all, one: all.at[place].set(one), sums, own)

        nothing = Metrics(*jnp.zeros((3, chunk.labels.shape[0])))
        return jax.lax.fori_loop(0, chunk.count, one, (state, nothing))

    def _end(
        self, before: State, state: State, sums: Metrics, images: int
    ) -> tuple[State, Metrics, dict[str, Array], Float[Array, " steps"]]:
        """The state after an epoch, means over its images, turns, and the losses of its steps."""
        first = self._epoch.begin(before, self._size)[0].params
        steps = sums.loss.shape[0]
        state, turns = self._epoch.end(before, first, state, self._size, steps)
        means, step_losses = self._epoch.means(sums, images)
        return state, means, turns, step_losses

    def _evaluate(self, total: Metrics, state: State, chunk: Chunk, images: int) -> Metrics:
        """Adds the sums over a chunk of the evaluation to those before it."""
        size = chunk.labels.shape[1]

        def one(place: Array, total: Metrics) -> Metrics:
            row = (chunk.first + place) * size + jnp.arange(size)
            batch = chunk.images[place], chunk.labels[place]
            return jax.tree.map(jnp.add, total, self._epoch.scores(state, *batch, row < images))

        return jax.lax.fori_loop(0, chunk.count, one, total)


def _mean(total: Metrics, images: int) -> Metrics:
    return jax.tree.map(lambda m: m / images, total)


class Course:
    """The course of one run: where it is, and what becomes of its state.

    Args:
        dataset: Its images are read.
        task: Which of them.
        settings: Of the training.
        programs: Made for these settings.
        key: Of the run's training.
        log: Grows with the run.
        unfinished: Where the run's state is kept meanwhile.
    """

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        settings: Training,
        programs: Programs,
        key: PRNGKey,
        log: RunLog,
        unfinished: Unfinished,
    ) -> None:
        self._settings = settings
        self._programs = programs
        self._key = key
        self._log = log
        self._unfinished = unfinished
        self._count = (len(task.train_index), len(task.test_index))
        self._parts = evaluation_batches(self._count[1])
        self._batches = Batches(
            dataset.train_images,
            dataset.test_images,
            task,
            batch_size=settings.batch_size,
            evaluated_in=self._parts,
            epochs=settings.epochs,
            key=key,
        )

    def run(self, state: State, told: Callable[[int], None]) -> State:
        """Trains to the end, from where it was interrupted if it was.

        Args:
            state: To start from.
            told: Called after each epoch with the number of epochs done.

        Returns:
            The state after the last epoch.
        """
        sums = np.zeros((3, self._batches.steps), np.float32)
        within = self._programs.begin.eval_shape(state)[0]
        kept = {"before": state, "state": within, "sums": sums}
        number, now = 0, None
        if found := self._unfinished.load(kept):
            number, kept, log = found
            state, now, sums = kept["before"], kept["state"], np.array(kept["sums"])
            self._log.curves |= log["curves"]
            self._log.earlier = log["seconds"]
        first, step = divmod(number, self._batches.per_epoch)
        if number:
            say(f"an unfinished run goes on in epoch {first + 1}, after {step} steps")
        workers = input_pipeline.workers_for(self._batches.images)
        with contextlib.closing(input_pipeline.read_ahead(self._batches, workers, number)) as ahead:
            for epoch in range(first, self._settings.epochs):
                state = with_learning_rate(state, jnp.float32(self._log.learning_rate()))
                state, result = self._epoch(state, now, step, sums, epoch, ahead)
                self._log.add(processes.gather(result))
                told(epoch + 1)
                if self._log.stopped:
                    break
                now, step = None, 0
        return state

    def _epoch(
        self,
        before: State,
        within: State | None,
        step: int,
        sums: np.ndarray,
        epoch: int,
        ahead: Iterator[Batch],
    ) -> tuple[State, EpochResult]:
        """Trains for what is left of an epoch from a step on, then evaluates.

        Args:
            before: The state before the epoch.
            within: That at the step, as `Epoch.begin` and the steps leave it; None at the first.
            step: How many have been done.
            sums: (3, steps), filled up to this step; changed in place.
            epoch: Counted from 0.
            ahead: The batches to come.
        """
        begun, norms = self._programs.begin(before)
        state = begun if within is None else within
        key = input_pipeline.epoch_keys(self._key, epoch)[1]
        waiting: tuple[int, int, Metrics] | None = None

        def settle() -> None:
            if waiting is not None:
                first, count, own = waiting
                filled = np.stack([np.asarray(m) for m in own])[:, :count]
                sums[:, first : first + count] = filled

        full, rest = divmod(self._count[0], self._settings.batch_size)
        for first, last in ((step, full), (full, full + bool(rest))):
            for chunk in chunks(ahead, first, last):
                state, own = self._programs.train(before.params, state, chunk, key)
                settle()
                waiting = (chunk.first, chunk.count, own)
                if self._unfinished.is_due():
                    settle()
                    self._save(epoch, int(chunk.first + chunk.count), before, state, sums)
        settle()
        state, means, turns, step_losses = self._programs.end(
            before, state, Metrics(*map(jnp.asarray, sums)), self._count[0]
        )
        total = Metrics(*jnp.zeros((3,)))
        for chunk in chunks(ahead, 0, self._parts[0]):
            former, total = total, self._programs.evaluate(total, state, chunk, self._count[1])
            jax.block_until_ready(former)
        validation = self._programs.mean(total, self._count[1])
        return state, EpochResult(means, validation, norms, turns, step_losses)

    def _save(self, epoch: int, step: int, before: State, state: State, sums: np.ndarray) -> None:
        number = epoch * self._batches.per_epoch + step
        log = {"curves": self._log.curves, "seconds": self._log.seconds()}
        self._unfinished.save(number, {"before": before, "state": state, "sums": sums}, log)


def chunks(ahead: Iterator[Batch], first: int, last: int) -> Iterator[Chunk]:
    """Puts the next batches on the device, some at a time.

    Args:
        ahead: Batches of one size.
        first: Number of the next of them in its part of the epoch.
        last: Number after the last that is wanted.
    """
    room = 0
    while first < last:
        batch = next(ahead)
        most = min(_CHUNK_BATCHES, max(1, _CHUNK_BYTES // batch.images.nbytes))
        room = room or min(most, last - first)
        count = min(room, last - first)
        # Copied, as these are in memory that a worker shares; and anew, as the device may keep it.
        images = np.empty((room, *batch.images.shape), np.uint8)
        labels = np.zeros((room, *batch.labels.shape), np.int32)
        for place in range(count):
            batch = batch if place == 0 else next(ahead)
            images[place], labels[place] = batch
        del batch
        yield Chunk(
            jax.device_put(images), jax.device_put(labels), np.int32(first), np.int32(count)
        )
        first += count
