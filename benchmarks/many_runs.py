"""How many runs an hour: ours, many at once, beside a PyTorch program that works as the authors'.

That one trains a run after the other: torchvision's transforms turn each image, on the worker
processes of a `DataLoader`, and eager PyTorch trains on the batches. Both train ResNet-18 on tasks
of the shape of a CIFAR-100 pair, of made-up images, and test after every epoch. Theirs is timed
over a few epochs of one run, ours over whole runs, each after a warm-up that is not counted.
"""

import argparse
import time
from typing import Any

import jax
import numpy as np

from benchmarks import training_step
from experiments.cli import errors
from experiments.cli.errors import UserError
from experiments.data import tasks
from experiments.data.sets import Dataset
from experiments.runs import protocol
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer

CLASSES = training_step.CLASSES


def main() -> None:
    """Prints the rate of each, and the ratio of the time a run takes on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="runs at once")
    parser.add_argument("--epochs", type=int, default=15, help="epochs of a run")
    parser.add_argument("--train-images", type=int, default=5000, help="training images of a task")
    parser.add_argument("--test-images", type=int, default=1000, help="test images of a task")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--their-epochs", type=int, default=2, help="epochs timed of theirs")
    parser.add_argument("--workers", type=int, default=4, help="processes of their loader")
    options = parser.parse_args()
    with errors.exit_status():
        torch, transforms = import_torchvision()
        dataset = made_up(options.train_images, options.test_images)
        settings = Training(epochs=options.epochs, precision=options.precision)
        ours = our_seconds(dataset, settings, options.runs)
        print(f"ours: {ours:.3f} s a run of {options.epochs} epochs, {3600 / ours:.0f} an hour")
        epoch = their_seconds(torch, transforms, dataset, options.their_epochs, options.workers)
        theirs = epoch * options.epochs
        print(
            f"PyTorch: {theirs:.1f} s a run ({epoch:.2f} s an epoch), {3600 / theirs:.0f} an hour"
        )
        print(
            f"ratio: {ours / theirs:.4f} ({theirs / ours:.1f} times the runs an hour; "
            f"{options.runs} runs at once, {options.precision}, jax {jax.__version__}, torch "
            f"{torch.__version__}, {jax.devices()[0].device_kind})"
        )


def import_torchvision() -> tuple[Any, Any]:
    """Returns PyTorch and torchvision's transforms, or says how to get them."""
    torch = training_step.import_torch()
    try:
        from torchvision import transforms
    except ImportError:
        raise UserError(
            "torchvision is not installed: say .venv/bin/pip install torchvision"
        ) from None
    return torch, transforms


def made_up(train_images: int, test_images: int) -> Dataset:
    """Noise with random labels in the shape of one pair of CIFAR-100: speed asks for no more."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return images, np.arange(count, dtype=np.int32) % CLASSES

    return Dataset(
        "noise",
        "noise",
        *draw(train_images),
        *draw(test_images),
        superclass=(np.arange(CLASSES) // 5).astype(np.int32),
        mean=training_step.MEAN,
        std=training_step.STD,
        fingerprint="0" * 12,
    )


def our_seconds(dataset: Dataset, settings: Training, runs: int, network: Any = None) -> float:
    """Times `runs` whole runs at once, of ResNet-18 if no other; returns the seconds of one."""
    first = Trainer(dataset, Training(epochs=1, precision=settings.precision), CLASSES, network)
    whole = Trainer(dataset, settings, CLASSES, network)  # which has the same programs
    task = tasks.pair_task(dataset, (0, 1))
    keys = [protocol.run_keys(seed, (0, 1)) for seed in range(runs)]
    starts = [first.init_variables(key.network) for key in keys]
    seconds = []

    def train(trainer: Trainer) -> None:
        start = time.perf_counter()
        trainer.train([task] * runs, starts, [key.training for key in keys])
        seconds.append(time.perf_counter() - start)

    train(first)
    print(f"ours: {seconds[0]:.1f} s for the first epoch, with compilation", flush=True)
    train(whole)
    return seconds[1] / runs


def their_seconds(
    torch: Any, transforms: Any, dataset: Dataset, epochs: int, workers: int
) -> float:
    """Times some epochs of one run; returns the seconds of one epoch, with its test."""
    from benchmarks import torch_reference

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = torch_reference.ResNet18(CLASSES).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    normalize = [transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)]
    turned = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(15)]
    loaders = [
        torch.utils.data.DataLoader(
            Images(images, labels, transforms.Compose([transforms.ToPILImage(), *steps])),
            batch_size=128,
            shuffle=shuffle,
            num_workers=workers,
            pin_memory=device.type == "cuda",
        )
        for images, labels, steps, shuffle in (
            (np.asarray(dataset.train_images), dataset.train_labels, turned + normalize, True),
            (np.asarray(dataset.test_images), dataset.test_labels, normalize, False),
        )
    ]

    def epoch() -> None:
        network.train()
        for images, labels in loaders[0]:
            images, labels = images.to(device), labels.to(device)
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for images, labels in loaders[1]:
                hits = (network(images.to(device)).argmax(1) == labels.to(device)).sum()
                hits.item()

    epoch()
    start = time.perf_counter()
    for _ in range(epochs):
        epoch()
    return (time.perf_counter() - start) / epochs


class Images:
    """Images and labels as PyTorch's loader wants them: one at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self._images, self._labels, self._transform = images, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._transform(self._images[index]), int(self._labels[index])


if __name__ == "__main__":
    main()
