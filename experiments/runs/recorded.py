"""Which runs are recorded already, and whether they are of the same making as those to come."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli.errors import UserError
from experiments.data import sets
from experiments.data.sets import Dataset
from experiments.data.tasks import task_name
from experiments.records import store, surroundings
from experiments.records.run_record import RunRecord
from experiments.runs.evaluation import Evaluation
from experiments.runs.protocol import Run
from experiments.runs.variants import Variant, sources_named
from experiments.training.hyperparameters import Training


class Recorded:
    """What is recorded of the runs of one experiment.

    Args:
        experiment: Its name.
        variants: Ways of starting, by their names.
        dataset: Images.
        settings: Of the training.
        evaluation: Tasks, seeds, protocol, output folder.
        models: Returns the checksums of the source models that are there, by their names.
    """

    def __init__(
        self,
        experiment: str,
        variants: Mapping[str, Variant],
        dataset: Dataset,
        settings: Training,
        evaluation: Evaluation,
        models: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self.experiment = experiment
        self.variants = variants
        self.dataset = dataset
        self.evaluation = evaluation
        self.settings = settings
        self.folder = Path(evaluation.output)
        self._models = models

    def training(self, variant: str) -> Training:
        """How a variant is trained."""
        return self.variants[variant].training or self.settings

    def identity(self, run: Run) -> str:
        """What makes it the same run as another, whatever it is called there."""
        return store.identity(self.settings_of(run.variant), task_name(run.pair), run.seed)

    def find(self, run: Run) -> RunRecord | None:
        """The record of a run; None where there is none, or it is to be trained again."""
        if self.evaluation.overwrite:
            return None
        return store.find(
            self.folder,
            self.experiment,
            run.variant,
            task_name(run.pair),
            run.seed,
            self.settings_of(run.variant),
        )

    def find_all(self, runs: Sequence[Run]) -> tuple[dict[Run, RunRecord | None], list[RunRecord]]:
        """Finds the records of runs, and says which of them have yet to be copied here.

        Those were recorded under another name, or in a folder beside if that is asked.
        """
        found = {run: self.find(run) for run in runs}
        taken: list[RunRecord] = []
        if self.evaluation.overwrite or None not in found.values():
            return found, taken
        theirs = store.by_identity(self.folder, beside=self.evaluation.take_over)
        for run in (run for run, record in found.items() if record is None):
            record = theirs.get(self.identity(run))
            if record is not None and self._difference(run, record, surroundings.source()) is None:
                own = dataclasses.replace(record, experiment=self.experiment, variant=run.variant)
                found[run] = own
                taken.append(own)
        return found, taken

    def settings_of(self, variant: str) -> dict[str, Any]:
        """What is recorded of all that decides a variant's numbers."""
        settings: dict[str, Any] = {
            **sets.describe_data(self.dataset),
            **self.training(variant).described(),
            "protocol": self.evaluation.protocol,
            "initializer": self.variants[variant].settings,
        }
        if self.evaluation.protocol == "sequential":
            settings["pairs"] = [list(pair) for pair in self.evaluation.pairs]
        return settings

    def _sources(self, variant: str) -> str | None:
        """Identifies the source models that a variant is made of; None where they are not there."""
        names = sorted(sources_named(self.variants[variant].settings))
        known = self._models() if names and self._models else {}
        if not names or not known.keys() >= set(names):
            return None
        text = "".join(f"{name} {known[name]}\n" for name in names)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def made(self, variant: str) -> dict[str, str]:
        """What is recorded of the source models that a variant is made of."""
        found = self._sources(variant)
        return {} if found is None else {"sources": found}

    def check_alike(self, records: Mapping[Run, RunRecord], *, is_waiting: bool) -> None:
        """Makes sure that what is recorded and what is to be trained are of the same making.

        Args:
            records: What is recorded.
            is_waiting: Whether anything is to be trained.

        Raises:
            UserError: They are not. What was recorded before this was said counts as the same.
        """
        source = surroundings.source() if is_waiting else None
        for run, record in records.items():
            source = source or record.environment.get("source")
            if difference := self._difference(run, record, source):
                raise UserError(f"{self.folder}/runs/{store.name_of(record)} {difference}")

    def _difference(self, run: Run, record: RunRecord, source: str | None) -> str | None:
        """Says in what a run was made otherwise than others, and what to do; None if in nothing.

        Args:
            run: Any.
            record: Its own.
            source: Of the program that made the others, or would now; None if that is unknown.
        """
        made, remedy = record.environment, "use another --output, or --overwrite"
        models = self._sources(run.variant)
        if None not in (models, made.get("sources")) and models != made["sources"]:
            return f"started from other source models than are there now: {remedy}"
        if source == made.get("source", source) or self.evaluation.any_revision:
            return None
        return (
            f"was recorded by revision {made.get('revision')} of this program (source "
            f"{made['source']}), and not by that of source {source}: go back to it, {remedy}, or "
            "say --any-revision to mix them"
        )
