"""One JSON file a run, so that an interrupted experiment goes on where it stopped.

`<folder>/runs/<experiment>.<variant>.<task>.seed-<seed>.json` holds the fields of `RunRecord` and
`schema_version`; the experiment reads `<experiment>-procedural` there on the procedural data.
Numbers that are not finite are written as null. With pandas, a row an epoch of a run:

    runs = [json.loads(p.read_text()) for p in Path(folder, "runs").glob("*.json")]
    table = pandas.concat(
        pandas.DataFrame(r["curves"]).assign(**{k: r[k] for k in ("variant", "task", "seed")})
        for r in runs)
"""

import contextlib
import dataclasses
import datetime
import errno
import importlib.metadata
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments import processes
from experiments.errors import UserError

SCHEMA_VERSION = 1

METRICS = ("train_loss", "train_acc_top1", "train_acc_top5", "val_loss", "val_acc_top1",
           "val_acc_top5")  # fmt: skip

JSON = Any  # None, bool, int, float, str, or lists and string-keyed dicts of these


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
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        _check(self)


def _plain(value: Any) -> JSON:
    """Returns the value as JSON has it: lists for arrays and tuples, None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a {type(value).__name__} ({value!r}) cannot be written as JSON")


_TYPES: dict[str, tuple[type, ...]] = {
    "experiment": (str,), "variant": (str,), "task": (str,), "seed": (int,), "settings": (dict,),
    "curves": (dict,), "stopped": (str, type(None)), "environment": (dict,),
    "wall_seconds": (int, float),
}  # fmt: skip


def _check(record: RunRecord) -> None:
    """Raises ValueError with a sentence where a field is not as `RunRecord` says."""
    for name, types in _TYPES.items():
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


# Files


def path(
    folder: Path | str,
    experiment: str,
    variant: str,
    task: str,
    seed: int,
    *,
    procedural: bool = False,
) -> Path:
    """Returns where the run is recorded: its experiment, variant, task and seed, parted by dots."""
    experiment = f"{experiment}-procedural" if procedural else experiment
    return Path(folder) / "runs" / f"{experiment}.{variant}.{task}.seed-{seed}.json"


def write(record: RunRecord, folder: Path | str) -> Path:
    """Writes one run, as `write_all`."""
    return write_all([record], folder)[0]


def write_all(records: Sequence[RunRecord], folder: Path | str) -> list[Path]:
    """Writes each run to its file, whole or not at all, over an older one.

    Raises:
        UserError: If the folder cannot be written to or is full. What was not written lies in a
            new temporary folder then, which the sentence names.
    """
    paths = []
    for i, record in enumerate(records):
        try:
            paths.append(_write_run(record, Path(folder)))
        except OSError as error:
            raise UserError(f"{_reason(folder, error)}; {_rescue(records[i:])}") from error
    processes.wait("the runs are written")
    return paths


def _write_run(record: RunRecord, folder: Path) -> Path:
    names = (folder, record.experiment, record.variant, record.task, record.seed)
    procedural = is_procedural([record])
    if not processes.is_first():
        return path(*names, procedural=procedural)
    data = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(record)
    written = write_json(data, path(*names, procedural=procedural))
    path(*names, procedural=not procedural).unlink(missing_ok=True)  # one run has one file
    return written


def write_json(data: JSON, target: Path) -> Path:
    """Writes a file as `write_text`; NaN and infinity become null."""
    return write_text(json.dumps(_plain(data), allow_nan=False, ensure_ascii=False) + "\n", target)


def write_text(text: str, target: Path) -> Path:
    """Writes the file whole or not at all, and makes its folder. Raises OSError.

    Of several processes the first does.
    """
    if not processes.is_first():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError:
        if partial.exists():
            partial.unlink()
        raise
    return target


@contextlib.contextmanager
def writing_to(folder: Path | str) -> Iterator[None]:
    """Turns an OSError of the block into a `UserError` that names the output folder."""
    try:
        yield
    except OSError as error:
        raise UserError(_reason(folder, error)) from error


def _reason(folder: Path | str, error: OSError) -> str:
    advice = (
        "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another one"
    )
    return f"cannot write to the output folder {folder} ({error.strerror}): {advice}"


def _rescue(records: Sequence[RunRecord]) -> str:
    """Saves finished runs where the system keeps temporary files, and says where."""
    runs = "the finished run" if len(records) == 1 else f"the {len(records)} finished runs"
    try:
        rescue = Path(tempfile.mkdtemp(prefix="jaxinit-"))
        for record in records:
            _write_run(record, rescue)
    except OSError:
        return f"{runs} could not be saved in the temporary folder either"
    return f"{runs} not written there {'is' if len(records) == 1 else 'are'} in {rescue}/runs"


def check_writable(folder: Path | str) -> None:
    """Makes the folder and writes a few bytes to it, before anything is computed.

    Raises:
        UserError: If that fails.
    """
    with writing_to(folder):
        (Path(folder) / "runs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(folder) / "runs") as file:
            file.write(b"\0" * 4096)


def read(path: Path | str) -> RunRecord:
    """Reads one run.

    Raises:
        UserError: If the file cannot be read or is not as the schema says.
    """
    data = read_json(path)
    if wrong := sorted(data.keys() ^ _TYPES.keys()):
        missing = [name for name in wrong if name in _TYPES]
        what = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(wrong)}"
        raise UserError(f"{path} {what}: delete it to run this again")
    try:
        return RunRecord(**data)
    except ValueError as error:
        raise UserError(f"{path} is not valid ({error}): delete it to run this again") from error


def read_json(path: Path | str) -> dict[str, JSON]:
    """Reads a file of this schema; returns all but the version.

    Raises:
        UserError: If the file cannot be read, or is of another version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): delete it to run this again") from error
    if not isinstance(data, dict) or (version := data.pop("schema_version", None)) is None:
        raise UserError(f"{path} has no schema_version, so it is not the record of a run")
    if version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {version}, and this is {SCHEMA_VERSION}")
    return data


