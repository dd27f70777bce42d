"""From a question to its files: what every experiment does with the variants that it names."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli import interruption
from experiments.cli.options import check
from experiments.cli.progress import Progress
from experiments.data import sets
from experiments.data.sets import Dataset
from experiments.data.tasks import check_pairs
from experiments.records import run_record, store, summaries
from experiments.records.run_record import RunRecord
from experiments.records.shown import Shown
from experiments.runs import last_batches
from experiments.runs.runner import Runner
from experiments.runs.variants import sources_named
from experiments.study import authors
from experiments.study.entry import Entry, Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Ask, Question, all_against_baseline


def entry(
    name: str,
    about: str | None,
    presets: Mapping[str, Any],
    ask: Ask,
    *,
    varies: str,
    number: int | None = None,
    sections: tuple[Section, ...] = (),
) -> Entry:
    """Makes the entry of a question that compares variants.

    Args:
        name: Of the module, of its records and of its output.
        about: The module's docstring.
        presets: Its settings by name; the first is the default.
        ask: Makes the question of the settings.
        varies: What it varies, for the table of the documentation.
        number: Of the paper's first experiment that it is; None where it is not in the paper.
        sections: What it shows in the report.
    """

    def planned(settings: Experiment, progress: Progress | None) -> Plan:
        return plan(name, settings, ask, progress)

    return Entry(name, about, varies, presets, planned, number, sections)


class Plan(NamedTuple):
    """An experiment that has yet to be run."""

    question: Question
    settings: Experiment
    dataset: Dataset
    made_of: Ingredients
    runner: Runner

    def work(self) -> dict[str, float]:
        """For all that is still to be trained, how many pixels it trains on."""
        runs = self.runner.work()
        from_sources = any(sources_named(v.settings) for v in self.question.variants)
        return {**runs, **self.made_of.work()} if runs and from_sources else runs

    def run(self) -> list[Path]:
        """Trains what is not recorded yet, writes summary, table and figures, prints the table.

        Returns:
            What was written, folders of single runs and of the banks included.
        """
        records = self.runner.run()
        written = present(self.question, self.settings, records, self.dataset)
        return [*written, self.runner.folder / "runs", self.made_of.folder]


# Starts that fit only networks whose images have as many channels as the source models'.
_WHOLE = {"pretrained", "whole_filters", "aligned"}


def _kinds(settings: Mapping[str, Any]) -> Iterator[str]:
    """The kinds of all starts that a start is made of."""
    yield settings.get("kind", "")
    for value in settings.values():
        if isinstance(value, Mapping):
            yield from _kinds(value)


def _nothing(settings: Any, made_of: Ingredients) -> Question:
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
    output = Path(settings.evaluation.output)
    store.check_writable(output)
    interruption.records_in(output)
    dataset = source_data = sets.load_data(settings.data)
    other = settings.sources.source_dataset
    if other is not None and other != settings.data.dataset:
        source_data = sets.load_data(dataclasses.replace(settings.data, dataset=other))
    settings = dataclasses.replace(
        settings,
        evaluation=settings.evaluation.fitted(dataset),
        sources=settings.sources.fitted(source_data),
    )
    if not settings.evaluation.whole:
        check_pairs(settings.evaluation.pairs, dataset)
    made_of = Ingredients(
        source_data,
        settings.training,
        settings.sources,
        settings.clustering,
        overwrite=settings.evaluation.overwrite,
        evaluated=dataset,
        progress=progress,
    )
    question = ask(settings, made_of)
    if any(sources_named(variant.settings) for variant in question.variants):
        made_of.check_apart(settings.evaluation)
    theirs, ours = (one.train_images.shape[-1] for one in (source_data, dataset))
    whole = [v.label for v in question.variants if _WHOLE & set(_kinds(v.settings))]
    check(
        theirs == ours or not whole,
        f"{'; '.join(whole[:1])} takes whole filters of source models, of {theirs} channels, where "
        f"the images have {ours}: leave it out, or give a --source-dataset of as many channels",
    )
    trained = (dataset, settings.training, settings.evaluation, progress)
    runner = Runner(experiment, question.variants, *trained, made_of.checksums)
    last_batches.tell(runner.tasks.values(), settings.training.batch_size)
    return Plan(question, settings, dataset, made_of, runner)


def present(
    question: Question,
    settings: Experiment,
    records: Sequence[RunRecord],
    dataset: Dataset,
) -> list[Path]:
    """Writes the summary, the results table and the figures; prints the table."""
    # Only here: Matplotlib takes long to import, and training begins without it.
    from experiments.reporting import presentation, style, tables

    folder = Path(settings.evaluation.output)
    shown = Shown(
        labels={variant.name: variant.label for variant in question.variants},
        figures=tuple(question.figures),
        authors=authors.configurations(question, settings, dataset),
        baseline=question.baseline,
        families=tuple(question.families or [all_against_baseline(question)]),
        subtitle=describe(settings, records, dataset),
    )
    table, drawn = presentation.draw(records, shown)
    text = table.markdown(aligned=True)
    written = [
        summaries.write_summary(records, folder, shown),
        tables.write_table(text, records, folder),
    ]
    for stem, figure in drawn.items():
        written += style.save(figure, folder, run_record.output_name(stem, records))
    print(text)
    return written


def describe(settings: Experiment, records: Sequence[RunRecord], dataset: Dataset) -> str:
    """Says what the runs have in common: data, tasks, protocol, source models if any, device."""
    evaluation = settings.evaluation
    tasks = _count(len({record.task for record in records}), "pair")
    images = sets.images_per_class(dataset.train_labels)
    named = set[str]().union(*(sources_named(r.settings.get("initializer", {})) for r in records))
    return (
        f"{dataset.title}, {images} training images a class: "
        f"{'all classes' if evaluation.whole else tasks} × "
        f"{_count(evaluation.seeds, 'seed')} a variant, {evaluation.protocol} runs of "
        f"{_count(settings.training.epochs, 'epoch')}, "
        f"{_count(len(named), 'source model') + ', ' if named else ''}"
        f"{records[0].environment['device']}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
