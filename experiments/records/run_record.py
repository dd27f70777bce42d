"""What is recorded of a run."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from typing import Annotated, Literal, Required

import jax
from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema, with_config
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from experiments.cli.errors import UserError
from experiments.records import surroundings
from experiments.records.files import JSON
from experiments.records.strict import STRICT, Plain

METRICS = ("train_loss", "train_acc_top1", "train_acc_top5", "val_loss", "val_acc_top1",
           "val_acc_top5")  # fmt: skip
CURVES = (*METRICS, "learning_rate")  # that every run has

# Dots part the names in a file's name; only the one in the middle may have its own.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=-]+$")]
_Dotted = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=-][A-Za-z0-9_+=.-]*$")]


def _whole(curves: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    if missing := [name for name in CURVES if name not in curves]:
        raise ValueError(f"curves lack {', '.join(missing)}")
    lengths = {len(curve): name for name, curve in curves.items()}
    if len(lengths) > 1:
        (one, first), (other, second) = list(lengths.items())[:2]
        raise ValueError(f"curves differ in length: {first} has {one}, {second} has {other}")
    return curves


@with_config(ConfigDict(extra="allow", strict=True))
class Settings(TypedDict, total=False):
    """All that decides a run's numbers; what is not named here may be added."""

    data_set: Required[str]
    data_fingerprint: Annotated[str, Field(description="Hash of all images and labels.")]
    train_images: Annotated[int, Field(description="Of all classes.")]
    test_images: Annotated[int, Field(description="Of all classes.")]
    network: Annotated[
        str,
        Field(
            description="Its name in jaxinit.models.registry; custom is resnet18 without "
            "residuals in its first stage."
        ),
    ]
    training: Annotated[
        dict[str, JSON],
        Field(
            description="Epochs, batch size, learning rate of the first epoch, schedule, momentum, "
            "weight decay, augmentation, normalisation, precision."
        ),
    ]
    protocol: Annotated[
        Literal["fresh", "sequential"],
        Field(
            description="Whether each run starts anew, or where the same network's run on the "
            "task before ended."
        ),
    ]
    pairs: Annotated[list[JSON], Field(description="Of sequential runs: the tasks, in order.")]
    initializer: Annotated[
        dict[str, JSON],
        Field(description="How the network started; sources names the source models."),
    ]


@dataclass(frozen=True, config=STRICT)
class RunRecord:
    """One finished run. Arrays become lists, and numbers that are not finite None, on creation.

    `run.schema.json` is made of this class by `experiments.records.schema`.

    Raises:
        ValueError: A field that is not of its type (pydantic's `ValidationError`).
    """

    experiment: Annotated[
        _Name, Plain, Field(description="The module of experiments that asked: clusters, gabor, …")
    ]
    variant: Annotated[
        _Dotted,
        Plain,
        Field(description="The start that was tried: random, euclidean-k3, …"),
    ]
    task: Annotated[
        _Name,
        Plain,
        Field(description="pair-10-14: ten classes of two superclasses; all: every class."),
    ]
    seed: Annotated[
        int,
        Plain,
        Field(
            description="With the task it decides the shuffles, the augmentation and the default "
            "start, which are the same for every variant."
        ),
    ]
    settings: Annotated[
        dict[str, JSON],
        GetPydanticSchema(lambda _, schema_of: schema_of(Settings)),
        Plain,
        Field(
            description="All that decides the numbers. Two runs of equal settings, task and seed "
            "are the same run."
        ),
    ]
    curves: Annotated[
        dict[str, list[float | None]],
        AfterValidator(_whole),
        Plain,
        Field(
            description="One number an epoch. Accuracies in percent; losses are mean "
            "cross-entropies in nats; the learning rate is that of the epoch. Training numbers are "
            "means over the epoch, as it trains. norm/<layer>, where recorded: the norm of the "
            "taps of this layer that ever meet data, as the epoch begins. turn/<layer>, where "
            "recorded: the angle in degrees between these taps before the epoch and after it.",
            json_schema_extra={"required": list(CURVES)},
        ),
    ]
    stopped: Annotated[
        str | None,
        Plain,
        Field(description="Why the run ended early: its loss was no longer finite. Else null."),
    ]
    environment: Annotated[
        dict[str, JSON],
        Plain,
        Field(
            description="Versions, device, processor, and date of the run's end (UTC, ISO 8601); "
            "since schema version 2 also what else decides numbers to the last bit: JAX's "
            "settings, revision and source (a checksum) of the program, cores that it may use, "
            "places of the program that trains several runs at once, sources (a checksum of the "
            "source models that the start is made of), and for a source model that of its "
            "checkpoint."
        ),
    ]
    wall_seconds: Annotated[
        float,
        Plain,
        Field(
            description="Training time. Of runs that were trained at once, their time shared "
            "equally."
        ),
    ]


def environment() -> dict[str, JSON]:
    """Returns the versions, the device and the date (UTC, ISO 8601) that a run is recorded with."""
    device = jax.devices()[0]
    versions: dict[str, JSON] = {"python": platform.python_version()}
    for package in ("jax", "jaxlib", "flax", "optax", "numpy", "jaxinit"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None  # run from a checkout that is not installed
    return versions | {
        "device": device.device_kind,
        "platform": device.platform,
        "device_count": jax.device_count(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        **surroundings.described(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def is_procedural(records: Iterable[RunRecord]) -> bool:
    """Returns whether the runs are on the procedural data, which all output has to say.

    Raises:
        UserError: Where some are and some are not.
    """
    kinds = {str(r.settings["data_set"]).startswith("procedural") for r in records}
    if len(kinds) > 1:
        raise UserError("these runs mix the procedural data with others: give one --output each")
    return kinds == {True}


def output_name(name: str, records: Iterable[RunRecord]) -> str:
    """Returns the name a file made from these runs has: `-procedural` appended where they are."""
    return f"{name}-procedural" if is_procedural(records) else name
