"""Recipes: the first layer of one start on the others of another, each at its norm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from experiments import recipes
from experiments.cli.errors import UserError
from experiments.recipes import Recipes
from experiments.records import summaries
from experiments.runs.evaluation import Evaluation
from experiments.runs.variants import Variant
from experiments.training.hyperparameters import Training
from jaxinit import banks, initializers, kernels
from tests import small
from tests.experiments.small import run
from tests.experiments.test_ablations import NoModels, assert_parallel, drawn, norm
from tests.experiments.test_sweep import conditions

USUAL = Recipes(
    stems=("random", "gabor"),
    stem_scales=(12.0,),
    rates=(1.0, 3.0),
    bodies=("random", "clustered"),
    body_scales=(0.35,),
)


def ask(**changes):
    return recipes.ask(dataclasses.replace(USUAL, **changes), NoModels())


def test_a_recipe_is_its_stem_on_its_body_at_their_norms():
    params = NoModels().params
    variants = {v.name: v for v in ask(clusters=3).variants}
    assert len(variants) == 1 + 2 * 2 * 2
    random = variants["random-x12.random-x0.35.rate-0.01"]
    mixed = variants["gabor-1-x12.euclidean-k3-x0.35.rate-0.03"]
    own, made = drawn(random, params), drawn(mixed, params)
    for tree in (own, made):
        for layer in small.layer_names(params):
            scale = 12 if layer == "conv1" else 0.35
            assert norm(tree, layer) == pytest.approx(scale * norm(params, layer), rel=1e-5)
    for layer in small.layer_names(params):
        assert_parallel(own, params, layer)
    # One slice for all of a Gabor filter's inputs, and the bank's three in the other layers.
    gabor = np.asarray(made["conv1"]["kernel"])
    np.testing.assert_array_equal(gabor, np.broadcast_to(gabor[:, :, :1], gabor.shape))
    slices = np.asarray(kernels.to_slices(small.get_kernel(made, "layer1_0/conv1")))
    assert len(np.unique(slices.round(5), axis=0)) == 3
    assert mixed.training is not None
    assert mixed.training.learning_rate == pytest.approx(0.03)


class OneModel(NoModels):
    """With a source model of other filters."""

    def pretrained(self):
        start = initializers.pretrained(jax.tree.map(lambda leaf: jnp.flip(leaf) + 1, self.params))
        return Variant("pretrained", "pretrained", lambda: start, {"kind": "pretrained"})


def test_a_source_model_at_other_norms_keeps_its_filters_and_all_else():
    made_of = OneModel()
    both = dataclasses.replace(USUAL, stems=("pretrained",), bodies=("pretrained",), rates=(1.0,))
    (_, variant) = recipes.ask(both, made_of).variants
    assert variant.name == "pretrained-x12.pretrained-x0.35.rate-0.01"
    source, made = drawn(made_of.pretrained(), made_of.params), drawn(variant, made_of.params)
    for layer in small.layer_names(source):
        assert_parallel(made, source, layer)
        scale = 12 if layer == "conv1" else 0.35
        assert norm(made, layer) == pytest.approx(scale * norm(made_of.params, layer), rel=1e-5)
    np.testing.assert_array_equal(made["bn1"]["scale"], source["bn1"]["scale"])


def test_a_first_layer_fitted_on_images_meets_the_others():
    question = ask(stems=("patch-whitening",), bodies=("smooth",), rates=(1.0,))
    (_, variant), params = question.variants, NoModels().params
    images = np.random.default_rng(0).standard_normal((40, 16, 16, 3), np.float32)
    assert variant.of_images == variant.settings["stem"]["images"]
    made = jax.jit(lambda key, images: variant.make()(images)(key, params))(
        jax.random.key(0), images
    )
    kernel = np.asarray(made["conv1"]["kernel"])
    np.testing.assert_array_equal(kernel[..., 0], -kernel[..., 1])
    for layer in small.layer_names(params):
        scale = 12 if layer == "conv1" else 0.35
        assert norm(made, layer) == pytest.approx(scale * norm(params, layer), rel=1e-5)


@pytest.mark.parametrize("bank", banks.available())
def test_a_bank_that_ships_fills_all_behind_the_first_layer(bank):
    """Also one without filters of the first layer's size."""
    params = NoModels().params
    question = ask(stems=("gabor",), bodies=(bank,), body_scales=(1.0,), rates=(1.0,))
    made = drawn(question.variants[1], params)
    for layer in small.layer_names(params)[1:]:
        own = np.asarray(kernels.to_slices(small.get_kernel(made, layer)), np.float64)
        there = np.concatenate(
            [
                np.asarray(filters, np.float64).reshape(-1, own.shape[-1])
                for filters in banks.named(bank).filters.values()
                if filters.shape[-1] == own.shape[-1]
            ]
        )
        own, there = (rows / np.linalg.norm(rows, axis=1, keepdims=True)
                      for rows in (own[np.any(own, 1)], there[np.any(there, 1)]))  # fmt: skip
        assert np.abs(own @ there.T).max(axis=1).min() > 1 - 1e-5


