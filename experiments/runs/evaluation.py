"""On which tasks ways of starting are compared, how often, and where that is recorded."""

import dataclasses
from typing import Literal

from experiments.cli.options import Count, Pair, PairOption, Settings, Several, check
from experiments.runs.protocol import VALIDATION_PAIRS


@dataclasses.dataclass(frozen=True)
class Evaluation(Settings):
    """On which tasks the initialisations are compared, and how."""

    # pairs of superclasses to compare on
    pairs: Several[PairOption] = VALIDATION_PAIRS
    # one task of all classes instead of the pairs
    whole: bool = False
    # runs of each variant on each pair
    seeds: Count = 5
    # fresh: every run starts from its initialiser; sequential: one network is trained on the pairs
    # one after the other, as in the authors' program
    protocol: Literal["fresh", "sequential"] = "fresh"
    # runs trained at once (1 a device on CPUs, else what memory holds, where not given)
    runs_at_once: Count | None = None
    # folder of the results
    output: str = "output/clusters"
    # train again what is recorded already
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(len(set(self.pairs)) == len(self.pairs), "--pairs names a pair twice: name each once")

    def tasks(self) -> tuple[Pair | None, ...]:
        """The pairs, or None for all classes."""
        return (None,) if self.whole else self.pairs
