"""One JSON file a run, so that an interrupted experiment goes on where it stopped.

`<folder>/runs/<experiment>.<variant>.<task>.seed-<seed>.json` holds the fields of `RunRecord`, and
`schema_version` and `checksum`; the experiment reads `<experiment>-procedural` there on the
procedural data. Numbers that are not finite are written as null. Of a finished study all runs are
the lines of one `<folder>/runs.jsonl` (`packing`); where a run has a file as well, the file counts.
With pandas, a row an epoch of a run:

    lines = Path(folder, "runs.jsonl").read_text().rstrip("\n").split("\n")
    runs = [json.loads(line) for line in lines]
    table = pandas.concat(
        pandas.DataFrame(r["curves"]).assign(**{k: r[k] for k in ("variant", "task", "seed")})
        for r in runs)
"""

import contextlib
import dataclasses
import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from experiments.cli import processes
from experiments.cli.errors import UserError
from experiments.records import run_record, strict
from experiments.records.files import (
    JSON,
    SCHEMA_VERSION,
    cannot_write,
    parse_json,
    plain,
    read_json,
    read_text,
    write_json,
    writing_to,
)
from experiments.records.former import completed
from experiments.records.run_record import RunRecord
from jaxinit import whole_files

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
            raise UserError(f"{cannot_write(folder, error)}; {_rescue(records[i:])}") from error
    processes.wait("the runs are written")
    return paths


def _write_run(record: RunRecord, folder: Path) -> Path:
    names = (folder, record.experiment, record.variant, record.task, record.seed)
    procedural = run_record.is_procedural([record])
    if not processes.is_first():
        return path(*names, procedural=procedural)
    written = write_json(as_json(record), path(*names, procedural=procedural))
    path(*names, procedural=not procedural).unlink(missing_ok=True)  # one run has one file
    return written


def as_json(record: RunRecord) -> dict[str, JSON]:
    """Returns what a run's file holds."""
    return {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(record)


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


def check_writable(folder: Path | str, *parts: str) -> None:
    """Makes the folder and writes a few bytes to it, before anything is computed.

    What killed processes left there unfinished is removed.

    Args:
        folder: Of an experiment, or of source models.
        *parts: Folders in it that are needed besides that of the runs.

    Raises:
        UserError: If that fails.
    """
    for part in (Path(folder) / name for name in ("runs", *parts)):
        with writing_to(part if part.name != "runs" else folder):
            part.mkdir(parents=True, exist_ok=True)
            whole_files.clean(part)
            with tempfile.TemporaryFile(dir=part) as file:
                file.write(b"\0" * 4096)
    whole_files.clean(folder)


def read(path: Path | str) -> RunRecord:
    """Reads one run.

    Raises:
        UserError: If the file cannot be read, is not as the schema says, or is of another run than
            its name says.
    """
    record = _record(read_json(path), path)
    if (name := name_of(record)) != Path(path).name:
        raise UserError(
            f"{path} holds the run {name}: give it that name, or delete it to run this again"
        )
    return record


def _record(data: dict[str, JSON], where: Path | str) -> RunRecord:
    try:
        return RunRecord(**data)
    except ValidationError as error:
        raise UserError(
            f"{where} is not valid ({strict.sentence(error)}): delete it to run this again"
        ) from error


def lines(folder: Path | str) -> Path:
    """Returns where the runs of a finished study are, a line each."""
    return Path(folder) / "runs.jsonl"


def has_runs(folder: Path | str) -> bool:
    """Whether any run is recorded in a folder, in either form."""
    return lines(folder).exists() or any((Path(folder) / "runs").glob("*.json"))


def read_all(folder: Path | str, experiment: str | None = None) -> list[RunRecord]:
    """Reads all runs of a folder, or those of one experiment, in the order of their names."""
    files = sorted((Path(folder) / "runs").glob("*.json"))
    found = {**archived(folder), **{file.name: read(file) for file in files}}
    records = [found[name] for name in sorted(found)]
    return [r for r in records if experiment in (None, r.experiment)]


def archived(folder: Path | str) -> Mapping[str, RunRecord]:
    """Reads the lines of `runs.jsonl`, in their order, by the names of their runs' files."""
    file = lines(folder).resolve()
    try:
        known = file.stat()
    except OSError:
        return {}
    return _read_lines(file, known.st_mtime_ns, known.st_size)


@functools.lru_cache(maxsize=64)
def _read_lines(file: Path, *_: int) -> Mapping[str, RunRecord]:
    """Reads a file of runs once, as long as it stays as it is."""
    found: dict[str, RunRecord] = {}
    for number, line in enumerate(read_text(file).rstrip("\n").split("\n"), 1):
        record = _record(parse_json(line, where := f"line {number} of {file}"), where)
        if (name := name_of(record)) in found:
            raise UserError(f"{where} is a second run called {name}: delete one of the two lines")
        found[name] = record
    return found


def name_of(record: RunRecord) -> str:
    """Returns the name of a run's file."""
    names = (record.experiment, record.variant, record.task, record.seed)
    return path("", *names, procedural=run_record.is_procedural([record])).name


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
    files = [path(*names, procedural=procedural) for procedural in (False, True)]
    record = where = None
    for file in files:
        if file.exists():
            record, where = read(file), file
            break
    if record is None:
        known = archived(folder)
        record = next((known[file.name] for file in files if file.name in known), None)
        where = lines(folder)
    if record is None:
        return None
    if difference := _first_difference(completed(record.settings), completed(plain(settings))):
        raise UserError(
            f"{where} was recorded with other settings ({difference}): "
            "use another --output, or --overwrite"
        )
    return record


def identity(settings: Mapping[str, JSON], task: str, seed: int) -> str:
    """What makes two runs the same, whatever experiments they are of and are called there."""
    return json.dumps([completed(plain(settings)), task, seed], sort_keys=True)


def by_identity(folder: Path | str, *, beside: bool) -> dict[str, RunRecord]:
    """Reads the runs of whatever experiment in a folder, by their `identity`.

    So that what an experiment recorded under a former name is not trained again. Files that cannot
    be read are left to the experiment that they are of.

    Args:
        folder: Of an experiment.
        beside: Read the folders beside it as well, so that what several experiments have in common,
            such as random initialisation, is trained once.
    """
    found = {}
    folder = Path(folder).resolve()
    folders = sorted(folder.parent.glob("*/")) if beside else [folder]

    def add(record: RunRecord) -> None:
        found[identity(record.settings, record.task, record.seed)] = record

    for one in folders:
        with contextlib.suppress(UserError):
            for record in archived(one).values():
                add(record)
    for file in sorted(file for one in folders for file in one.glob("runs/*.json")):
        with contextlib.suppress(UserError):
            add(read(file))
    return found


def _first_difference(recorded: JSON, asked: JSON, name: str = "") -> str | None:
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in sorted(recorded.keys() | asked.keys()):
            a, b = recorded.get(key, "not set"), asked.get(key, "not set")
            if difference := _first_difference(a, b, f"{name}.{key}" if name else key):
                return difference
        return None
    return None if recorded == asked else f"{name} is {recorded} there and {asked} now"
