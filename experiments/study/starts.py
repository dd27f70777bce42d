"""Ways of starting a network that need no source models."""

import functools
from collections.abc import Callable

import jax

from experiments.runs.variants import Variant
from jaxinit import catalogue, initializers
from jaxinit.layers import Network
from jaxinit.signatures import Params, PRNGKey

_GABOR_SEED = 0


def random() -> Variant:
    """The network's own default start."""
    return Variant("random", "Random", initializers.unchanged, {"kind": "random"})


def gabor(layers: int, *, identical: bool = False) -> Variant:
    """Gabor filters in the first layers; identical: the same in all runs, as the authors'."""
    draw = initializers.gabor(layers=layers)

    def always_the_same(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key
        return draw(jax.random.key(_GABOR_SEED), params, network=network)

    if identical:
        return Variant(
            f"gabor-{layers}-identical",
            f"Gabor, {layers_text(layers)}, identical",
            lambda: always_the_same,
            {"kind": "gabor", "layers": layers, "identical": True},
        )
    label, settings = f"Gabor, {layers_text(layers)}", {"kind": "gabor", "layers": layers}
    return Variant(f"gabor-{layers}", label, lambda: draw, settings)


def first_layer(name: str) -> Variant:
    """Another initialiser of the library's catalogue in the first layer, with its own norm."""
    options = {
        option: list(value) if isinstance(value, tuple) else value
        for option, value in catalogue.get(name).defaults.items()
    }
    return Variant(
        f"{name.replace('_', '-')}-1",
        f"{_LABELS[name]}, {layers_text(1)}",
        lambda: catalogue.start(name, layers=1),
        {"kind": name, "layers": 1, **options},
    )


_LABELS = {
    "centred_gabor": "Centred Gabor",
    "colour_gabor": "Colour Gabor",
    "difference_of_gaussians": "Difference of Gaussians",
    "gaussian_derivatives": "Gaussian derivatives",
    "smooth": "Smooth random",
    "orthogonal": "Orthogonal",
    "dct": "DCT",
    "impulse": "Impulse",
}

# By the names that options have; the questions take a further one from here.
WITHOUT_SOURCES: dict[str, Callable[[], Variant]] = {
    "random": random,
    "gabor": lambda: gabor(1),
    **{name.replace("_", "-"): functools.partial(first_layer, name) for name in _LABELS},
}


def layers_text(count: int) -> str:
    """Writes "1 layer" or "6 layers"."""
    return f"{count} layer{'s' if count > 1 else ''}"
