"""Whether training on streamed images is held up by reading them, and in how much memory it runs.

The set has the shape of ImageNet: 100,000 images of 224×224, each made from its number when it is
asked for; or decoded from one of some hundred JPEG files. Compared are the same steps of ResNet-18
on images that lie on the device. Memory is that of all processes, from /proc, so on Linux alone;
what they share counts in each.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from PIL import Image

from experiments.cli import errors, processes
from experiments.data.image_rows import ImageRows
from experiments.data.sets import Dataset
from experiments.data.tasks import Task
from experiments.records import surroundings
from experiments.training import input_pipeline
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer

IMAGES, CLASSES = 100_000, 10
_EPOCHS = 4  # of the steps asked for; the first is a start that is not timed
_FILES = 200
_SECONDS = 4.0  # that reading alone is timed for


class MadeUp:
    """Images of noise, each from its number."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, size: int) -> None:
        self.shape = (count, size, size, 3)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Draws some of them."""
        pixels = int(np.prod(self.shape[1:]))
        drawn = [np.random.default_rng(int(row)).bytes(pixels) for row in rows]
        return np.frombuffer(b"".join(drawn), np.uint8).reshape(-1, *self.shape[1:])


class Jpegs:
    """Images of JPEG files, which take turns."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, size: int, folder: Path, files: int) -> None:
        self.shape = (count, size, size, 3)
        self._folder, self._files = folder, files
        for number in range(files):
            small = np.random.default_rng(number).integers(0, 256, (size // 8, size // 8, 3))
            image = Image.fromarray(small.astype(np.uint8)).resize((size, size))
            image.save(self._path(number), quality=90)

    def _path(self, row: int) -> Path:
        return self._folder / f"{row % self._files}.jpeg"

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Decodes some of them."""
        return np.stack([np.asarray(Image.open(self._path(int(row)))) for row in rows])


class Memory:
    """Samples the memory of this process and its workers in the background, in MiB."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            pids = [os.getpid(), *(own.pid for own in multiprocessing.active_children())]
            self._peak = max(self._peak, sum(_resident(pid) for pid in pids if pid))

    def peak(self) -> float:
        """The most since it was last asked for."""
        found, self._peak = self._peak, 0.0
        return found

    def close(self) -> None:
        """Stops sampling."""
        self._over.set()
        self._thread.join()


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except OSError:  # it has just ended
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Prints one table, and the ratio on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4, help="k: each training is of 4k steps")
    parser.add_argument("--batch-size", type=int, default=8, help="images a step")
    parser.add_argument("--workers", type=int, help="processes that read (one a core)")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=2, help="trainings of each kind, in turns")
    with errors.exit_status():
        processes.setup_jax()
        print(measure(**vars(parser.parse_args())))


def measure(
    steps: int, batch_size: int, workers: int | None, size: int, rounds: int, network: Any = None
) -> str:
    """Trains in turns on resident and on streamed images, and reads alone."""
    workers = surroundings.cores() if workers is None else workers
    settings = Training(epochs=_EPOCHS, batch_size=batch_size, schedule="constant")
    asked = mock.patch.object(input_pipeline, "workers_for", return_value=workers)
    with asked, tempfile.TemporaryDirectory() as folder:
        sets: dict[str, ImageRows] = {
            "made up": MadeUp(IMAGES, size),
            "JPEG": Jpegs(IMAGES, size, Path(folder), _FILES),
        }
        lines = ["| what | images/s |", "|---|---|"]
        for name, images in sets.items():
            rate = _reading(images, batch_size, workers)
            lines.append(f"| reading alone, {name} | {rate:.0f} |")
        few = steps * batch_size
        rows = np.random.default_rng(0).choice(IMAGES, few, replace=False).astype(np.int32)
        resident = _dataset(sets["made up"][rows])
        trainers = {
            "resident": (Trainer(resident, settings, CLASSES, network), _task(np.arange(few))),
            **{
                name: (Trainer(_dataset(images), settings, CLASSES, network), _task(rows))
                for name, images in sets.items()
            },
        }
        rates: dict[str, list[float]] = {name: [] for name in trainers}
        memory: list[tuple[float, float]] = []
        for _ in range(rounds):
            for name, (trainer, task) in trainers.items():
                rate, peaks = _training(trainer, task)
                rates[name].append(rate * few)
                if name == "made up":
                    memory.append(peaks)
    for name, found in rates.items():
        what = "the steps alone, resident" if name == "resident" else f"both, {name}"
        lines.append(f"| {what} | {statistics.median(found):.1f} |")
    first, last = memory[-1]
    ratios = {
        name: [a / b for a, b in zip(rates[name], rates["resident"], strict=True)] for name in sets
    }
    shown = ", ".join(
        f"{name} {statistics.median(own):.2f} ({min(own):.2f} to {max(own):.2f})"
        for name, own in ratios.items()
    )
    return "\n".join(
        [
            *lines,
            "",
            f"peak memory of all processes: {first:.0f} MiB in the first {steps} steps, "
            f"{last:.0f} MiB in the last of {_EPOCHS * steps}; all images would take "
            f"{IMAGES * size * size * 3 / 2**20:.0f} MiB",
            f"ratio of streamed to resident, images/s: {shown}; batch {batch_size}, {size}×{size}, "
            f"{workers} workers, {surroundings.cores()} cores, n = {rounds}, "
            f"jax {jax.__version__}",
        ]
    )


def _dataset(images: ImageRows) -> Dataset:
    labels = (np.arange(images.shape[0]) % CLASSES).astype(np.int32)
    test = np.zeros((2, *images.shape[1:]), np.uint8), np.zeros(2, np.int32)
    superclass = np.arange(CLASSES, dtype=np.int32)
    half = (0.5, 0.5, 0.5)
    return Dataset("noise", "noise", images, labels, *test, superclass, half, half, "0" * 12)


def _task(rows: np.ndarray) -> Task:
    index = rows.astype(np.int32)
    labels = (index % CLASSES).astype(np.int32)
    return Task("all", index, labels, np.arange(2, dtype=np.int32), np.zeros(2, np.int32), CLASSES)


def _reading(images: ImageRows, batch_size: int, workers: int) -> float:
    """How many images are read a second when nothing else is done."""
    batches = input_pipeline.Batches(
        images,
        images,
        _task(np.arange(IMAGES)),
        batch_size=batch_size,
        evaluated_in=(1, 2),
        epochs=_EPOCHS,
        key=jax.random.key(0),
    )
    ahead = input_pipeline.read_ahead(batches, workers)
    for _ in range(4 * max(workers, 1)):  # what was read while the last worker started
        next(ahead)
    start, count = time.perf_counter(), 0
    for batch in ahead:
        count += len(batch.labels)
        if time.perf_counter() - start > _SECONDS:
            break
    rate = count / (time.perf_counter() - start)
    ahead.close()
    return rate


def _training(trainer: Trainer, task: Task) -> tuple[float, tuple[float, float]]:
    """Epochs a second but for the first, and the peak of memory in the first and the last."""
    times: list[float] = []
    peaks: list[float] = []
    memory = Memory()

    def told(epoch: int, accuracies: Any) -> None:
        del epoch, accuracies
        times.append(time.perf_counter())
        peaks.append(memory.peak())

    trainer.train([task], [trainer.init_variables(jax.random.key(0))], [jax.random.key(1)], told)
    memory.close()
    return (_EPOCHS - 1) / (times[-1] - times[0]), (peaks[0], peaks[-1])


if __name__ == "__main__":
    main()
