"""On which tasks ways of starting are compared, how often, and where that is recorded."""

import dataclasses

from experiments.cli.options import Pair, check, option
from experiments.runs.protocol import VALIDATION_PAIRS


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """On which tasks the initialisations are compared, and how."""

    pairs: tuple[Pair, ...] = option(VALIDATION_PAIRS, "pairs of superclasses to compare on")
    whole: bool = option(False, "one task of all classes instead of the pairs")
    seeds: int = option(5, "runs of each variant on each pair")
    protocol: str = option(
        "fresh",
        "fresh: every run starts from its initialiser; sequential: one network is trained on the "
        "pairs one after the other, as in the authors' program",
        choices=("fresh", "sequential"),
    )
    runs_at_once: int | None = option(
        None, "runs trained at once (1 a device on CPUs, else what memory holds, where not given)"
    )
    output: str = option("output/clusters", "folder of the results")
    overwrite: bool = option(False, "train again what is recorded already")

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"--seeds {self.seeds} is too small: say 1 or more")
        check(
            self.runs_at_once is None or self.runs_at_once >= 1,
            f"--runs-at-once {self.runs_at_once} is too small: say 1 or more",
        )
        check(len(set(self.pairs)) == len(self.pairs), "--pairs names a pair twice: name each once")

    def tasks(self) -> tuple[Pair | None, ...]:
        """The pairs, or None for all classes."""
        return (None,) if self.whole else self.pairs
