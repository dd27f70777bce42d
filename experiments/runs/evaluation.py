"""On which tasks ways of starting are compared, how often, and where that is recorded."""

import dataclasses
from typing import Literal

from experiments.cli.options import (
    Pair,
    PairOption,
    PathText,
    RunsAtOnce,
    Seeds,
    Settings,
    Several,
    check,
)
from experiments.data import sets
from experiments.data.sets import Dataset
from experiments.runs import protocol
from experiments.runs.protocol import VALIDATION_PAIRS, PresetPairs


@dataclasses.dataclass(frozen=True)
class Evaluation(Settings):
    """On which tasks the initialisations are compared, and how."""

    # pairs of superclasses to compare on
    pairs: Several[PairOption] = VALIDATION_PAIRS
    # one task of all classes instead of the pairs
    whole: bool = False
    # compare on classes that source models are trained on, too
    shared_classes: bool = False
    # runs of each variant on each pair
    seeds: Seeds = 5
    # fresh: every run starts from its initialiser; sequential: one network is trained on the pairs
    # one after the other, as in the authors' program
    protocol: Literal["fresh", "sequential"] = "fresh"
    # runs trained at once (1 a device on CPUs, else what memory holds, where not given)
    runs_at_once: RunsAtOnce | None = None
    # folder of the results
    output: PathText = "output/clusters"
    # train again what is recorded already
    overwrite: bool = False
    # take over what experiments in the folders beside the output have recorded of the same runs,
    # rather than train it again
    take_over: bool = False
    # go on with runs that another revision of this program has recorded
    any_revision: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            not self.whole or isinstance(self.pairs, PresetPairs),
            "--pairs does not go with one task of all classes: leave it out, or say --no-whole",
        )

    def tasks(self) -> tuple[Pair | None, ...]:
        """The pairs, or None for all classes."""
        return (None,) if self.whole else self.pairs

    def fitted(self, dataset: Dataset) -> "Evaluation":
        """The same on a data set: pairs that a preset names become pairs of its own.

        Raises:
            UserError: It has too few superclasses, or lacks one of those given.
        """
        count, called = sets.superclass_count(dataset), sets.called(dataset)
        if self.whole or not isinstance(self.pairs, PresetPairs):
            return self
        pairs = protocol.preset_pairs(self.pairs, count)
        check(
            bool(pairs),
            f"{dataset.title} has {len(dataset.superclass)} classes in {count} {called}, too few "
            "to compare on pairs of half of them: say --whole for one task of all classes",
        )
        return dataclasses.replace(self, pairs=pairs)
