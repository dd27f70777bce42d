"""The whole paper on one page: every figure and table, from what was recorded, beside the authors'.

Reads what the experiments recorded and nothing else; what has not been run is shown as
not run. Writes `report.html`, which holds its figures, `report.md`, and each figure as PNG and SVG.
"""

import base64
import dataclasses
import html
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments import filters
from experiments.cli.errors import UserError, exit_status
from experiments.cli.options import PathText, Settings, parse_one
from experiments.records import former, run_record, summaries
from experiments.records.files import write_text, writing_to
from experiments.records.run_record import RunRecord
from experiments.reporting import presentation, style
from experiments.reporting.tables import Table, table_1
from experiments.study.entry import sections

FINALS = "final_accuracy"

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --line: #d0d0d0;
        --quiet: #666666; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c;
        --line: #3a3d44; --quiet: #a0a0a0; } }
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { width: 100%; background: #ffffff; border: 1px solid var(--line); border-radius: 4px;
      margin: 0.5rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.75rem 0.25rem 0;
         text-align: left; white-space: nowrap; }
.quiet { color: var(--quiet); }
nav a { margin-right: 1rem; }
"""


class Found(NamedTuple):
    """What one experiment recorded, drawn."""

    runs: list[RunRecord]
    tables: list[Table]
    figures: dict[str, Figure]
    subtitle: str
    suffix: str  # of the names of files made from these, which say so where data are procedural


def find(results: Path, experiment: str) -> Found | None:
    """Reads the study of one experiment in a folder or the folders in it, None without one.

    Raises:
        UserError: If the file is damaged, or there are several.
    """
    file = _file(results, experiment)
    if file is None:
        return None
    suffix = "-procedural" if file.stem.endswith("-procedural") else ""
    try:
        if experiment == "filters":
            drawings = filters.recorded(file)
            subtitle = "; ".join(drawn["subtitle"] for drawn in drawings.values())
            return Found([], [], filters.draw(drawings), subtitle, suffix)
        study = summaries.read_study(file)
        shown = study.showing()
        table, figures = presentation.draw(study.runs, shown)
        tables = [table]
        if experiment == "tiny_imagenet":
            tables.append(table_1(study.runs, shown.starts, shown.authors))
        if study.runs and run_record.is_procedural(study.runs):
            suffix = "-procedural"
        return Found(study.runs, tables, figures, shown.subtitle, suffix)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} does not say what to show ({error!r}): run {experiment} again"
        ) from error


def _file(results: Path, experiment: str) -> Path | None:
    """Finds an experiment's summary, or the `study.json` that its finished study has instead."""
    names = [experiment, *(old for old, new in former.EXPERIMENTS.items() if new == experiment)]
    files: list[Path] = []
    for folder in (results, *sorted(results.glob("*/"))):
        summary: list[Path] = []
        for name in names:  # beside a summary under a former name, the one under the present counts
            stems = (f"{name}{suffix}.json" for suffix in ("", "-procedural"))
            summary = summary or [folder / stem for stem in stems if (folder / stem).is_file()]
        study = folder / summaries.STUDY
        if not summary and study.is_file() and summaries.experiment_in(study) in names:
            summary = [study]
        files += summary
    if len(files) > 1:
        listed = ", ".join(str(file) for file in files)
        raise UserError(f"{experiment} was run several times ({listed}): give the folder of one")
    return files[0] if files else None


def write(results: Path, output: Path) -> list[Path]:
    """Draws everything and writes the page.

    Returns:
        What was written.
    """
    found = {entry.name: find(results, entry.name) for _, entry in sections()}
    if not any(found.values()):
        raise UserError(
            f"no experiment has written its summary in {results} or its folders: run one first"
        )
    with writing_to(output):
        output.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    page, text = [_head(found)], ["# The paper, run again", ""]
    for number, (section, entry) in enumerate(sections()):
        page.append(f'<h2 id="s{number}">{html.escape(section.heading)}</h2>')
        text += [f"## {section.heading}", ""]
        one = found[entry.name]
        if one is None:
            words = f"Not run: python -m experiments.{entry.name}"
            page.append(f'<p class="quiet">{html.escape(words)}</p>')
            text += [words, ""]
            continue
        page.append(f'<p class="quiet">{html.escape(one.subtitle)}</p>')
        text += [one.subtitle, ""]
        for stem, figure in one.figures.items():
            if stem.startswith(section.stems):
                name = f"{entry.name}-{stem}{one.suffix}"
                written += style.save(figure, output, name)
                page.append(_image(figure, f"{section.heading} ({stem})"))
                text += [f"![{stem}]({name}.png)", ""]
        # Of several sections of an experiment the one with every run's accuracy has its tables.
        for table in one.tables if FINALS in section.stems else []:
            page.append(_html(table))
            text += [table.markdown(), ""]
    page.append("</body></html>\n")
    with writing_to(output):
        written.append(write_text("\n".join(page), output / "report.html"))
        written.append(write_text("\n".join(text), output / "report.md"))
    return written


def _head(found: Mapping[str, Found | None]) -> str:
    links = " ".join(
        f'<a href="#s{number}">{html.escape(section.heading.split(":")[0])}</a>'
        for number, (section, entry) in enumerate(sections())
        if found[entry.name]
    )
    ran = sum(len(one.runs) for one in found.values() if one)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The paper, run again</title><style>{_STYLE}</style></head><body>"
        f"<h1>The paper, run again</h1><p>{ran} runs. Lines are means over runs; the authors’ "
        "curves are dashed where the setting is theirs. Every section says data, tasks, seeds, "
        f"protocol and device.</p><nav>{links}</nav>"
    )


def _image(figure: Figure, words: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def _html(table: Table) -> str:
    """Lays a table out, with its note below."""
    rows = [("th", table.header), *(("td", row) for row in table.rows)]
    body = "".join(
        f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>"
        for kind, cells in rows
    )
    note = f'<p class="quiet">{html.escape(table.note)}</p>' if table.note else ""
    return f'<div class="table"><table>{body}</table></div>{note}'


@dataclasses.dataclass(frozen=True)
class Report(Settings):
    """What is reported."""

    # folder of the runs
    results: PathText = "output"
    # folder of the report (report, in that of the runs, where not given)
    output: PathText | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the report and says where."""
    with exit_status(tables=False):
        asked = parse_one(Report(), argv, program="python -m experiments.report", about=__doc__)
        results = Path(asked.results)
        for path in write(results, Path(asked.output) if asked.output else results / "report"):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
