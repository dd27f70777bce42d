"""The controls' starts: what each is made of, and what it is compared with."""

import jax
import numpy as np
import pytest

from experiments import controls
from experiments.ingredients import Ingredients
from experiments.runner import Variant
from jaxinit import filters, initializers
from tests import small

pytestmark = pytest.mark.usefixtures("quick_compilation")


class NoModels(Ingredients):
    """Clusters and models that are none: every kernel filled with one number."""

    def __init__(self):
        self.params = small.few_layers()
        self.live = {}

    def filled(self, name, value):
        fill = initializers.fill_layers(lambda key, _, kernel: 0 * kernel + value)
        return Variant(name, name, lambda: fill, {"kind": name, "sources": []})

    def pretrained(self):
        return self.filled("pretrained", 0.5)

    def whole_filters(self, layers=1):
        fill = initializers.per_layer(jax.nn.initializers.constant(0.3), layers)
        return Variant("whole-1", "whole-1", lambda: fill, {"kind": "whole", "sources": []})

    def bootstrap(self):
        return self.filled("bootstrap", 0.7)

    def clustered(
        self, distance, k, *, models=None, layers=17, representative=None, live_only=False
    ):
        return self.filled(f"{distance}-k{k}{'-live' if live_only else ''}", 0.1)

    def bank(self, distance, k, **options):
        return small.bank_for(self.params)


def drawn(variant, params):
    return variant.make()(jax.random.key(0), params)


def norm(tree, name="conv1"):
    return float(np.linalg.norm(filters.get_kernel(tree, name)))


def test_each_control_shares_what_it_says():
    made_of = NoModels()
    params = made_of.params
    variants = {v.name: v for v in controls.ask(controls.Controls(), made_of).variants}
    trees = {name: drawn(variant, params) for name, variant in variants.items()}
    short = norm(trees["euclidean-k3"])
    for name in ("random-at-euclidean-k3", "bootstrap-at-euclidean-k3",
                 "pretrained-at-euclidean-k3"):  # fmt: skip
        assert norm(trees[name]) == pytest.approx(short, rel=1e-5)
    assert norm(trees["euclidean-k3-at-random"]) == pytest.approx(norm(params), rel=1e-5)
    assert norm(trees["gabor-1-at-random"]) == pytest.approx(norm(params), rel=1e-5)
    last = "layer2_0/conv2"
    same = filters.get_kernel(trees["gabor-1-at-random"], last)
    np.testing.assert_allclose(same, filters.get_kernel(params, last), rtol=1e-6)
    long = trees["random-at-gabor-1"]["conv1"]["kernel"] / norm(trees["random-at-gabor-1"])
    np.testing.assert_allclose(long, params["conv1"]["kernel"] / norm(params), atol=1e-6)
    assert norm(trees["random-at-gabor-1"]) != pytest.approx(norm(params), rel=0.05)
    assert norm(trees["euclidean-k3-gaussian"]) != pytest.approx(short, rel=0.05)
    for name in ("random-frozen", "gabor-1-frozen"):
        training = variants[name].training
        assert training is not None
        assert training.freeze_stem
    # All that decides a run is in its settings: no two variants can be taken for one another.
    seen = [(str(v.settings), str(v.training)) for v in variants.values()]
    assert len(set(seen)) == len(seen)


def test_all_that_was_asked_for_is_there_and_every_contrast_has_both_sides():
    question = controls.ask(controls.Controls(), NoModels())
    names = [variant.name for variant in question.variants]
    assert len(names) == len(set(names)) == 28
    for distance in ("euclidean", "fourier"):
        for k in (2, 3, 10):
            assert f"{distance}-k{k}" in names
        for control in ("-at-random", "-shuffled", "-gaussian", "-live"):
            assert f"{distance}-k3{control}" in names
    assert len(question.contrasts) == 16
    for _, variant, other in question.contrasts:
        assert {variant, other} <= set(names)
    for figure in question.figures:
        assert set(figure.variants) <= set(names)
        assert figure.variants[0] == "random"


def test_the_preset_for_two_cores_asks_the_main_questions():
    reduced = controls.PRESETS["reduced"]
    names = [variant.name for variant in controls.ask(reduced, NoModels()).variants]
    assert names == [
        "random", "euclidean-k3", "fourier-k3", "random-at-euclidean-k3", "gabor-1", "pretrained",
    ]  # fmt: skip
    assert (len(reduced.evaluation.pairs), reduced.evaluation.seeds) == (10, 1)
    assert reduced.training == controls.PRESETS["paper"].training
