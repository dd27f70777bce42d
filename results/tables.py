"""Writes the tables of READMEs from the summaries in this folder.

    python results/tables.py README.md results/README.md

Fills what lies between `<!-- table: KIND FOLDER … -->` and `<!-- end -->`, where KIND is a function
below and FOLDER one beside this file. With `--check` it writes nothing, and fails where a table is
out of date.
"""

import argparse
import dataclasses
import functools
import inspect
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.cli.errors import UserError, exit_status
from experiments.records import published, summaries
from experiments.records.run_record import RunRecord
from experiments.records.shown import Shown
from experiments.reporting import inference, tables, wording
from experiments.reporting.inference import Comparison
from experiments.reporting.tables import Table
from experiments.study import entry

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
_SHORT = "random-x1.random-x0.35.rate-0.01"  # of tuned norms behind the first layer alone
_DOG = "difference-of-gaussians-1"
_BEHIND = "x12.random-x0.35.rate-0.01"  # what follows another first layer
_RECIPE = "gabor-1-x12.random-x0.35.rate-0.01"
_SOURCE = "pretrained-x12.pretrained-x0.35.rate-0.01"
_WIDER = "gabor-1-x12.fourier-k3-x0.35.rate-0.01"

# Planned families of which no one folder has all starts: what is asked, a start, another, and after
# how many epochs.
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
    "helps": [
        ("A layer that stays: random × 12; against random × 1", _TUNED, _SHORT, 15),
        ("Smoothness: smooth; against random", f"smooth-1-{_BEHIND}", _TUNED, 15),
        (
            "Structure: differences of Gaussians; against smooth",
            f"{_DOG}-{_BEHIND}",
            f"smooth-1-{_BEHIND}",
            15,
        ),
        ("Orientation: Gabor; against differences of Gaussians", _RECIPE, f"{_DOG}-{_BEHIND}", 15),
        ("Colour: Gabor with colour; against Gabor", f"colour-gabor-1-{_BEHIND}", _RECIPE, 15),
        (
            "Fit to the images: patch whitening; against orthogonal",
            f"patch-whitening-1-{_BEHIND}",
            f"orthogonal-1-{_BEHIND}",
            15,
        ),
    ],
    "seeds": [
        ("Tuned random", _SLOW, "random", 15),
        ("Gabor, 1 layer", "gabor-1", "random", 15),
        ("Fourier, 3 clusters", "fourier-k3", "random", 15),
        ("The recipe: Gabor × 12; Fourier × 0.35", _WIDER, "random", 15),
    ],
    "seeds-better": [
        ("The recipe; against tuned random", _WIDER, _SLOW, 15),
        ("The recipe; against Gabor, 1 layer", _WIDER, "gabor-1", 15),
        ("Gabor, 1 layer; against tuned random", "gabor-1", _SLOW, 15),
    ],
    "source": [
        ("Pretrained × 12, × 0.35; after 15 epochs", _SOURCE, _SLOW, 15),
        ("Pretrained × 12, × 0.35; after 3 epochs", _SOURCE, _SLOW, 3),
    ],
    "table-1": [
        ("Fourier, 3 clusters; against random", "fourier-k3", "random", 15),
        ("Random at their norms; against random", "random-at-fourier-k3", "random", 15),
        ("Fourier: their filters, norms being equal", "fourier-k3", "random-at-fourier-k3", 15),
        ("Gabor, 1 layer; against random", "gabor-1", "random", 15),
        ("Pretrained; against random", "pretrained", "random", 15),
        ("Gabor × 12; Fourier × 0.35; against random", _WIDER, "random", 15),
    ],
}
# Of one task, whose differences have no verdict.
_WITHOUT_VERDICT = {"table-1"}
# The seeds that settle a family, all of which have to be there: seed 0 chose these starts.
_SETTLING = {"seeds": (1, 2, 3, 4), "seeds-better": (1, 2, 3, 4)}
# Studies of first layers against tuned random initialisation, by the column that they fill.
_FIRST_LAYER_STUDIES = {
    "ResNet-18, CIFAR-100": ("resnet18-cifar100", "resnet18-cifar100-sourceless"),
    "ResNet-18, Tiny ImageNet": ("resnet18-tiny-imagenet", "resnet18-tiny-imagenet-sourceless"),
    "ResNet-20, CIFAR-100": ("resnet20-cifar100", "resnet20-cifar100-sourceless"),
    "ResNet-20, Tiny ImageNet": ("resnet20-tiny-imagenet", "resnet20-tiny-imagenet-sourceless"),
    "the same, eight further tasks": ("resnet20-more",),
}
# What is said for the parts of their starts' names.
_FIRST_LAYERS = {
    "patch-kmeans": "centroids (k-means) of patches",
    "colour-gabor": "coloured Gabor filters",
    "natural-whitening": "natural whitening",
    "patch-whitening": "patch whitening",
}
_OTHER_LAYERS = {
    "random": "random filters",
    "fourier": "Fourier clusters",
    "bank": "Fourier clusters",
}
_RECIPE_NAME = re.compile(r"(.+)-1-x[^x]+[.](random|fourier|bank)\b")
_BLOCK = re.compile(r"(<!-- table: ([^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def starts(folder: str) -> Table:
    """Every start: final accuracy, difference from the baseline, early epochs, time to accuracy."""
    runs, shown = _read(folder)
    return tables.short_starts_table(runs, shown.starts, shown.baseline)


def verdicts(folder: str, family: str) -> Table:
    """The comparisons of one family, with what they settle by the rule of `RULE.md`."""
    runs, shown = _read(folder)
    words = {one.stem: one.words() for one in shown.families}
    if family not in words:
        raise UserError(f"results/{folder} has no comparisons {family!r}")
    return tables.verdicts_table(runs, words[family])


def planned(family: str, *folders: str) -> Table:
    """A planned family whose starts lie in several folders, of the seeds that settle it."""
    if family in _WITHOUT_VERDICT:
        raise UserError(f"{family} has no verdicts: say by_seed {family}")
    runs, words = _of_family(family, folders)
    settling = _SETTLING.get(family, {run.seed for run in runs})
    return tables.verdicts_table([run for run in runs if run.seed in settling], words)


def by_seed(family: str, *folders: str) -> Table:
    """The differences of a planned family seed by seed, and how they scatter: no verdicts."""
    runs, words = _of_family(family, folders)
    return tables.by_seed_table(runs, words, _SETTLING.get(family, ()))


def _of_family(
    family: str, folders: Sequence[str]
) -> tuple[list[RunRecord], dict[tuple[str, str], str]]:
    """The runs of folders after each number of epochs that a family asks for, and what it asks."""
    if family not in _PLANNED:
        raise UserError(f"there is no family {family!r}: take one of {', '.join(_PLANNED)}")
    runs, _ = _pooled(folders)
    rows = [
        (asked, _after(e, name), _after(e, other)) for asked, name, other, e in _PLANNED[family]
    ]
    early = [
        dataclasses.replace(tables.early(run, e), variant=_after(e, run.variant))
        for e in {row[-1] for row in _PLANNED[family]}
        for run in runs
    ]
    there = {(run.variant, run.task, run.seed) for run in early}
    names = dict.fromkeys(name for row in rows for name in row[1:])
    tasks = sorted({run.task for run in early})
    for wanted in itertools.product(names, tasks, _SETTLING.get(family, ())):
        if wanted not in there:
            raise UserError(
                f"{wanted[0]} has no run of seed {wanted[2]} on {wanted[1]}: run it first"
            )
    return early, {(name, other): asked for asked, name, other in rows}


def _after(epochs: int, variant: str) -> str:
    return f"{variant}.epochs-{epochs}"


def protocols(fresh: str, sequential: str) -> Table:
    """Final accuracies and differences from random: fresh runs, runs carried over, the authors'."""
    (own, shown), (carried, _) = _read(fresh), _read(sequential)
    theirs = {name: of for name, of in _AUTHORS.items() if of}
    return tables.protocols_table(own, carried, shown, theirs)


def first_layers() -> Table:
    """First layers against tuned random initialisation, study by study, with the verdicts."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for column, folders in _FIRST_LAYER_STUDIES.items():
        for one in (one for folder in folders for one in _against_tuned(f"general-{folder}")):
            made_of = _RECIPE_NAME.match(one.variant)
            if made_of is None or made_of[1] not in _FIRST_LAYERS:
                raise UserError(f"{one.variant} has no words: add them to results/tables.py")
            row = _OTHER_LAYERS[made_of[2]], _FIRST_LAYERS[made_of[1]]
            difference = wording.difference_text(one.mean, one.low, one.high)
            cell = f"{difference}, **{inference.verdict(one)}**"
            if found.setdefault(row, {}).setdefault(column, cell) != cell:
                raise UserError(f"two starts are {' before '.join(row[::-1])} in {column}")
    rows = [
        (first, others, *(found[others, first].get(column, "–") for column in _FIRST_LAYER_STUDIES))
        for others in dict.fromkeys(_OTHER_LAYERS.values())
        for first in _FIRST_LAYERS.values()
        if (others, first) in found
    ]
    return Table(("first layer", "layers behind it", *_FIRST_LAYER_STUDIES), rows)


def _against_tuned(folder: str) -> list[Comparison]:
    """The planned comparisons of a study with random initialisation at other norms."""
    runs, shown = _read(folder)
    families = (inference.compare(runs, list(family.words())) for family in shown.families)
    return [one for family in families for one in family if one.baseline.startswith("random-")]


def ranked(epochs: str, baseline: str, *folders: str) -> Table:
    """The starts of several folders after so many epochs, the best first: no verdicts."""
    if not epochs.isdigit() or int(epochs) < 1:
        raise UserError(f"{epochs!r} is no number of epochs: say 1 or more")
    runs, labels = _pooled(folders)
    if not any(run.variant == baseline and run.stopped is None for run in runs):
        raise UserError(f"no run of {baseline} in {', '.join(folders)}")
    return tables.ranked_table(runs, labels, baseline, int(epochs))


def table_1(*folders: str) -> Table:
    """All classes as one task: accuracies after 5 and 15 epochs, and the mean of the last three."""
    runs, labels = _pooled(folders)
    return tables.table_1(runs, labels, {})


def tried(folder: str) -> Table:
    """The variants of an experiment by their mean final accuracy, the best first."""
    runs, shown = _read(folder)
    return tables.tried_table(runs, shown.starts)


def questions() -> Table:
    """Every question of `experiments`, as its module has it."""
    return Table(
        ("module of `experiments`", "what it varies", "figures of the paper"),
        [
            (f"`{one.name}`", one.varies, ", ".join(map(str, sorted(one.figures))) or "–")
            for one in entry.entries()
        ],
    )


KINDS: dict[str, Callable[..., Table]] = {
    function.__name__: function
    for function in (
        starts,
        verdicts,
        planned,
        by_seed,
        first_layers,
        protocols,
        ranked,
        table_1,
        tried,
        questions,
    )
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


@functools.cache  # as some stand on more than one page
def _table(asked: str) -> str:
    kind, *arguments = asked.split() or [""]
    if kind not in KINDS:
        raise UserError(f"there is no table {kind!r}: take one of {', '.join(KINDS)}")
    try:
        inspect.signature(KINDS[kind]).bind(*arguments)
    except TypeError as error:
        takes = " ".join(inspect.signature(KINDS[kind]).parameters)
        raise UserError(f"table {asked!r}: say {kind} {takes}") from error
    return KINDS[kind](*arguments).markdown()


def _read(folder: str) -> tuple[list[RunRecord], Shown]:
    study = summaries.read(_HERE / folder)
    return study.runs, study.showing()


def _pooled(folders: Sequence[str]) -> tuple[list[RunRecord], dict[str, str]]:
    """Reads the runs of several folders, each run once, and the labels of their starts."""
    pooled: dict[tuple[str, str, int], RunRecord] = {}
    labels: dict[str, str] = {}
    for folder in folders:
        records, shown = _read(folder)
        labels |= shown.starts
        for run in records:
            kept = pooled.setdefault((run.variant, run.task, run.seed), run)
            if kept.curves != run.curves:
                raise UserError(
                    f"results/{folder} has another {run.variant} on {run.task} than a folder "
                    "before it: pool folders of one protocol"
                )
    return list(pooled.values()), labels


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
