"""From a question to its answer: what every experiment does with the variants that it names."""

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import (
    config,
    data,
    ingredients,
    plotting,
    pretrain,
    reference,
    runner,
    summaries,
    tracking,
)
from experiments.errors import exit_status
from experiments.progress import Progress, clock
from experiments.runner import Variant


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What every experiment is told; each adds what it varies."""

    clustering: ingredients.Clustering = dataclasses.field(default_factory=ingredients.Clustering)
    data: config.Data = dataclasses.field(default_factory=config.Data)
    training: config.Training = dataclasses.field(default_factory=config.Training)
    sources: config.Sources = dataclasses.field(default_factory=config.Sources)
    evaluation: runner.Evaluation = dataclasses.field(default_factory=runner.Evaluation)


def quick(experiment: str) -> dict[str, Any]:
    """What the quick presets share: the embedded images, few of them, few epochs, two tasks."""
    return {
        "clustering": ingredients.Clustering(restarts=1, most_slices=2**17),
        "data": pretrain.QUICK.data,
        "training": pretrain.QUICK.training,
        "sources": pretrain.QUICK.sources,
        "evaluation": runner.Evaluation(
            pairs=((10, 11), (16, 19)), seeds=1, output=f"output/{experiment}"
        ),
    }


def reduced(experiment: str) -> dict[str, Any]:
    """What the reduced presets share: the paper's grid thinned for a machine without a GPU.

    CIFAR-100, whole tasks, three pairs, two seeds, five epochs; six source models of ten epochs;
    2¹⁷ slices of each layer clustered.
    """
    return {
        "clustering": ingredients.Clustering(restarts=1, most_slices=2**17),
        "data": config.Data(dataset="cifar100"),
        "training": config.Training(epochs=5),
        "sources": config.Sources(sources=6, source_epochs=10),
        "evaluation": runner.Evaluation(
            pairs=((10, 11), (11, 18), (16, 19)), seeds=2, output=f"output/reduced/{experiment}"
        ),
    }


def paper(experiment: str) -> dict[str, Any]:
    """What the paper's presets share: CIFAR-100, ten pairs, five seeds."""
    return {
        "data": config.Data(dataset="cifar100"),
        "evaluation": runner.Evaluation(output=f"output/paper/{experiment}"),
    }


@dataclasses.dataclass(frozen=True)
class Figure:
    """Which variants one figure shows.

    Attributes:
        stem: Its file's name without ending.
        title: What it says.
        variants: Names of the variants, in the order of the colours.
        palette: "sequential" where they are steps of one quantity.
    """

    stem: str
    title: str
    variants: tuple[str, ...]
    palette: plotting.Palette = "categorical"


class Family(NamedTuple):
    """Comparisons whose p values are corrected together.

    Attributes:
        stem: Of its figure's name.
        title: What it asks.
        contrasts: For each comparison what it is called, a variant, and what that is compared with.
    """

    stem: str
    title: str
    contrasts: list[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True)
class Question:
    """What an experiment compares, and how it shows that.

    Attributes:
        variants: Ways of starting, in the order of tables.
        figures: Of curves; one of all runs' final accuracies is drawn beside them.
        authors: For a variant's name that of the authors' configuration of the same setting, or
            None.
        baseline: The variant that the others are compared with.
        families: What `experiments.evidence` compares; where there are none, all with the baseline.
    """

    variants: list[Variant]
    figures: list[Figure]
    authors: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    baseline: str = "random"
    families: list[Family] = dataclasses.field(default_factory=list)


Ask = Callable[[Any, ingredients.Ingredients], Question]


def main(
    experiment: str, presets: Mapping[str, Any], ask: Ask, argv: Sequence[str] | None = None
) -> None:
    """Runs an experiment from its command line, and says where everything lies.

    Args:
        experiment: The name of its module.
        presets: Its settings by name; the first is the default.
        ask: Makes the question of the settings.
        argv: Arguments; None for the process's own.
    """
    start = time.monotonic()
    with exit_status():
        settings = config.parse(
            presets,
            argv,
            program=f"python -m experiments.{experiment}",
            description=(inspect.getmodule(ask).__doc__ or "").split("\n")[0],
        )
        runner.setup_jax()
        written = plan(experiment, settings, ask).run()
        print(f"finished in {clock(time.monotonic() - start)}; written:")
        for path in written:
            print(f"  {path}")


class Plan(NamedTuple):
    """An experiment that has yet to be run."""

    question: Question
    settings: Experiment
    dataset: data.Dataset
    made_of: ingredients.Ingredients
    runner: runner.Runner

    def work(self) -> dict[str, float]:
        """For all that is still to be trained, how many pixels it trains on."""
        runs = self.runner.work()
        from_sources = any(_names_sources(v.settings) for v in self.question.variants)
        return {**runs, **self.made_of.work()} if runs and from_sources else runs

    def run(self) -> list[Path]:
        """Trains what is not recorded yet, writes summary, table and figures, prints the table.

        Returns:
            What was written, folders of single runs and of the banks included.
        """
        records = self.runner.run()
        written = present(self.question, self.settings, records, self.dataset)
        return [*written, self.runner.folder / "runs", self.made_of.folder]


def _names_sources(settings: Mapping[str, Any]) -> bool:
    """Whether a variant's settings, or those of what it is made of, name source models."""
    return bool({"source", "sources"} & settings.keys()) or any(
        _names_sources(value) for value in settings.values() if isinstance(value, Mapping)
    )