def test_a_bank_that_does_not_fit_the_network_is_refused():
    class Wide(NoModels):
        def __init__(self):
            super().__init__()
            kernels = {"conv1": (3, 3, 3, 8), "conv2": (5, 5, 8, 8)}
            self.params = {name: {"kernel": jnp.ones(shape)} for name, shape in kernels.items()}
            self.network = jaxinit.declare(self.params, list(kernels))

    with pytest.raises(UserError, match="no filters of 5×5, as conv2 has: take another"):
        recipes.ask(dataclasses.replace(USUAL, bodies=("cifar10-resnets",)), Wide())


def parsed(**texts):
    return {name: tuple(map(recipes.parse_recipe, given)) for name, given in texts.items()}


def test_recipes_given_one_by_one_are_compared_as_one_family():
    question = ask(
        **parsed(
            only=["random,12,random,.35,.3", "gabor,12,random,1,1", "smooth,4,clustered,0.35,1"],
            against=["random,1,random,1,1", "random,12,random,0.35,0.3"],
        )
    )
    tuned, gabor = "random-x12.random-x0.35.rate-0.003", "gabor-1-x12.random-x1.rate-0.01"
    smooth = "smooth-1-x4.euclidean-k10-x0.35.rate-0.01"
    assert [v.name for v in question.variants] == ["random", tuned, gabor, smooth]
    (family,) = question.families
    assert [row[1:] for row in family.contrasts] == [
        (name, other) for name in (gabor, smooth) for other in ("random", tuned)
    ]
    again = [str(one) for one in parsed(only=["gabor,12,random,.35,1"])["only"]]
    assert again == ["gabor,12,random,0.35,1"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--only", "gabor,12,random,1"], "'gabor,12,random,1' is no recipe"),
        (["--only", "gabor,12,random,nan,1"], "--body-scale nan must be positive and finite"),
        (["--only", ""], "'' is no recipe"),
        (["--only"], "--only names none: name one or more"),
        (["--only", "gabor,twelve,random,1,1"], "is no recipe"),
        (["--only", "gabour,12,random,1,1"], "gabour is not known"),
        (["--only", "gabor,12,whole,1,1"], "whole is not known"),
        (["--only", "random,1,random,1,1", "--against", "random,1,random,1,1"], "nothing is left"),
        (["--only", "gabor,12,random,1,1", "gabor,12.0,random,1,1"], "twice"),
        (["--against", "gabor,12,random,1,1"], "give --only as well"),
        (["--only", "gabor,12,random,1,1", "--against", "gabor,1,random,1,1"], "does not run"),
        (["--only", "gabor,12,random,1,1", "--best-of", "here"], "give one of them"),
    ],
)
def test_recipes_that_cannot_be_are_refused(given, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        recipes.main(given)
    assert ended.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_settings_tell_recipes_apart():
    variants = ask().variants
    seen = {(str(v.settings), v.training and v.training.learning_rate) for v in variants}
    assert len(seen) == len(variants)


def chosen(folder, curves, epochs):
    """What is chosen, for so many epochs, of recipes with these curves; others are flat at 5."""
    variants = ask().variants
    length = max(map(len, curves.values()))
    records = [
        run(
            variant.name,
            curves.get(variant.name, [5.0] * length),
            task="pair-2-4",
            experiment="recipes",
            settings=conditions(variant),
        )
        for variant in variants
    ]
    summaries.write_summary(records, folder)
    return ask(
        best_of=str(folder),
        evaluation=Evaluation(output="elsewhere"),
        training=Training(epochs=epochs),
    )


def test_the_best_recipe_meets_the_best_random_start(tmp_path):
    best = "gabor-1-x12.euclidean-k10-x0.35.rate-0.01"
    best_random = "random-x12.random-x0.35.rate-0.03"
    question = chosen(tmp_path, {best: [70.0] * 3, best_random: [60.0] * 3}, epochs=15)
    assert [v.name for v in question.variants] == ["random", best_random, best]
    contrasts = [row[1:] for row in question.families[0].contrasts]
    assert contrasts == [("random", best_random), (best, best_random)]


@pytest.mark.parametrize("epochs", [3, 6, 9])
def test_the_best_is_chosen_after_as_many_epochs(tmp_path, epochs):
    early, late = "gabor-1-x12.random-x0.35.rate-0.01", "random-x12.random-x0.35.rate-0.01"
    curves = {
        early: [30.0, 40.0, 50.0, 51.0, 52.0, 53.0],
        late: [10.0, 20.0, 30.0, 60.0, 70.0, 80.0],
    }
    question = chosen(tmp_path, curves, epochs)
    assert question.variants[-1].name == (early if epochs == 3 else late)


def test_random_filters_at_their_own_norms_are_the_start_as_it_is():
    own = {"stem_scales": (1.0,), "body_scales": (1.0, 0.35), "bodies": ("random",)}
    names = [v.name for v in ask(stems=("random",), rates=(1.0,), **own).variants]
    assert names == ["random", "random-x1.random-x0.35.rate-0.01"]


def test_the_same_key_draws_the_same_recipe_under_jit():
    params = NoModels().params
    variant = ask().variants[-1]
    eager, jitted = drawn(variant, params), jax.jit(variant.make())(jax.random.key(0), params)
    for layer in small.layer_names(params):
        one, other = (small.get_kernel(tree, layer) for tree in (eager, jitted))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
