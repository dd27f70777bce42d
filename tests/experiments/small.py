"""What several tests of the experiments share: made-up data, and records of runs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.data.sets import Dataset
from experiments.records import checksums, run_record
from experiments.records.run_record import RunRecord
from jaxinit.models import registry

# `python -m experiments.clusters` as a program for `python -c`, with the networks of `networks`.
CLUSTERS = """
import sys
from experiments.cli import start

start._is_command = lambda: True
start.prepare()

from experiments import clusters
from jaxinit.models import registry
from tests.experiments import small

registry._BY_NAME.update(small.networks())
clusters.main(sys.argv[1:])
"""


def networks():
    """Networks of few layers and channels by the names of those whose places they take.

    Compiling takes most of the time of a whole command. vgg11 has two convolutions here, not
    eight, and custom six, not 20.
    """
    forms: dict[str, dict[str, Any]] = {
        "vgg11": {"stages": ((8,), (16,))},
        "custom": {"stages": (1, 1), "widths": (8, 16)},
    }
    whole = {name: registry.get(name) for name in forms}
    return {
        name: dataclasses.replace(network, form=network.form.clone(**forms[name]))
        for name, network in whole.items()
    }


def make_dataset(train_per_class=13, test_per_class=4, size=8, superclasses=4, name="procedural"):
    """A data set of 5 classes a superclass, each of its own colour, in shuffled order."""
    rng = np.random.default_rng(0)
    classes = 5 * superclasses
    colours = rng.uniform(40, 215, (classes, 1, 1, 3))

    def draw(per_class):
        labels = rng.permutation(np.repeat(np.arange(classes), per_class)).astype(np.int32)
        noise = rng.normal(0, 30, (len(labels), size, size, 3))
        return np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels

    train_images, train_labels = draw(train_per_class)
    test_images, test_labels = draw(test_per_class)
    return Dataset(
        name=name,
        title="small made-up data",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        superclass=(np.arange(classes) // 5).astype(np.int32),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        fingerprint="0123456789ab",
    )


def save_folder(folder: Path, classes=8, per_class=6, size=12) -> Path:
    """A folder of grey images, a folder a class, of its own lightness."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"c{label}").mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.normal(30 + 180 * label / classes, 15, (size, size))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / f"c{label}" / f"{number:02}.png")
    return folder


def run(variant, values, task="pair-0-1", seed=0, **changes) -> RunRecord:
    """The record of a run all of whose metrics have these values, one an epoch."""
    curves = {name: list(values) for name in run_record.METRICS}
    fields = {
        "experiment": "clusters",
        "settings": {"data_set": "cifar100", "lr": 0.1, "initializer": {"kind": variant}},
        "curves": {**curves, "learning_rate": [0.1] * len(curves["val_loss"])},
        "stopped": None,
        "environment": {"device": "cpu", "date": f"day {seed}"},
        "wall_seconds": 2.0,
    }
    return RunRecord(**{**fields, "variant": variant, "task": task, "seed": seed, **changes})


TASKS = "pair-10-11", "pair-10-13"


def runs(
    variants, *, epochs=4, tasks=TASKS, seeds=2, data_set="cifar100", stopped=()
) -> list[RunRecord]:
    """Runs with noise, those of `stopped` (variant, task, seed) ended by a NaN."""
    rng = np.random.default_rng(0)
    records = []
    for variant in variants:
        for task in tasks:
            for seed in range(seeds):
                values = 30 + 8 * np.log1p(np.arange(epochs)) + rng.normal(size=epochs)
                curves = {name: list(values) for name in run_record.METRICS}
                stop = (variant, task, seed) in stopped
                if stop:
                    curves["val_acc_top1"][-1] = np.nan
                records.append(
                    RunRecord(
                        experiment="clusters",
                        variant=variant,
                        task=task,
                        seed=seed,
                        settings={"data_set": data_set},
                        curves={**curves, "learning_rate": [0.01] * epochs},
                        stopped="loss not finite in epoch 4, step 1" if stop else None,
                        environment={"device": "cpu"},
                        wall_seconds=1.0,
                    )
                )
    return records


def sealed(text: str) -> str:
    """Files of JSON that were changed, with the checksums of what they hold now."""
    lines = []
    for line in text.splitlines():
        data = json.loads(line)
        lines.append(json.dumps(data | {"checksum": checksums.of_json(data)}) + "\n")
    return "".join(lines)


def texts(figure):
    """All that is written in a figure."""
    return [t.get_text() for t in figure.texts] + [
        t.get_text() for axes in figure.axes for t in axes.texts
    ]
