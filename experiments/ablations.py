"""Ablations: whether it is the filters that help, or their size, or how slowly the stem learns.

Each start beside others that share one property with it and lack the rest, on the same tasks with
the same seeds. `experiments.evidence` says what the runs settle.
"""

import dataclasses
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Literal

from experiments.cli.options import Count, Several, check
from experiments.records import published
from experiments.runs.evaluation import Evaluation
from experiments.runs.variants import Variant
from experiments.study import clustering, conduct, presets
from experiments.study.clustering import Clustering
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Family, Figure, Question
from experiments.study.starts import gabor, random
from experiments.training.hyperparameters import Training
from jaxinit import controls
from jaxinit.banks import FilterBank
from jaxinit.signatures import ParamsInitializer

Start = Literal[
    "random",
    "clustered",
    "random-at-norms",
    "at-default-norms",
    "shuffled",
    "gaussian",
    "bootstrap",
    "gabor",
    "random-at-gabor",
    "gabor-at-default",
    "frozen",
    "whole",
    "pretrained",
    "pretrained-scaled",
    "live",
]
STARTS: tuple[Start, ...] = typing.get_args(Start)

# What the plan names, whatever else is asked for.
_CLUSTERS = (2, 3, 10)
_DISTANCES = ("euclidean", "fourier")
_PLANNED = Clustering(distances=_DISTANCES)


@dataclasses.dataclass(frozen=True)
class Ablations(Experiment):
    """What `experiments.ablations` compares."""

    # ways of starting: random; clustered; random-at-norms (random, each layer at the norm of the
    # clustered); at-default-norms (clustered, each layer at the norm of random); shuffled
    # (clustered, the taps of each filter in another order); gaussian (of the clusters' mean and
    # covariance); bootstrap (real filters, at both norms); gabor (first layer); random-at-gabor
    # (its norm alone); gabor-at-default (its filters alone); frozen (random and Gabor first layers
    # that are not trained); whole (whole filters of the source models in the first layer, at both
    # norms); pretrained; pretrained-scaled (to the clustered norms); live (only taps that met data
    # are clustered)
    starts: Several[Start] = STARTS
    # numbers of clusters
    clusters: Several[Count] = _CLUSTERS
    # number of clusters that the controls are of
    controlled: Count = 3
    # distances whose clusters the controls are of
    controlled_distances: Several[clustering.DistanceName] = _DISTANCES

    def __post_init__(self) -> None:
        super().__post_init__()
        check("random" in self.starts, "--starts lacks random, which all are compared with")


_QUICK, _REDUCED = presets.quick("ablations"), presets.reduced("ablations")
PRESETS = {
    "quick": Ablations(
        starts=("random", "clustered", "random-at-norms", "gabor"),
        clusters=(3,),
        controlled_distances=("euclidean",),
        **_QUICK,
    ),
    "reduced": Ablations(
        starts=("random", "clustered", "random-at-norms", "gabor", "pretrained"),
        clusters=(3,),
        controlled_distances=("euclidean",),
        **_REDUCED
        | {
            "training": Training(),
            "evaluation": Evaluation(seeds=1, output="output/reduced/ablations"),
        },
    ),
    "paper": Ablations(**presets.paper("ablations")),
}


def ask(settings: Ablations, made_of: Ingredients) -> Question:
    """Lists the variants, and draws those that differ in one thing side by side."""
    chosen: dict[str, list[Variant]] = {
        name: _STARTS[name](settings, made_of) for name in STARTS if name in settings.starts
    }
    variants = {variant.name: variant for group in chosen.values() for variant in group}
    figures = [Figure("starts", "Ways of starting", _names(chosen, _PLAIN))]
    for stem, title, groups in (
        ("norms", "Filters or their norms", ("random-at-norms", "at-default-norms", "bootstrap")),
        ("shapes", "What clustered filters have", ("shuffled", "gaussian", "bootstrap", "live")),
        ("stems", "The first layer", _STEMS),
    ):
        if set(groups) & chosen.keys():
            shown = _names(chosen, ("random", "clustered", *groups) if stem != "stems" else groups)
            figures.append(Figure(stem, title, tuple(dict.fromkeys(("random", *shown)))))
    authors: dict[str, str | None] = {
        "random": published.RANDOM,
        "pretrained": published.PRETRAINED,
        "gabor-1": published.for_gabor(1),
    }
    families = _families(variants, settings, made_of)
    return Question(list(variants.values()), figures, authors, families=families)


def _families(
    variants: dict[str, Variant], settings: Ablations, made_of: Ingredients
) -> list[Family]:
    """The comparisons planned in `results/cifar100-controls`, those that have not run included."""
    planned = dataclasses.replace(
        settings, clusters=_CLUSTERS, controlled_distances=_DISTANCES, clustering=_PLANNED
    )
    groups = {name: make(planned, made_of) for name, make in _STARTS.items()}
    known = {variant.name: variant for group in groups.values() for variant in group} | variants
    bases = [made_of.clustered(distance, settings.controlled) for distance in _DISTANCES]
    main = [base.name for base in bases]
    main += [f"random-at-{main[0]}", "gabor-1", "pretrained"]

    def against_random(names: Sequence[str]) -> list[tuple[str, str, str]]:
        return [(known[name].label, name, "random") for name in names]

    further = [name for name in known if name not in {"random", *main}]
    causes = [row for row in _causes(bases) if known.keys() >= set(row[1:])]
    return [
        Family("main", "Against random", against_random(main)),
        Family("further", "Further starts against random", against_random(further)),
        Family("causes", "What it is due to", causes),
    ]


