"""Writes the tables of READMEs from the summaries in this folder.

    python results/tables.py README.md results/README.md

Fills what lies between `<!-- table: KIND FOLDER … -->` and `<!-- end -->`, where KIND is a function
below and FOLDER one beside this file. With `--check` it writes nothing, and fails where a table is
out of date.
"""

import argparse
import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import evidence
from experiments.cli.errors import UserError, exit_status
from experiments.evidence import Shown
from experiments.records import averages, published
from experiments.records.run_record import RunRecord
from experiments.reporting import inference, wording

_HERE = Path(__file__).parent
# Their clusters are of ten source models.
_AUTHORS = {
    "random": published.RANDOM,
    "pretrained": published.PRETRAINED,
    "gabor-1": published.for_gabor(1),
    "euclidean-k3": published.for_clusters("euclidean", 3),
}
_TUNED = "random-x12.random-x0.35.rate-0.01"  # the random start that tuning chose
_SLOW = "random-x12.random-x0.35.rate-0.0033"  # and that of the wider search
_RECIPE = "gabor-1-x12.random-x0.35.rate-0.01"
_SOURCE = "pretrained-x12.pretrained-x0.35.rate-0.01"
_WIDER = "gabor-1-x12.fourier-k3-x0.35.rate-0.01"
# Families of `PLAN.md` of which no one folder has all starts: what is asked, a start, another, and
# after how many epochs.
_PLANNED = {
    "second": [
        ("Gabor, 1 layer; against tuned random", "gabor-1", _TUNED, 15),
        ("The recipe that tuning chose; against tuned random", _RECIPE, _TUNED, 15),
        ("Gabor: its filters, norms being equal", "gabor-1", "random-at-gabor-1", 15),
        ("Gabor: its norm, filters being equal", "gabor-1", "gabor-1-at-random", 15),
    ],
    "three-epochs": [
        ("Pretrained; against tuned random", "pretrained", _TUNED, 3),
        ("Gabor, 1 layer; against tuned random", "gabor-1", _TUNED, 3),
        ("Tuned random at a rate of 0.0033; against that at 0.01", _SLOW, _TUNED, 3),
    ],
    "wider": [
        ("Gabor × 12; Fourier × 0.35; against tuned random, rate 0.0033", _WIDER, _SLOW, 15),
        ("Gabor × 12; Fourier × 0.35; against Gabor, 1 layer", _WIDER, "gabor-1", 15),
    ],
    "first-ten": [
        ("Gabor × 12; Fourier × 0.35; against tuned random", _WIDER, _TUNED, 15),
        ("Gabor × 12; Fourier × 0.35; against Gabor, 1 layer", _WIDER, "gabor-1", 15),
    ],
    "twenty": [
        ("Gabor × 12; Fourier × 0.35; against tuned random, rate 0.0033", _WIDER, _SLOW, 15),
    ],
    "source": [
        ("Pretrained × 12, × 0.35; after 15 epochs", _SOURCE, _SLOW, 15),
        ("Pretrained × 12, × 0.35; after 3 epochs", _SOURCE, _SLOW, 3),
    ],
}
_BLOCK = re.compile(r"(<!-- table: ([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def starts(folder: str) -> str:
    """Every start: final accuracy, difference from the baseline, early epochs, time to accuracy."""
    records, (labels, baseline, *_) = _read(folder)
    levels = averages.finals(records, baseline)
    rows = [
        "| start | n | final accuracy, % | difference, 95 % interval | after 1 epoch | after 3 | "
        f"training loss | epochs to {labels[baseline]}’s final |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, label in labels.items():
        runs = [r for r in records if r.variant == name and r.stopped is None]
        reached = averages.epochs_to_finals(runs, levels)
        epochs = [epoch for epoch in reached if epoch is not None]
        accuracies = [r.curves["val_acc_top1"] for r in runs]
        late = len(reached) - len(epochs)
        rows.append(
            _row(
                label,
                str(len(runs)),
                wording.mean_std([averages.final(r) for r in runs]),
                "–" if name == baseline else _difference(records, name, baseline),
                *(_mean([a[e - 1] for a in accuracies if len(a) >= e]) for e in (1, 3)),
                _mean([averages.final(r, "train_loss") for r in runs], digits=2),
                (_mean(epochs) if epochs else "–") + (f" ({late} never)" if late else ""),
            )
        )
    return "\n".join(rows)


def verdicts(folder: str, family: str) -> str:
    """The comparisons of one family, with what they settle by the rule of `PLAN.md`."""
    records, shown = _read(folder)
    if family not in shown.families:
        raise UserError(f"results/{folder} has no comparisons {family!r}")
    _, words = shown.families[family]
    return _verdicts(records, words)


def planned(family: str, *folders: str) -> str:
    """A family of `PLAN.md` whose starts lie in several folders."""
    if family not in _PLANNED:
        raise UserError(f"there is no family {family!r}: take one of {', '.join(_PLANNED)}")
    runs, _ = _pooled(folders)
    rows = [
        (asked, _after(e, name), _after(e, other)) for asked, name, other, e in _PLANNED[family]
    ]
    early = [
        dataclasses.replace(_early(run, e), variant=_after(e, run.variant))
        for e in {row[-1] for row in _PLANNED[family]}
        for run in runs
    ]
    return _verdicts(early, {(name, other): asked for asked, name, other in rows})


def _after(epochs: int, variant: str) -> str:
    return f"{variant}.epochs-{epochs}"


def _verdicts(records: Sequence[RunRecord], words: Mapping[tuple[str, str], str]) -> str:
    """What is found of each pair of starts; the words say what it asks."""
    rows = [
        "| what is compared | tasks | difference, 95 % interval | corrected p | probability of "
        "improvement | detectable | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    found = inference.compare(records, list(words))
    for one in found:
        rows.append(
            _row(
                words[one.variant, one.baseline],
                str(one.tasks),
                wording.difference_text(one.mean, one.low, one.high),
                f"{one.adjusted:.3f}",
                f"{one.improvement:.0%}".replace("%", " %"),
                f"{one.detectable:.1f}",
                f"**{inference.verdict(one)}**",
            )
        )
    if missing := len(words) - len(found):
        rows += ["", f"Not run, but counted in the correction: {missing}."]
    return "\n".join(rows)


def protocols(fresh: str, sequential: str) -> str:
    """Final accuracies and differences from random: fresh runs, runs carried over, the authors'."""
    (own, shown), (carried, _) = _read(fresh), _read(sequential)
    rows = ["| start | fresh | carried over | authors, carried over |", "|---|---|---|---|"]
    for name, label in shown.labels.items():
        cells = [
            _mean(finals)
            + ("" if name == shown.baseline else f" ({_difference(runs, name, shown.baseline)})")
            for runs in (own, carried)
            if (finals := list(averages.finals(runs, name).values()))
        ]
        if len(cells) == 2:
            rows.append(_row(label, *cells, _published(name)))
    return "\n".join(rows)


def ranked(epochs: str, baseline: str, *folders: str) -> str:
    """The starts of several folders after so many epochs, the best first: no verdicts.

    Only those that ran wherever the baseline did, as tasks differ more than starts do.
    """
    if not epochs.isdigit() or int(epochs) < 1:
        raise UserError(f"{epochs!r} is no number of epochs: say 1 or more")
    pooled, labels = _pooled(folders)
    records = [_early(run, int(epochs)) for run in pooled]
    runs = {name: averages.finals(records, name) for name in labels}
    if not runs.get(baseline):
        raise UserError(f"no run of {baseline} in {', '.join(folders)}")
    everywhere = runs[baseline].keys()
    finals = {n: [of[k] for k in everywhere] for n, of in runs.items() if of.keys() >= everywhere}
    rows = [
        f"| start | n | after {epochs} epochs, % | difference from {labels[baseline]}, "
        "95 % interval |",
        "|---|---|---|---|",
    ]
    for name in _best_first(finals):
        difference = "–" if name == baseline else _difference(records, name, baseline)
        rows.append(_row(labels[name], str(len(finals[name])), _mean(finals[name]), difference))
    return "\n".join(rows)


def tried(folder: str) -> str:
    """The variants of an experiment by their mean final accuracy, the best first."""
    records, shown = _read(folder)
    runs = averages.by_variant(records)
    finals = {name: list(averages.finals(records, name).values()) for name in shown.labels}
    rows = ["| start | n | stopped | final accuracy, % | training loss |", "|---|---|---|---|---|"]
    for name in _best_first(finals):
        losses = list(averages.finals(records, name, "train_loss").values())
        rows.append(
            _row(
                shown.labels[name],
                str(len(finals[name])),
                str(len(runs[name]) - len(finals[name])),
                _mean(finals[name]),
                _mean(losses, digits=2),
            )
        )
    return "\n".join(rows)


KINDS: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (starts, verdicts, planned, protocols, ranked, tried)
}


def filled(text: str) -> str:
    """Returns a text with every table made anew.

    Raises:
        UserError: A mark without its other, or a table that cannot be made.
    """
    marks = re.findall(r"<!-- (table|end)\b", text)
    if marks != ["table", "end"] * (len(marks) // 2):
        raise UserError("marks do not alternate: each <!-- table: … --> needs its <!-- end -->")
    return _BLOCK.sub(lambda match: f"{match[1]}{_table(match[2])}\n{match[3]}", text)


def _table(asked: str) -> str:
    kind, *arguments = asked.split() or [""]
    if kind not in KINDS:
        raise UserError(f"there is no table {kind!r}: take one of {', '.join(KINDS)}")
    try:
        inspect.signature(KINDS[kind]).bind(*arguments)
    except TypeError as error:
        takes = " ".join(inspect.signature(KINDS[kind]).parameters)
        raise UserError(f"table {asked!r}: say {kind} {takes}") from error
    return KINDS[kind](*arguments)


def _read(folder: str) -> tuple[list[RunRecord], Shown]:
    return evidence.read(_HERE / folder)


def _pooled(folders: Sequence[str]) -> tuple[list[RunRecord], dict[str, str]]:
    """Reads the runs of several folders, each run once, and the labels of their starts."""
    pooled: dict[tuple[str, str, int], RunRecord] = {}
    labels: dict[str, str] = {}
    for folder in folders:
        records, shown = _read(folder)
        labels |= shown.labels
        for run in records:
            kept = pooled.setdefault((run.variant, run.task, run.seed), run)
            if kept.curves != run.curves:
                raise UserError(
                    f"results/{folder} has another {run.variant} on {run.task} than a folder "
                    "before it: pool folders of one protocol"
                )
    return list(pooled.values()), labels


def _early(run: RunRecord, epochs: int) -> RunRecord:
    """A run as it was after so many epochs."""
    if run.stopped is None and len(run.curves["val_acc_top1"]) < epochs:
        raise UserError(f"{run.variant} on {run.task} has fewer than {epochs} epochs: say fewer")
    return averages.first_epochs(run, epochs)


def _best_first(finals: Mapping[str, Sequence[float]]) -> list[str]:
    """Names by their mean, those without any last."""
    return sorted(finals, key=lambda name: -np.mean(finals[name]) if finals[name] else np.inf)


def _difference(records: Sequence[RunRecord], name: str, baseline: str) -> str:
    pairs = averages.paired_differences(records, name, baseline)
    if not pairs:
        return "–"
    values = averages.task_means(pairs)
    return wording.difference_text(float(values.mean()), *inference.interval(values))


def _published(name: str) -> str:
    """The authors' final accuracy, and its difference from random after as many epochs."""
    theirs = _AUTHORS.get(name)
    if theirs is None:
        return "–"
    curve = published.curve(theirs)
    level, base = (
        float(np.mean(values[-averages.LAST_EPOCHS :]))
        for values in (curve, published.curve(published.RANDOM)[: len(curve)])
    )
    difference = "" if theirs == published.RANDOM else f" ({level - base:+.1f})"
    return f"{level:.1f}{difference.replace('-', '−')}"


def _mean(values: Sequence[Any], digits: int = 1) -> str:
    return f"{np.mean(values):.{digits}f}" if len(values) else "–"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Fills or checks the files named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="such as README.md results/README.md")
    parser.add_argument("--check", action="store_true", help="only fail where one is out of date")
    options = parser.parse_args()
    with exit_status():
        for file in options.files:
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeError) as error:
                raise UserError(f"{file} cannot be read: {error}") from error
            made = filled(text)
            if options.check and made != text:
                raise UserError(f"{file} has a table out of date: run results/tables.py on it")
            if not options.check:
                file.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
