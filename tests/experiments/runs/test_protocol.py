"""The plan of an experiment, its keys, and the pairs."""

import itertools

import jax
import numpy as np

from experiments.runs import protocol


def test_validation_pairs_are_the_authors():
    assert len(protocol.VALIDATION_PAIRS) == 10
    assert protocol.VALIDATION_PAIRS[0] == (10, 11)
    assert protocol.VALIDATION_PAIRS[-1] == (16, 19)
    assert all(10 <= a < b <= 19 for a, b in protocol.VALIDATION_PAIRS)


def test_source_pairs_are_all_45_once():
    pairs = protocol.source_pairs(45)
    assert set(pairs) == set(itertools.combinations(range(10), 2))
    assert len(pairs) == 45


def test_any_five_source_pairs_in_turn_hold_every_superclass_once():
    pairs = protocol.source_pairs(45)
    for turn in range(9):
        held = [s for pair in pairs[5 * turn : 5 * turn + 5] for s in pair]
        assert sorted(held) == list(range(10))
    assert protocol.source_pairs(4) == pairs[:4]


def test_plan_puts_variants_side_by_side():
    runs = protocol.plan(["a", "b"], [(10, 11), (10, 13)], seeds=2)
    assert len(runs) == 8
    assert runs[0] == ("a", (10, 11), 0)
    assert runs[1] == ("b", (10, 11), 0)
    assert runs[4].seed == 1


def test_keys_differ_between_seeds_pairs_and_purposes_and_are_the_same_again():
    def bits(seed, pair):
        return [jax.random.key_data(k).tolist() for k in protocol.run_keys(seed, pair)]

    made = [bits(0, (10, 11)), bits(1, (10, 11)), bits(0, (10, 13)), bits(0, (11, 13))]
    flat = [tuple(k) for keys in made for k in keys]
    assert len(set(flat)) == 12
    assert bits(0, (10, 11)) == made[0]


def test_keys_are_fixed_for_good():
    """Recorded runs can be made again only as long as the streams stay what they are."""
    keys = protocol.run_keys(0, (10, 11))
    assert keys._fields == ("network", "initializer", "training")
    assert [np.asarray(jax.random.key_data(key)).tolist() for key in keys] == [
        [4063819161, 2162812609],
        [3102213760, 2328231252],
        [2262166237, 3697576286],
    ]