def _nothing(settings: Any, made_of: ingredients.Ingredients) -> Question:
    del settings, made_of
    return Question([], [])


def plan(
    experiment: str,
    settings: Experiment,
    ask: Ask = _nothing,
    progress: Progress | None = None,
) -> Plan:
    """Loads the images and asks the question, but trains nothing yet.

    Args:
        experiment: The name of its module.
        settings: What it compares.
        ask: Makes the question of the settings; without it nothing is compared.
        progress: Of all that is to be done, where that is more than this experiment.
    """
    tracking.check_writable(Path(settings.evaluation.output))
    dataset = source_data = runner.load_data(settings.data)
    if not settings.evaluation.whole:
        runner.check_pairs(settings.evaluation.pairs, dataset)
    if settings.sources.source_dataset not in (None, dataset.name):
        source_data = runner.load_data(
            dataclasses.replace(settings.data, dataset=settings.sources.source_dataset)
        )
    made_of = ingredients.Ingredients(
        source_data,
        settings.training,
        settings.sources,
        settings.clustering,
        overwrite=settings.evaluation.overwrite,
        evaluated=dataset,
        progress=progress,
    )
    question = ask(settings, made_of)
    trained = (dataset, settings.training, settings.evaluation, progress)
    return Plan(
        question,
        settings,
        dataset,
        made_of,
        runner.Runner(experiment, question.variants, *trained),
    )


def present(
    question: Question,
    settings: Experiment,
    records: Sequence[tracking.RunRecord],
    dataset: data.Dataset,
) -> list[Path]:
    """Writes the summary, the results table and the figures; prints the table."""
    folder = Path(settings.evaluation.output)
    shown = {
        "labels": {variant.name: variant.label for variant in question.variants},
        "figures": [dataclasses.asdict(figure) for figure in question.figures],
        "authors": {
            name: theirs
            for name, theirs in question.authors.items()
            if theirs
            and reference.data_set(theirs) == dataset.name
            and _learns_as_theirs(settings.training)
        },
        "baseline": question.baseline,
        "families": [family._asdict() for family in question.families or [_all(question)]],
        "subtitle": describe(settings, records, dataset),
    }
    table, drawn = draw(records, shown)
    written = [
        summaries.write_summary(records, folder, shown),
        summaries.write_table(table, records, folder),
    ]
    for stem, figure in drawn.items():
        written += plotting.save(figure, folder, tracking.output_name(stem, records))
    print(table)
    return written


def _all(question: Question) -> Family:
    """Every variant against the baseline."""
    labels = {variant.name: variant.label for variant in question.variants}
    others = [
        (label, n, question.baseline) for n, label in labels.items() if n != question.baseline
    ]
    return Family("all", f"Against {labels[question.baseline]}", others)


def draw(
    records: Sequence[tracking.RunRecord], shown: Mapping[str, Any]
) -> tuple[str, dict[str, plotting.Figure]]:
    """Makes the results table and the figures of an experiment.

    Args:
        records: Its runs.
        shown: What its summary says of them (`present` writes it).

    Returns:
        The table in Markdown, and each figure by the stem of its file's name; those of which every
        run stopped are left out.
    """
    labels, theirs = shown["labels"], shown["authors"]
    authors = {name: reference.curve(theirs[name]) for name in labels if name in theirs}
    called = next((reference.label(name) for name in theirs.values()), reference.LABEL)
    common = {"subtitle": shown["subtitle"], "baseline": shown["baseline"]}
    finished = {record.variant for record in records if record.stopped is None}
    table = summaries.results_table(
        records,
        baseline=shown["baseline"],
        labels=labels,
        authors=authors,
        authors_label=called,
    )
    figures = {
        figure["stem"]: plotting.curves_figure(
            records,
            variants={name: labels[name] for name in figure["variants"]},
            title=figure["title"],
            palette=figure["palette"],
            authors=authors,
            authors_label=called,
            **common,
        )
        for figure in shown["figures"]
        if finished & set(figure["variants"])
    }
    if finished:
        figures["final_accuracy"] = plotting.final_accuracy_figure(
            records, variants=labels, title="Final accuracy of every run", **common
        )
    return table, figures


def describe(
    settings: Experiment, records: Sequence[tracking.RunRecord], dataset: data.Dataset
) -> str:
    """Says what the runs have in common: data, tasks, protocol, sources, device."""
    evaluation = settings.evaluation
    tasks = _count(len({record.task for record in records}), "pair")
    images = len(dataset.train_labels) // len(dataset.superclass)
    return (
        f"{dataset.title}, {images} training images a class: "
        f"{'all classes' if evaluation.whole else tasks} × "
        f"{_count(evaluation.seeds, 'seed')} a variant, {evaluation.protocol} runs of "
        f"{_count(settings.training.epochs, 'epoch')}, "
        f"{_count(settings.sources.sources, 'source model')}, "
        f"{records[0].environment['device']}"
    )


def _learns_as_theirs(training: config.Training) -> bool:
    fields = (
        *("learning_rate", "batch_size", "momentum", "weight_decay", "schedule"),
        "freeze_stem",
    )
    theirs = config.Training()
    return all(getattr(training, name) == getattr(theirs, name) for name in fields)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
