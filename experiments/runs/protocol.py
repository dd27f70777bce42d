"""Which tasks, which seeds, fresh or carried over: the plan of an experiment."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax

from experiments.cli.options import Pair
from jaxinit.signatures import PRNGKey

PUBLISHED = 20  # superclasses, of CIFAR-100, of which the pairs of presets are


class PresetPairs(tuple[Pair, ...]):
    """Pairs of 20 superclasses that a preset names: elsewhere it means as many of the data's."""


class PresetCount(int):
    """A number that a preset names: it means as many as the data allow, where these are fewer."""


# The ten pairs of the validation half that the authors drew, in their order.
VALIDATION_PAIRS: tuple[Pair, ...] = PresetPairs((
    (10, 11), (10, 13), (10, 16), (10, 17), (10, 18),
    (11, 18), (12, 18), (13, 18), (15, 18), (16, 19),
))  # fmt: skip


def sources_half(superclasses: int) -> int:
    """How many superclasses, from 0, are the source models': half of them, rounded down."""
    return superclasses // 2


def source_pairs(count: int, superclasses: int = 10) -> tuple[Pair, ...]:
    """Lists the first pairs of the clustering half (45 of its 10 superclasses in all).

    Ordered as a round-robin tournament: each run of five pairs holds every superclass once, so that
    any first n cover the half as evenly as n pairs can. The paper gives no order.

    Args:
        count: How many at most.
        superclasses: Size of the half; where it is odd, one sits out each turn.
    """
    size = superclasses + superclasses % 2
    others = list(range(1, size))
    pairs: list[Pair] = []
    for turn in range(size - 1):
        ring = [0, *others[turn:], *others[:turn]]
        for place in range(size // 2):
            first, second = sorted((ring[place], ring[-1 - place]))
            if second < superclasses:
                pairs.append((first, second))
    return tuple(pairs[:count])


def comparison_pairs(count: int, superclasses: int) -> tuple[Pair, ...]:
    """Lists the first pairs of the other half, ordered as `source_pairs`.

    Args:
        count: How many at most.
        superclasses: Of the whole data set.
    """
    half = sources_half(superclasses)
    pairs = source_pairs(count, superclasses - half)
    return tuple((first + half, second + half) for first, second in pairs)


def preset_pairs(pairs: PresetPairs, superclasses: int) -> tuple[Pair, ...]:
    """What the pairs of a preset mean for a data set: as many, of the same half, at most all.

    Args:
        pairs: Of 20 superclasses.
        superclasses: Of the data set.
    """
    if superclasses == PUBLISHED:
        return pairs
    is_clustering = max(map(max, pairs)) < sources_half(PUBLISHED)
    if is_clustering:
        return source_pairs(len(pairs), sources_half(superclasses))
    return comparison_pairs(len(pairs), superclasses)


class Run(NamedTuple):
    """One training run: a variant of the question, on one task, with one seed."""

    variant: str
    pair: Pair | None  # None: the task of all classes
    seed: int


def plan(variants: Sequence[str], pairs: Sequence[Pair | None], seeds: int) -> tuple[Run, ...]:
    """Lists the runs of an experiment: seed by seed, pair by pair, all variants side by side.

    In this order whatever has finished when it is interrupted is a fair comparison.
    """
    return tuple(
        Run(variant, pair, seed)
        for seed, pair, variant in itertools.product(range(seeds), pairs, variants)
    )


class RunKeys(NamedTuple):
    """What a run draws from; none depends on the variant, so variants are paired."""

    network: PRNGKey  # the default start of all parameters
    initializer: PRNGKey  # what the initialiser under test draws
    training: PRNGKey  # order of the images, flips, angles


def run_keys(seed: int, pair: Pair | None) -> RunKeys:
    """Derives the keys of a run from its seed and its pair of superclasses, if it has one."""
    first, second = pair or (0, 0)  # which is no pair
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), first), second)
    return RunKeys(*jax.random.split(key, 3))
