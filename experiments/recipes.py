"""Recipes: first layer × its norm × the other layers × their norm × learning rate.

Looks for a start that beats tuned random initialisation, on clustering tasks alone; `--best-of`
then runs the best recipe and the best random start on the tasks given with `--pairs`.
"""

import dataclasses
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from experiments.cli.errors import UserError
from experiments.cli.options import (
    Count,
    PathText,
    Positive,
    Settings,
    Several,
    check,
    one_of,
    written_as,
)
from experiments.runs.variants import Variant
from experiments.study import conduct, elsewhere, presets, starts, tuning
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.study.question import Family, Figure, Question, contrast
from experiments.training.hyperparameters import Training
from jaxinit import banks, controls, initializers, kernels, layers
from jaxinit.layers import Network
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey

Stem = Annotated[str, one_of((*starts.WITHOUT_SOURCES, "whole", "pretrained", "weights"))]
Body = Annotated[
    str,
    one_of((*starts.EVERY_LAYER, "clustered", "live", "bootstrap", "covariance", "pretrained")),
]

_FORM = (
    "say a first layer, its norm, the other layers, their norm and a rate, such as "
    "gabor,12,random,0.35,1"
)


@dataclasses.dataclass(frozen=True)
class Recipe(Settings):
    """One start and its learning rate: norms and rate in multiples of the default."""

    stem: Stem
    stem_scale: Positive
    body: Body
    body_scale: Positive
    rate: Positive

    @property
    def is_random(self) -> bool:
        """Whether all its filters are random, whatever their norms."""
        return self.stem == self.body == "random"

    def __str__(self) -> str:
        """As it is given on the command line."""
        return f"{self.stem},{self.stem_scale:g},{self.body},{self.body_scale:g},{self.rate:g}"


