"""Experiments 7 and 8: whole filters, aligned over the source models and averaged (figure 6).

On the custom ResNet-18, whose first stage has no residuals, so that its channels can be permuted.
"""

import dataclasses
import functools
import sys
from typing import Annotated, Any

from annotated_types import Ge, Le

from experiments.cli.options import Several, check
from experiments.records import published
from experiments.runs.protocol import PresetCount
from experiments.runs.sources import Sources
from experiments.runs.variants import Variant
from experiments.study import conduct, presets, starts
from experiments.study.entry import Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Figure, Question
from experiments.training.hyperparameters import Training
from jaxinit import alignment, kernels, layers
from jaxinit.layers import Network
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey


@dataclasses.dataclass(frozen=True)
class Alignment(Experiment):
    """What `experiments.aligned_filters` compares."""

    # convolutions that are aligned: the first so many, of the 5 without residuals
    layers: Several[Annotated[int, Ge(1), Le(5)]] = (1, 2, 4)
    # match filters optimally instead of greedily, as the authors do
    optimal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.training.network == "custom",
            f"--network {self.training.network} has residuals in its first stage, whose channels "
            "cannot be aligned layer by layer: say custom",
        )


def _custom(shared: dict[str, Any], sources: int) -> Alignment:
    """Sets the network whose channels can be permuted, and the number of source models."""
    training = shared.get("training", Training())
    models = shared.get("sources", Sources())
    own = {
        "training": dataclasses.replace(training, network="custom"),
        "sources": dataclasses.replace(models, sources=PresetCount(sources)),
    }
    return Alignment(**shared | own)


PRESETS = {
    "quick": _custom(presets.quick("aligned_filters"), 2),
    "reduced": _custom(presets.reduced("aligned_filters"), 6),
    "paper": _custom(presets.paper("aligned_filters"), 6),
}


def ask(settings: Alignment, made_of: Ingredients) -> Question:
    """Lists random initialisation and a variant a number of layers."""

    @functools.cache
    def means() -> dict[str, Any]:
        models = [source.load() for source in made_of.sources()]
        symmetry = alignment.resnet18(residual_first_stage=False)
        deepest = max(settings.layers)
        return alignment.align_layers(models, symmetry, deepest, optimal=settings.optimal)[1]

    variants = [starts.random()]
    authors: dict[str, str | None] = {"random": published.CUSTOM_RANDOM}
    for count in settings.layers:
        how = "optimal" if settings.optimal else "greedy"
        described: dict[str, Any] = {"kind": "aligned", "layers": count, "matching": how}
        described["sources"] = list(made_of.names())
        variants.append(
            Variant(
                f"aligned-{count}" + ("-optimal" if settings.optimal else ""),
                f"Aligned, {count} layer{'s' if count > 1 else ''}",
                lambda count=count: _first(means(), count),
                described,
            )
        )
        if not settings.optimal:
            authors[variants[-1].name] = published.for_alignment(
                count, models=settings.sources.sources
            )
    shown = tuple(variant.name for variant in variants)
    return Question(variants, [Figure("figure6", "Aligned filters", shown)], authors)


def _first(means: dict[str, Any], count: int) -> ParamsInitializer:
    """Fills the first so many layers with the means of their groups."""

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key
        known = layers.of(params, network)
        return kernels.put(params, {known[name]: means[name] for name in list(means)[:count]})

    return init


ENTRY = conduct.entry(
    "aligned_filters",
    __doc__,
    PRESETS,
    ask,
    varies="number of aligned layers, of the custom ResNet-18",
    number=7,
    sections=(Section("aligned filters", ("figure6", "final_accuracy"), 6),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
