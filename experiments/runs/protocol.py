"""Which tasks, which seeds, fresh or carried over: the plan of an experiment."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax

from experiments.cli.options import Pair
from jaxinit.signatures import PRNGKey

# The ten pairs of the validation half that the authors drew, in their order.
VALIDATION_PAIRS: tuple[Pair, ...] = (
    (10, 11), (10, 13), (10, 16), (10, 17), (10, 18),
    (11, 18), (12, 18), (13, 18), (15, 18), (16, 19),
)  # fmt: skip


def source_pairs(count: int, superclasses: int = 10) -> tuple[Pair, ...]:
    """Lists the first pairs of the clustering half (45 of its 10 superclasses in all).

    Ordered as a round-robin tournament: each run of five pairs holds every superclass once, so that
    any first n cover the half as evenly as n pairs can. The paper gives no order.

    Args:
        count: How many.
        superclasses: Size of the half; even.
    """
    others = list(range(1, superclasses))
    pairs: list[Pair] = []
    for turn in range(superclasses - 1):
        ring = [0, *others[turn:], *others[:turn]]
        for place in range(superclasses // 2):
            first, second = sorted((ring[place], ring[-1 - place]))
            pairs.append((first, second))
    return tuple(pairs[:count])


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
