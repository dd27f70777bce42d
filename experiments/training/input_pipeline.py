"""Batches of images in the order of a run, read ahead by worker processes, through Grain."""

import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Generator
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from experiments.cli.errors import UserError
from experiments.data.image_rows import ImageRows
from experiments.data.tasks import Task
from experiments.records import surroundings
from jaxinit.signatures import PRNGKey

_MOST_WORKERS = 16


class Batch(NamedTuple):
    """Images and labels of one step, or of one part of an evaluation."""

    images: UInt8[np.ndarray, "b h w c"]
    labels: Int[np.ndarray, " b"]


class Batches:
    """All batches of a run by their number, which alone says what they hold.

    Those of an epoch are the batches of training, the last of them perhaps smaller, in the order
    that the run's key gives this epoch; then those of the evaluation, as large as each other, which
    the first images fill up.

    Args:
        train_images: Of the data set.
        test_images: Likewise.
        task: Which of them, and their labels.
        batch_size: Of training.
        evaluated_in: Number and size of the evaluation's batches.
        epochs: Of the run.
        key: Of the run's training.
    """

    def __init__(
        self,
        train_images: ImageRows,
        test_images: ImageRows,
        task: Task,
        *,
        batch_size: int,
        evaluated_in: tuple[int, int],
        epochs: int,
        key: PRNGKey,
    ) -> None:
        self.images = (train_images, test_images)
        self._task = task
        self._batch_size = batch_size
        self._parts, self._part_size = evaluated_in
        self._epochs = epochs
        data = np.asarray(jax.random.key_data(key))
        self._key = (str(jax.random.key_impl(key)), tuple(data.tolist()))
        self.steps = -(-len(task.train_index) // batch_size)

    @property
    def per_epoch(self) -> int:
        """How many batches an epoch has."""
        return self.steps + self._parts

    def __len__(self) -> int:
        return self._epochs * self.per_epoch

    def __getitem__(self, number: Any) -> Batch:
        """Reads a batch. Raises `UserError` where it cannot."""
        epoch, place = divmod(int(number), self.per_epoch)
        training = place < self.steps
        if training:
            order = epoch_order(*self._key, epoch, len(self._task.train_index))
            rows = order[place * self._batch_size : (place + 1) * self._batch_size]
            index, labels = self._task.train_index, self._task.train_labels
        else:
            first = (place - self.steps) * self._part_size
            index, labels = self._task.test_index, self._task.test_labels
            rows = np.arange(first, first + self._part_size) % len(index)
        try:
            images = self.images[0 if training else 1][index[rows]]
        except UserError:
            raise
        except Exception as error:  # whatever reads a file raises; not all of it can be pickled
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise UserError(
                f"images cannot be read ({reason}): repair the file, or prepare the data set again"
            ) from error
        return Batch(np.ascontiguousarray(images), labels[rows])


def epoch_keys(key: PRNGKey, epoch: int | jax.Array) -> tuple[PRNGKey, PRNGKey]:
    """What an epoch draws its order from, and its augmentation."""
    order, augment = jax.random.split(jax.random.fold_in(key, epoch))
    return order, augment


@functools.lru_cache(maxsize=2)
def epoch_order(impl: str, key: tuple[int, ...], epoch: int, count: int) -> np.ndarray:
    """The order of an epoch's images, as the resident epoch draws it."""
    draw = jax.jit(lambda key, epoch: jax.random.permutation(epoch_keys(key, epoch)[0], count))
    wrapped = jax.random.wrap_key_data(jnp.asarray(key, jnp.uint32), impl=impl)
    return np.asarray(draw(wrapped, np.int32(epoch)))


def workers_for(images: tuple[ImageRows, ImageRows]) -> int:
    """How many processes read: one a core; none where the images are arrays in memory.

    Those are copied by a thread of this process, as each worker would need all of them.
    """
    if all(isinstance(own, np.ndarray) for own in images):
        return 0
    return min(surroundings.cores(), _MOST_WORKERS)


def read_ahead(batches: Batches, workers: int, first: int = 0) -> Generator[Batch]:
    """Yields the batches in order from the first on; they do not depend on the workers.

    Each worker holds up to three batches that are still to come. Once the iterator is closed or at
    its end no worker is left.

    Args:
        batches: All that the run needs.
        workers: Processes that read; 0 for a thread of this one.
        first: Number of the first batch that is wanted.

    Raises:
        UserError: Images cannot be read, or a worker has died.
    """
    import absl.flags
    import grain

    absl.flags.FLAGS.mark_as_parsed()  # Grain reads its own, which only absl's programs parse
    threads = 0 if workers else 1
    source: Any = batches
    reading = grain.MapDataset.source(source)[first:].to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    )
    options = grain.MultiprocessingOptions(num_workers=workers)
    iterator: Any = iter(reading.mp_prefetch(options, worker_init_fn=_prepare))
    try:
        with _beginning() if workers else contextlib.nullcontext():
            begun = list(itertools.islice(iterator, 1))
        yield from begun
        yield from iterator
    except UserError as error:
        raise UserError(*error.args) from None
    except Exception as error:  # Grain's where a process has ended, or whatever failed in it
        reason = str(error).split("\n")[0].split(". ")[0]
        raise UserError(
            f"a process that reads images has failed ({reason}): where it ran out of memory, see "
            "that there is more, in /dev/shm too, or take a smaller --batch-size"
        ) from error
    finally:
        iterator.close()


@contextlib.contextmanager
def _beginning() -> Generator[None, None, None]:
    """Leaves Ctrl-C to this process, from the first moment of the processes that begin in here.

    What cleans up after them in the end does so in silence.
    """
    terminal, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        resource_tracker.ensure_running()  # which unblocks signals, too
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(silent)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _prepare(number: int, count: int) -> None:
    """What a worker does first: leaves accelerators to its parent, and ends with it."""
    del number, count
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
