"""The controls' starts: what each is made of, and what it is compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ablations
from experiments.ablations import Ablations
from experiments.runs.variants import Variant
from experiments.study.ingredients import Ingredients
from jaxinit import initializers, layers
from tests import small
from tests.experiments.small import make_dataset

LAST = "layer2_0/conv2"


class NoModels(Ingredients):
    """A bank and source models that nobody trained."""

    def __init__(self):
        self.params = small.few_layers()
        self.evaluated = make_dataset(1, 1, superclasses=20)
        self.network = layers.of(self.params, None)
        self.live = {LAST: (slice(1, 2), slice(1, 2))}

    def pretrained(self):
        start = initializers.scaled(0.5)
        return Variant("pretrained", "pretrained", lambda: start, {"sources": []})

    def whole_filters(self, layers=1):
        start = initializers.whole_filters([jax.tree.map(jnp.flip, self.params)], layers)
        return Variant("whole-1", "whole-1", lambda: start, {"kind": "whole", "sources": []})

    def bootstrap(self):
        start = initializers.clustered(self.bank("euclidean", 1))
        return Variant("bootstrap", "bootstrap", lambda: start, {"kind": "boot", "sources": []})

    def clustered(
        self, distance, k, *, models=None, layers=None, representative=None, live_only=False
    ):
        name = f"{distance}-k{k}{'-live' if live_only else ''}"
        start = initializers.clustered(self.bank(distance, k))
        return Variant(name, name, lambda: start, {"kind": name, "sources": []})

    def bank(self, distance, k, **options):
        return small.bank_for(self.params)


def drawn(variant, params):
    return variant.make()(jax.random.key(0), params)


def live(tree, name):
    """The taps that meet data, of a layer."""
    own = NoModels().live.get(name, (slice(None), slice(None)))
    return np.asarray(small.get_kernel(tree, name))[own]


def norm(tree, name="conv1"):
    return float(np.linalg.norm(live(tree, name)))


def assert_parallel(one, other, name):
    """Both have the same filters but for their norm."""
    np.testing.assert_allclose(
        live(one, name) / norm(one, name), live(other, name) / norm(other, name), atol=1e-6
    )


def test_each_control_shares_what_it_says_and_draws_what_its_base_draws():
    made_of = NoModels()
    params = made_of.params
    variants = {v.name: v for v in ablations.ask(Ablations(), made_of).variants}
    trees = {name: drawn(variant, params) for name, variant in variants.items()}
    for filters_of, norms_of in (
        ("random", "euclidean-k3"),
        ("bootstrap", "euclidean-k3"),
        ("pretrained", "euclidean-k3"),
        ("euclidean-k3", "random"),
        ("fourier-k3", "random"),
        ("gabor-1", "random"),
        ("random", "gabor-1"),
        ("whole-1", "gabor-1"),
    ):
        both = trees[f"{filters_of}-at-{norms_of}"]
        for name in small.layer_names(params):
            assert norm(both, name) == pytest.approx(norm(trees[norms_of], name), rel=1e-5)
            assert_parallel(both, trees[filters_of], name)
    assert norm(trees["random-at-gabor-1"]) != pytest.approx(norm(params), rel=0.05)
    # Shuffled: the same clusters drawn, their values in other places.
    base, mixed = (trees[name] for name in ("euclidean-k3", "euclidean-k3-shuffled"))
    for name in small.layer_names(params):
        assert norm(mixed, name) == pytest.approx(norm(base, name), rel=1e-5)
    assert not np.allclose(live(base, "conv1"), live(mixed, "conv1"))
    np.testing.assert_array_equal(live(base, LAST), live(mixed, LAST))  # one tap has one place
    assert not np.allclose(live(trees["euclidean-k3-gaussian"], "conv1"), live(base, "conv1"))
    for name in ("random-frozen", "gabor-1-frozen"):
        training = variants[name].training
        assert training is not None
        assert training.freeze_stem


def test_all_that_was_asked_for_is_there_and_every_contrast_has_both_sides():
    question = ablations.ask(Ablations(), NoModels())
    names = [variant.name for variant in question.variants]
    assert len(names) == len(set(names)) == 28
    for distance in ("euclidean", "fourier"):
        for k in (2, 3, 10):
            assert f"{distance}-k{k}" in names
        for control in ("-at-random", "-shuffled", "-gaussian", "-live"):
            assert f"{distance}-k3{control}" in names
    families = {family.stem: family.contrasts for family in question.families}
    main = [variant for _, variant, _ in families["main"]]
    assert main == ["euclidean-k3", "fourier-k3", "random-at-euclidean-k3", "gabor-1", "pretrained"]
    assert len(families["further"]) == 28 - 1 - 5
    assert len(families["causes"]) == 17
    for _, variant, other in (row for rows in families.values() for row in rows):
        assert {variant, other} <= set(names)
    for figure in question.figures:
        assert set(figure.variants) <= set(names)
        assert figure.variants[0] == "random"


def test_the_preset_for_two_cores_asks_the_main_questions():
    reduced = ablations.PRESETS["reduced"]
    names = [variant.name for variant in ablations.ask(reduced, NoModels()).variants]
    assert names == [
        "random", "euclidean-k3", "fourier-k3", "random-at-euclidean-k3", "gabor-1", "pretrained",
    ]  # fmt: skip
    assert (len(reduced.evaluation.pairs), reduced.evaluation.seeds) == (10, 1)
    assert reduced.training == ablations.PRESETS["paper"].training


def test_what_was_not_asked_for_counts_as_a_comparison():
    """Families are the plan's, so that p values are corrected for it, whatever was run."""
    whole, part = (
        ablations.ask(settings, NoModels()).families
        for settings in (
            Ablations(),
            Ablations(starts=("random", "gabor"), controlled_distances=("fourier",), clusters=(3,)),
        )
    )
    assert [family.stem for family in part] == ["main", "further", "causes"]
    for ours, all_of_them in zip(part, whole, strict=True):
        assert sorted(ours.contrasts) == sorted(all_of_them.contrasts)