def _causes(bases: Sequence[Variant]) -> list[tuple[str, str, str]]:
    """Asks of each property whether it is what helps."""
    rows = []
    for base in bases:
        name, label = base.name, base.label
        rows += [
            (f"{label}: its filters, norms being equal", name, f"random-at-{name}"),
            (f"{label}: its norms, filters being equal", name, f"{name}-at-random"),
            (f"{label}: its arrangement of taps", name, f"{name}-shuffled"),
            (f"{label}: more than mean and covariance", name, f"{name}-gaussian"),
            (f"{label}: clusters or real filters, norms being equal", name, f"bootstrap-at-{name}"),
            (f"{label}: clusters of live taps alone", f"{name}-live", name),
            (f"Pretrained: its norms, those of: {label}", f"pretrained-at-{name}", "pretrained"),
        ]
    return [
        *rows,
        ("Gabor: its filters, norms being equal", "gabor-1", "random-at-gabor-1"),
        ("Gabor: its norm, filters being equal", "gabor-1", "gabor-1-at-random"),
        ("Learned or Gabor filters, norms being equal", "whole-1-at-gabor-1", "gabor-1"),
        ("Gabor: a first layer that is trained", "gabor-1", "gabor-1-frozen"),
        ("Random: a first layer that is trained", "random", "random-frozen"),
    ]


_STEMS = ("gabor", "random-at-gabor", "gabor-at-default", "frozen", "whole")
_PLAIN = ("random", "clustered", "random-at-norms", "gabor", "pretrained")


def _names(chosen: dict[str, list[Variant]], groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(variant.name for name in groups for variant in chosen.get(name, []))


def _clustered(settings: Ablations, made_of: Ingredients) -> list[Variant]:
    return [
        made_of.clustered(distance, k)
        for k in dict.fromkeys((*settings.clusters, settings.controlled))
        for distance in settings.clustering.distances
    ]


def _controlled(settings: Ablations, made_of: Ingredients) -> list[Variant]:
    """The clusters that the controls are of."""
    return [
        made_of.clustered(distance, settings.controlled)
        for distance in settings.controlled_distances
    ]


def _at_norms(filters: Variant, norms: Variant, made_of: Ingredients) -> Variant:
    """The filters of one start, each layer at the norm of another's."""
    return Variant(
        f"{filters.name}-at-{norms.name}",
        f"{filters.label}, at norms of: {norms.label}",
        lambda: controls.at_norms_of(filters.make(), norms.make(), live=made_of.live),
        {"kind": "at_norms", "filters": filters.settings, "norms": norms.settings},
    )


def _of_banks(
    kind: str, label: str, make: Callable[[FilterBank, Ingredients], ParamsInitializer]
) -> Callable[[Ablations, Ingredients], list[Variant]]:
    """Makes a start of the bank of each controlled distance."""

    def variant(settings: Ablations, made_of: Ingredients, distance: str) -> Variant:
        base = made_of.clustered(distance, settings.controlled)
        return Variant(
            f"{base.name}-{kind}",
            f"{base.label}, {label}",
            lambda: make(made_of.bank(distance, settings.controlled), made_of),
            {"kind": kind, "filters": base.settings},
        )

    def variants(settings: Ablations, made_of: Ingredients) -> list[Variant]:
        return [variant(settings, made_of, d) for d in settings.controlled_distances]

    return variants


def _bootstrap(settings: Ablations, made_of: Ingredients) -> list[Variant]:
    real, (clustered, *_) = made_of.bootstrap(), _controlled(settings, made_of)
    return [real, _at_norms(real, clustered, made_of)]


def _frozen(base: Variant, settings: Ablations) -> Variant:
    return dataclasses.replace(
        base,
        name=f"{base.name}-frozen",
        label=f"{base.label}, first layer not trained",
        training=dataclasses.replace(settings.training, freeze_stem=True),
    )


def _whole(settings: Ablations, made_of: Ingredients) -> list[Variant]:
    whole = made_of.whole_filters()
    return [whole, _at_norms(whole, gabor(1), made_of)]


def _pretrained_scaled(settings: Ablations, made_of: Ingredients) -> list[Variant]:
    return [_at_norms(made_of.pretrained(), _controlled(settings, made_of)[0], made_of)]


_STARTS: dict[str, Callable[[Ablations, Ingredients], list[Variant]]] = {
    "random": lambda settings, made_of: [random()],
    "clustered": _clustered,
    "random-at-norms": lambda settings, made_of: [
        _at_norms(random(), base, made_of) for base in _controlled(settings, made_of)
    ],
    "at-default-norms": lambda settings, made_of: [
        _at_norms(base, random(), made_of) for base in _controlled(settings, made_of)
    ],
    "shuffled": _of_banks(
        "shuffled",
        "taps shuffled",
        lambda bank, made_of: controls.shuffled(bank, live=made_of.live),
    ),
    "gaussian": _of_banks(
        "gaussian", "Gaussian of its moments", lambda bank, made_of: controls.gaussian(bank)
    ),
    "bootstrap": _bootstrap,
    "gabor": lambda settings, made_of: [gabor(1)],
    "random-at-gabor": lambda settings, made_of: [_at_norms(random(), gabor(1), made_of)],
    "gabor-at-default": lambda settings, made_of: [_at_norms(gabor(1), random(), made_of)],
    "frozen": lambda settings, made_of: [
        _frozen(random(), settings),
        _frozen(gabor(1), settings),
    ],
    "whole": _whole,
    "pretrained": lambda settings, made_of: [made_of.pretrained()],
    "pretrained-scaled": _pretrained_scaled,
    "live": lambda settings, made_of: [
        made_of.clustered(distance, settings.controlled, live_only=True)
        for distance in settings.controlled_distances
    ],
}


ENTRY = conduct.entry(
    "ablations",
    __doc__,
    PRESETS,
    ask,
    varies="starts that share one property with clustered filters: norms, moments, taps, stem",
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