def parse_recipe(text: str) -> Recipe:
    """Reads "gabor,12,random,0.35,1".

    Raises:
        UserError: It is no recipe.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        stem, stem_scale, body, body_scale, rate = parts
        factors = [float(number) for number in (stem_scale, body_scale, rate)]
    except ValueError:
        raise UserError(f"{text!r} is no recipe: {_FORM}") from None
    try:
        return Recipe(stem, factors[0], body, factors[1], factors[2])
    except UserError as error:
        raise UserError(f"the recipe {text!r} cannot be: {error}") from None


RecipeOption = Annotated[Recipe, written_as("RECIPE", Recipe, parse_recipe)]
_AS_IT_IS = Recipe("random", 1.0, "random", 1.0, 1.0)  # random filters at their own norms


@dataclasses.dataclass(frozen=True)
class Recipes(Experiment):
    """What `experiments.recipes` compares."""

    # first layers: random, gabor or another of the library's catalogue, whole filters of source
    # models, pretrained (that of one source model), or weights (of a file)
    stems: Several[Stem] = ("random", "gabor", "whole")
    # file of a network trained elsewhere, in PyTorch's form, for the first layer called weights
    weights: PathText | None = None
    # norms of the first layer, in that of the default start
    stem_scales: Several[Positive] = (1.0, 4.0, 12.0)
    # the other layers: random or another of the library's catalogue; drawn from a bank that ships;
    # clustered, live (clustered, only taps that met data), bootstrap (real filters), covariance
    # (Gaussian, of the source models' moments), or pretrained (those of one source model)
    bodies: Several[Body] = ("random", "clustered", "live", "bootstrap")
    # norms of the other layers, in those of the default start, each alike
    body_scales: Several[Positive] = (0.35, 1.0)
    # learning rates, as multiples of --learning-rate
    rates: Several[Positive] = (1.0, 3.0)
    # number of clusters
    clusters: Count = 10
    # folder where recipes have run: only what was best there, after --epochs, of the recipes and of
    # the random starts
    best_of: PathText | None = None
    # these instead of all that the options above combine to: each a first layer, its norm, the
    # other layers, their norm and a rate, such as gabor,12,random,0.35,1
    only: Several[RecipeOption] | None = None
    # those of --only, or random,1,random,1,1, that each other of --only is compared with, all as
    # one family
    against: Several[RecipeOption] | None = None

    def __post_init__(self) -> None:
        """Checks how the options go together."""
        super().__post_init__()
        only, against = self.only or (), self.against or ()
        check(
            all(isinstance(one, Recipe) for one in (*only, *against)),
            f"--only and --against hold recipes: {_FORM}",
        )
        check(
            not only or self.best_of is None,
            "--only says what runs, and so does --best-of: give one of them",
        )
        check(
            not against or bool(only),
            "--against compares what --only runs: give --only as well",
        )
        strangers = [one for one in against if one not in (*only, _AS_IT_IS)]
        check(
            not strangers,
            f"--against {' '.join(map(str, strangers))} does not run: name it in --only as well",
        )
        check(
            not against or not set(only) <= set(against),
            "--against names all that --only runs: nothing is left to compare with them",
        )


PRESETS = {
    "quick": Recipes(
        stems=("random", "gabor"),
        stem_scales=(12.0,),
        bodies=("random",),
        body_scales=(0.35,),
        rates=(1.0,),
        **tuning.on_tuning_pairs(presets.quick("recipes"), 1),
    ),
    "reduced": Recipes(
        stems=("random", "gabor"),
        stem_scales=(1.0, 12.0),
        bodies=("random",),
        rates=(1.0,),
        **tuning.on_tuning_pairs(presets.reduced("recipes"), 2, training=Training(), seeds=1),
    ),
    "paper": Recipes(**tuning.on_tuning_pairs(presets.paper("recipes"), 4)),
}


def ask(settings: Recipes, made_of: Ingredients) -> Question:
    """Lists random initialisation and every recipe, or the best two of them."""
    random = starts.random()
    grid = itertools.product(
        settings.stems, settings.stem_scales, settings.bodies, settings.body_scales, settings.rates
    )
    asked = settings.only or [Recipe(*one) for one in grid]
    recipes = [recipe for recipe in asked if recipe != _AS_IT_IS]
    variants = {recipe: _variant(recipe, settings, made_of) for recipe in recipes}
    shown, families = [random, *variants.values()], []
    if settings.best_of is not None:
        tuning.check_apart(settings, settings.best_of, made_of.evaluated)
        randoms = [random, *(v for recipe, v in variants.items() if recipe.is_random)]
        folder = Path(settings.best_of)
        bests = [tuning.best(of, folder, settings, made_of.evaluated) for of in (randoms, shown)]
        shown = list({variant.name: variant for variant in (random, *bests)}.values())
        families = tuning.tuned(shown, bests[0])
    elif settings.against:
        families = [_family(settings, {_AS_IT_IS: random, **variants})]
    names = tuple(variant.name for variant in shown)
    return Question(shown, [Figure("recipes", "Recipes", names)], families=families)


def _family(settings: Recipes, variants: Mapping[Recipe, Variant]) -> Family:
    against = settings.against or ()
    rows = [
        contrast(variants[one], variants[baseline])
        for one in settings.only or ()
        if one not in against
        for baseline in against
    ]
    return Family("recipes", "Recipes against what they are compared with", rows)


def _variant(recipe: Recipe, settings: Recipes, made_of: Ingredients) -> Variant:
    stem, body = _stem(recipe.stem, settings, made_of), _body(recipe.body, settings, made_of)
    rate = recipe.rate * settings.training.learning_rate

    def make() -> Any:
        wanted = initializers.chain(
            initializers.scaled(recipe.stem_scale, layers=1),
            initializers.scaled(recipe.body_scale, layers=slice(1, None)),
        )
        rest = body.make()
        return stem.then(
            lambda first: controls.at_norms_of(
                _first_and_rest(first, rest), wanted, live=made_of.live
            )
        )

    return Variant(
        f"{stem.name}-x{recipe.stem_scale:g}.{body.name}-x{recipe.body_scale:g}.rate-{rate:g}",
        f"{stem.label} × {recipe.stem_scale:g}; {body.label} × {recipe.body_scale:g}; "
        f"rate {rate:g}",
        make,
        {
            "kind": "recipe",
            "stem": stem.settings,
            "stem_scale": recipe.stem_scale,
            "body": body.settings,
            "body_scale": recipe.body_scale,
        },
        training=dataclasses.replace(settings.training, learning_rate=rate),
        of_images=stem.of_images,
    )


def _first_and_rest(stem: ParamsInitializer, body: ParamsInitializer) -> ParamsInitializer:
    """Takes the first layer of one start, and the others of another."""

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        first = layers.of(params, network).main[0]
        kernel = kernels.get(initializers.run(stem, key, params, network), first)
        return kernels.put(initializers.run(body, key, params, network), {first: kernel})

    return init


def _stem(name: str, settings: Recipes, made_of: Ingredients) -> Variant:
    makers = {
        **starts.WITHOUT_SOURCES,
        "whole": made_of.whole_filters,
        "pretrained": made_of.pretrained,
        "weights": lambda: elsewhere.first_layer(
            settings.weights, settings.training.network, made_of.network.main[0].shape
        ),
    }
    return makers[name]()


def _body(name: str, settings: Recipes, made_of: Ingredients) -> Variant:
    distance = settings.clustering.distances[0]
    makers = {
        **starts.EVERY_LAYER,
        "clustered": lambda: made_of.clustered(distance, settings.clusters),
        "live": lambda: made_of.clustered(distance, settings.clusters, live_only=True),
        "bootstrap": made_of.bootstrap,
        "covariance": made_of.covariance,
        "pretrained": made_of.pretrained,
    }
    if name in banks.available():
        _check_fits(name, made_of.network)
    return makers[name]()


def _check_fits(name: str, network: Network) -> None:
    """Makes sure that a bank that ships has filters for all layers behind the first."""
    there = {tuple(size) for size in banks.named(name).kernel_sizes.values()}
    lacking = [layer for layer in network.main[1:] if layer.size not in there]
    if lacking:
        sides = kernels.sides(lacking[0].size)
        raise UserError(
            f"the bank {name} has no filters of {sides}, as {lacking[0].name} has: take another"
        )


ENTRY = conduct.entry(
    "recipes",
    __doc__,
    PRESETS,
    ask,
    varies="first layer × other layers × their norms × learning rate, on clustering tasks",
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
