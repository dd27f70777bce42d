"""A finished study in few files: its runs as the lines of one, what it shows, figures and banks.

While a study runs each run is a file, so that several processes can write at once. Of the finished
study the archive keeps

- `runs.jsonl`: a run a line, as its file had it, in the order of the summary;
- `study.json`: what is shown of them (`summaries`), where the experiment wrote a summary;
- the figures as PNG, `banks/`, other records in JSON, `README.md` and `PLAN.md`.

Statistics, tables and SVGs are made again from these. An archive is read like the folder of a study
that runs, and goes on like one: further runs are files in its `runs/`.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.errors import UserError
from experiments.records import run_record, shown, store, summaries
from experiments.records.files import (
    SCHEMA_VERSION,
    json_line,
    write_json,
    write_text,
    writing_to,
)
from experiments.records.run_record import RunRecord
from experiments.records.shown import Study
from jaxinit import whole_files

_KEPT = ("*.png", "banks/*.npz", "README.md", "PLAN.md")


def pack(folder: Path, destination: Path) -> list[Path]:
    """Packs the folder of one study, and reads what it wrote to see that nothing was lost.

    Args:
        folder: Of an experiment, or of source models.
        destination: Where to; not there yet, or empty.

    Returns:
        What was written.

    Raises:
        UserError: There are no runs, a run is damaged, the summary is of other runs than those
            recorded, or the destination is not empty or cannot be written to.
    """
    if not store.has_runs(folder):
        raise UserError(f"{folder} holds no runs: give the --output of one experiment that has run")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(f"{destination} is not empty: give another folder to pack into")
    records = store.read_all(folder)
    run_record.is_procedural(records)  # which refuses a mixture
    described = [*summaries.files_in(folder), *folder.glob(summaries.STUDY)]
    study = summaries.read(folder) if described else None
    if study is not None:
        records = _in_order(records, study, folder)
    partial = whole_files.partial(destination.resolve())
    whole_files.clean(partial.parent)
    with writing_to(destination):
        try:
            written = _write(folder, partial, records, study)
            _verify(partial, records, study)
            os.replace(partial, destination)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return [destination / path.relative_to(partial) for path in written]


def _in_order(records: Sequence[RunRecord], study: Study, folder: Path) -> list[RunRecord]:
    """The recorded runs as the summary has them, of which no other may be there."""
    known = {store.name_of(record): record for record in records}
    names = [store.name_of(run) for run in study.runs]
    if differing := sorted(known.keys() ^ set(names)):
        where = "not in its summary" if differing[0] in known else "only in its summary"
        raise UserError(
            f"{folder} has runs {where} ({differing[0]}): run its experiment once more, with all "
            "that it compares"
        )
    for name, run in zip(names, study.runs, strict=True):
        if (known[name].curves, known[name].settings) != (run.curves, run.settings):
            raise UserError(
                f"{folder} has another {name} in its summary: run its experiment once more"
            )
    return [known[name] for name in names]


def _write(
    folder: Path, partial: Path, records: Sequence[RunRecord], study: Study | None
) -> list[Path]:
    lines = "".join(json_line(store.as_json(record)) for record in records)
    written = [write_text(lines, store.lines(partial))]
    if study is not None:
        content = {
            "schema_version": SCHEMA_VERSION,
            "experiment": summaries.experiment_of(records),
            "procedural": run_record.is_procedural(records),
            "runs": len(records),
            "runs_checksum": summaries.checksum_of(written[0]),
            "shown": shown.written(study.shown) if study.shown else {},
        }
        written.append(write_json(content, partial / summaries.STUDY))
    made = {*summaries.files_in(folder), folder / summaries.STUDY}
    others = [file for file in folder.glob("*.json") if file not in made]
    for file in sorted([*others, *(file for kept in _KEPT for file in folder.glob(kept))]):
        target = partial / file.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        written.append(shutil.copyfile(file, target))
    return written


def _verify(partial: Path, records: Sequence[RunRecord], study: Study | None) -> None:
    read = list(store.archived(partial).values())
    kept = study is None or summaries.read(partial)[:2] == (study.shown, records)
    if read != records or not kept:
        raise UserError("what was packed does not read as it was: please report this")
