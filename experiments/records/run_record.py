"""What is recorded of a run."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable

import jax

from experiments.cli.errors import UserError
from experiments.records.files import JSON, plain

METRICS = ("train_loss", "train_acc_top1", "train_acc_top5", "val_loss", "val_acc_top1",
           "val_acc_top5")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One finished run. Arrays become lists, and numbers that are not finite None, on creation."""

    experiment: str  # the question: "clusters"
    variant: str  # the answer tried: "random", "euclidean-k3"
    task: str  # "pair-10-14"
    seed: int
    settings: dict[str, JSON]  # all that decides the numbers; "data_set" names the data
    curves: dict[str, list[float | None]]  # an entry an epoch: METRICS (%), "learning_rate", …
    stopped: str | None  # None, or why: "loss not finite in epoch 3, step 12"
    environment: dict[str, JSON]  # what `environment` returned
    wall_seconds: float  # this run's share, where many ran at once

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        _check(self)


TYPES: dict[str, tuple[type, ...]] = {
    "experiment": (str,), "variant": (str,), "task": (str,), "seed": (int,), "settings": (dict,),
    "curves": (dict,), "stopped": (str, type(None)), "environment": (dict,),
    "wall_seconds": (int, float),
}  # fmt: skip


def _check(record: RunRecord) -> None:
    """Raises ValueError with a sentence where a field is not as `RunRecord` says."""
    for name, types in TYPES.items():
        value = getattr(record, name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, which is not of type {types[0].__name__}")
    for name in ("experiment", "variant", "task"):
        # Dots part the names in a file's name; only the one in the middle may have its own.
        if not re.fullmatch(r"[\w+=-][\w+=.-]*", value := getattr(record, name)) or (
            name != "variant" and "." in value
        ):
            raise ValueError(f"{name} {value!r} cannot be part of a file name: use letters and -")
    if not isinstance(record.settings.get("data_set"), str):
        raise ValueError("settings name no data_set")
    if missing := [m for m in (*METRICS, "learning_rate") if m not in record.curves]:
        raise ValueError(f"curves lack {', '.join(missing)}")
    for name, curve in record.curves.items():
        if not isinstance(curve, list) or any(
            type(v) not in (float, int, type(None)) for v in curve
        ):
            raise ValueError(f"curve {name} is not a list of numbers")
    lengths = {name: len(curve) for name, curve in record.curves.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"curves differ in length: {lengths}")


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
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def is_procedural(records: Iterable[RunRecord]) -> bool:
    """Returns whether the runs are on the procedural data, which all output has to say.

    Raises:
        UserError: Where some are and some are not.
    """
    kinds = {"procedural" in r.settings["data_set"] for r in records}
    if len(kinds) > 1:
        raise UserError("these runs mix the procedural data with others: give one --output each")
    return kinds == {True}


def output_name(name: str, records: Iterable[RunRecord]) -> str:
    """Returns the name a file made from these runs has: `-procedural` appended where they are."""
    return f"{name}-procedural" if is_procedural(records) else name
