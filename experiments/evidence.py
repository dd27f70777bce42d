"""What an experiment's runs settle: differences and their certainty, by a rule set before.

Reads the summary that the experiment wrote and nothing else; writes `evidence.md` and figures. The
rule is that of `inference.verdict`, each table's comparisons corrected as one family.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.errors import UserError, exit_status
from experiments.cli.options import PathText, Settings, parse_one
from experiments.records import averages, files, run_record, summaries
from experiments.reporting import charts, inference, style, tables, wording

# What is recorded of layers: the title of its figure, its first epoch, and what the axes say.
_OF_LAYERS = {
    "norm": (
        "Norms of layers over training",
        0,
        "epochs trained",
        "norm of the taps that meet data",
    ),
    "turn": ("How far layers turn in an epoch", 1, "epoch", "degrees"),
}


def write(results: Path, output: Path) -> list[Path]:
    """Writes the tables and figures of one experiment's runs.

    Args:
        results: Folder of one experiment, whose summary is read.
        output: Where to.

    Returns:
        What was written.

    Raises:
        UserError: If there is no summary, or it does not say what to compare.
    """
    study = summaries.read(results)
    records, shown = study.runs, study.showing()
    if not shown.families:
        raise UserError(f"{study.file} does not say what to compare: run its experiment again")
    labels, baseline, subtitle = shown.starts, shown.baseline, shown.subtitle
    averages.summarize(records)  # which refuses runs of unequal length
    text = [
        "# What the runs settle",
        "",
        f"{subtitle}.",
        "",
        wording.rule(),
        "",
        "## Every start",
        "",
    ]
    text += [tables.starts_table(records, labels, baseline).markdown(), ""]
    figures = {}
    for family in shown.families:
        words = family.words()
        found = inference.compare(records, list(words))
        if not found:
            continue
        rows = [words[one.variant, one.baseline] for one in found]
        text += [f"## {family.title}", "", tables.comparisons_table(found, rows).markdown(), ""]
        if missing := tables.not_run(len(words) - len(found)):
            text += [missing, ""]
        figures[family.stem] = charts.differences_figure(
            found, rows, title=family.title, subtitle=subtitle
        )
    for kind, (title, first, across, up) in _OF_LAYERS.items():
        if curves := averages.layer_curves(records, labels, kind):
            figures[f"{kind}s"] = charts.layers_figure(
                curves,
                labels=labels,
                baseline=baseline,
                first=first,
                across=across,
                up=up,
                title=title,
                subtitle=subtitle,
            )
    written: list[Path] = []
    for stem, figure in figures.items():
        name = run_record.output_name(f"evidence-{stem}", records)
        written += style.save(figure, output, name)
        text += [f"![{stem}]({name}.png)", ""]
    with files.writing_to(output):
        name = f"{run_record.output_name('evidence', records)}.md"
        written.append(files.write_text("\n".join(text), output / name))
    return written


@dataclasses.dataclass(frozen=True)
class Evidence(Settings):
    """Whose evidence is written."""

    # folder of one experiment
    results: PathText = "output/ablations"
    # where to write (the same folder where not given)
    output: PathText | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the tables and figures and says where."""
    with exit_status(tables=False):
        asked = parse_one(Evidence(), argv, program="python -m experiments.evidence", about=__doc__)
        for path in write(Path(asked.results), Path(asked.output or asked.results)):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
