"""What an experiment's runs are kept and shown as: the summary file, and the table of results.

`write_summary` writes `<folder>/<experiment>.json`, in the form of the authors' files:

    {"schema_version", "experiment", "procedural",
     "settings": those that all runs share, "environments": each that occurs (dates left out),
     "wall_seconds": in total,
     "shown": labels, figures and their subtitle, the authors' configurations of the same setting,
     "variants": {<variant>: {"n", "stopped", "lr_list",
         "mean" | "std" | "min" | "max": {<metric>: a number an epoch},
         "runs": [{"task", "seed", "settings": those not shared, "curves", "stopped",
                   "date", "wall_seconds"}]}}}

`std` is the sample standard deviation (n − 1) over runs, of which those on the same task or with
the same seed are not independent. Runs that stopped early are left out of all statistics and
counted in `stopped`.

Of a finished study `study.json` holds what is shown, and `runs.jsonl` the runs (`packing`):

    {"schema_version", "experiment", "procedural", "runs": how many,
     "runs_checksum": the SHA-256 of runs.jsonl, "shown"}
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.cli.errors import UserError
from experiments.records import averages, run_record, shown, store, strict
from experiments.records.files import (
    JSON,
    SCHEMA_VERSION,
    read_json,
    read_text,
    write_json,
    writing_to,
)
from experiments.records.run_record import RunRecord
from experiments.records.shown import Shown, Study

STUDY = "study.json"


def experiment_of(records: Sequence[RunRecord]) -> str:
    """The one experiment that all these runs are of. Raises ValueError where there are others."""
    experiments = sorted({r.experiment for r in records})
    if len(experiments) != 1:
        raise ValueError(f"these runs are of {experiments or 'no'} experiments: give those of one")
    return experiments[0]


def _shared(dicts: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    return {k: v for k, v in dicts[0].items() if all(k in d and d[k] == v for d in dicts)}


def _summary_of_variant(runs: Sequence[RunRecord], shared: Mapping[str, JSON]) -> dict[str, JSON]:
    metrics = [m for m in runs[0].curves if all(m in r.curves for r in runs)]
    each = {m: averages.summarize(runs, m)[runs[0].variant] for m in metrics}
    over_runs = {
        name: {m: getattr(each[m], field) for m in metrics if m != "learning_rate"}
        for name, field in (("mean", "mean"), ("std", "std"), ("min", "low"), ("max", "high"))
    }
    kept = ("task", "seed", "curves", "stopped", "wall_seconds")
    return {
        "n": each["val_acc_top1"].n,
        "stopped": each["val_acc_top1"].stopped,
        **over_runs,
        "lr_list": each["learning_rate"].mean,
        "runs": [
            {name: getattr(r, name) for name in kept}
            | {"settings": {k: v for k, v in r.settings.items() if k not in shared}}
            | {"date": r.environment.get("date")}
            for r in runs
        ],
    }


def write_summary(
    records: Sequence[RunRecord], folder: Path | str, to_show: Shown | None = None
) -> Path:
    """Writes all runs of one experiment, and their statistics, to one file; see the module.

    Args:
        records: Of one experiment.
        folder: Where to.
        to_show: What a report must know to draw them as the experiment does.

    Raises:
        ValueError: If the records are of no experiment, or of several.
        UserError: If the folder cannot be written to; the runs themselves are in theirs.
    """
    experiment = experiment_of(records)
    shared = _shared([r.settings for r in records])
    environments: list[dict[str, JSON]] = []
    for record in records:
        undated = {k: v for k, v in record.environment.items() if k != "date"}
        if undated not in environments:
            environments.append(undated)
    summary = {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment,
        "procedural": run_record.is_procedural(records),
        "settings": shared,
        "environments": environments,
        "wall_seconds": sum(r.wall_seconds for r in records),
        "variants": {
            v: _summary_of_variant(r, shared) for v, r in averages.by_variant(records).items()
        },
        "shown": shown.written(to_show) if to_show else {},
    }
    with writing_to(folder):
        target = Path(folder) / f"{run_record.output_name(experiment, records)}.json"
        return write_json(summary, target)


def find(folder: Path) -> Path:
    """Finds what describes the study in a folder: its summary, or else `study.json`.

    Raises:
        UserError: There is neither, or there are several summaries.
    """
    files = files_in(folder)
    if not files and (folder / STUDY).is_file():
        return folder / STUDY
    if len(files) != 1:
        said = f"several summaries ({', '.join(map(str, files))})" if files else "no summary"
        raise UserError(f"{folder} holds {said}: give the --output of one experiment that has run")
    return files[0]


def files_in(folder: Path) -> list[Path]:
    """Lists the summaries in a folder."""
    return [
        file
        for file in sorted(folder.glob("*.json"))
        if file.name != STUDY
        and file.is_file()
        and '"variants"' in file.read_text("utf-8", errors="replace")
    ]


def experiment_in(study: Path) -> str:
    """Returns which experiment a `study.json` is of. Raises `UserError` where it does not say."""
    name = read_json(study).get("experiment")
    if not isinstance(name, str):
        raise UserError(f"{study} does not say of which experiment it is: put it back")
    return name


def read(folder: Path) -> Study:
    """Reads the study in a folder, as `find` finds it."""
    return read_study(find(folder))


def read_study(path: Path) -> Study:
    """Reads a summary, or `study.json` with the runs beside it.

    Where the runs of a summary are of several environments each is given the first one.

    Raises:
        UserError: If a file cannot be read or is not as the schema says.
    """
    data = read_json(path)
    try:
        to_show = shown.parse(data["shown"], path)
        if path.name == STUDY:
            runs = _archived(path.parent, experiment_in(path))
            _check_lines(path, data, runs)
            return Study(to_show, runs, path)
        runs = _runs_of(data)
        _check_runs(path, data["experiment"], runs)
        return Study(to_show, runs, path)
    except ValidationError as error:
        raise UserError(
            f"{path} is not a summary ({strict.sentence(error)}): run its experiment again, which "
            "writes it anew"
        ) from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(
            f"{path} is not a summary ({error!r}): run its experiment again, which writes it anew"
        ) from error


def _check_lines(path: Path, data: Mapping[str, JSON], runs: Sequence[RunRecord]) -> None:
    """Makes sure that the runs beside a `study.json` are those that it was written for."""
    lines = store.lines(path.parent)
    if data.get("runs", len(runs)) != len(runs):
        raise UserError(
            f"{lines} has {len(runs)} runs of the {data['runs']} that {path.name} counts: put it "
            "back"
        )
    if data.get("runs_checksum", found := checksum_of(lines)) != found:
        raise UserError(f"{lines} is not the one that {path.name} was written for: put it back")


def checksum_of(lines: Path) -> str:
    """The SHA-256 of a file of runs, in hexadecimal."""
    return hashlib.sha256(read_text(lines).encode()).hexdigest()


def _check_runs(path: Path, experiment: str, runs: Sequence[RunRecord]) -> None:
    """Makes sure that a summary is of the experiment that its name says, and of the runs beside it.

    Of these there may be none, as where the summary alone was kept.
    """
    again = "run its experiment again, which writes it anew"
    if runs and path.stem != run_record.output_name(experiment, runs):
        raise UserError(f"{path} is the summary of {experiment}: {again}")
    for run in runs:
        file = path.parent / "runs" / (name := store.name_of(run))
        recorded = store.read(file) if file.exists() else store.archived(path.parent).get(name)
        if recorded and (recorded.curves, recorded.settings) != (run.curves, run.settings):
            raise UserError(f"{path} has another {name} than is recorded beside it: {again}")


def _archived(folder: Path, experiment: str) -> list[RunRecord]:
    runs = [run for run in store.archived(folder).values() if run.experiment == experiment]
    if not runs:
        raise UserError(f"{store.lines(folder)} has no run of {experiment}: put it back")
    return runs


def _runs_of(summary: Mapping[str, Any]) -> list[RunRecord]:
    return [
        RunRecord(
            experiment=summary["experiment"],
            variant=variant,
            task=run["task"],
            seed=run["seed"],
            settings={**summary["settings"], **run["settings"]},
            curves=run["curves"],
            stopped=run["stopped"],
            environment={**summary["environments"][0], "date": run["date"]},
            wall_seconds=run["wall_seconds"],
        )
        for variant, of_variant in summary["variants"].items()
        for run in of_variant["runs"]
    ]