def read_all(folder: Path | str, experiment: str | None = None) -> list[RunRecord]:
    """Reads all runs below the folder, or those of one experiment, in the order of their names."""
    records = [read(p) for p in sorted((Path(folder) / "runs").glob("*.json"))]
    return [r for r in records if experiment in (None, r.experiment)]


def find(
    folder: Path | str,
    experiment: str,
    variant: str,
    task: str,
    seed: int,
    settings: Mapping[str, JSON],
) -> RunRecord | None:
    """Returns the run if it is recorded already, None if not.

    Raises:
        UserError: If it is recorded with other settings, or its file is not valid.
    """
    names = (folder, experiment, variant, task, seed)
    files = [f for p in (False, True) if (f := path(*names, procedural=p)).exists()]
    if not files:
        return None
    record = read(files[0])
    if difference := _first_difference(record.settings, _plain(settings)):
        raise UserError(
            f"{files[0]} was recorded with other settings ({difference}): "
            "use another --output, or --overwrite"
        )
    return record


def identity(settings: Mapping[str, JSON], task: str, seed: int) -> str:
    """What makes two runs the same, whatever experiments they are of and are called there."""
    return json.dumps([_plain(settings), task, seed], sort_keys=True)


def neighbours(folder: Path | str) -> dict[str, RunRecord]:
    """Reads the runs in the folders beside this one, by their `identity`.

    So that what several experiments have in common, such as random initialisation, is trained once.
    Files that cannot be read are left to the experiment that they are of.
    """
    own, found = Path(folder).resolve(), {}
    for file in sorted(own.parent.glob("*/runs/*.json")):
        if file.parent.parent != own:
            with contextlib.suppress(UserError):
                record = read(file)
                found[identity(record.settings, record.task, record.seed)] = record
    return found


def _first_difference(recorded: JSON, asked: JSON, name: str = "") -> str | None:
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in sorted(recorded.keys() | asked.keys()):
            a, b = recorded.get(key, "not set"), asked.get(key, "not set")
            if difference := _first_difference(a, b, f"{name}.{key}" if name else key):
                return difference
        return None
    return None if recorded == asked else f"{name} is {recorded} there and {asked} now"
