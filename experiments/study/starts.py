"""Ways of starting a network that need no source models."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from experiments.runs.variants import Variant
from jaxinit import banks, catalogue, initializers
from jaxinit.layers import Network
from jaxinit.signatures import Params, PRNGKey

_GABOR_SEED = 0
_IMAGES = 5000  # of a task, that filters are fitted on


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
    """Another initialiser of the library's catalogue in the first layer, with its own norm.

    One that is fitted on images is so on those of the task.
    """
    settings = {"kind": name, "layers": 1, **_options(name)}
    label, short = f"{_LABELS[name]}, {layers_text(1)}", f"{name.replace('_', '-')}-1"
    if catalogue.get(name).needs != "images":
        return Variant(short, label, lambda: catalogue.start(name, layers=1), settings)
    return Variant(
        short,
        label,
        lambda: lambda images: catalogue.start(name, layers=1, images=images),
        {**settings, "images": _IMAGES},
        of_images=_IMAGES,
    )


def every_layer(name: str) -> Variant:
    """An initialiser of the library's catalogue that needs nothing, in all layers."""
    return Variant(
        name.replace("_", "-"),
        _LABELS[name],
        lambda: catalogue.start(name),
        {"kind": name, **_options(name)},
    )


def shipped(name: str) -> Variant:
    """Filters of a bank that ships with the library, by depth, in all layers that it fits."""
    return Variant(
        f"bank-{name}",
        f"Bank {name}",
        lambda: initializers.clustered(banks.named(name), match="depth", missing="keep"),
        {"kind": "shipped", "bank": name, "checksum": banks.available()[name].checksum},
    )


def _options(name: str) -> dict[str, Any]:
    return {
        option: list(value) if isinstance(value, tuple) else value
        for option, value in catalogue.get(name).defaults.items()
    }


_LABELS = {
    "centred_gabor": "Centred Gabor",
    "colour_gabor": "Colour Gabor",
    "difference_of_gaussians": "Difference of Gaussians",
    "gaussian_derivatives": "Gaussian derivatives",
    "smooth": "Smooth random",
    "orthogonal": "Orthogonal",
    "dct": "DCT",
    "impulse": "Impulse",
    "natural_whitening": "Natural whitening",
    "patch_whitening": "Patch whitening",
    "patch_kmeans": "Clusters of patches",
    "closed_form": "Closed form",
    "dirac": "Dirac",
}
_BEHIND = ("closed_form", "dirac")  # offered in all layers alone

# By the names that options have; the questions take a further one from here.
WITHOUT_SOURCES: dict[str, Callable[[], Variant]] = {
    "random": random,
    "gabor": lambda: gabor(1),
    **{
        name.replace("_", "-"): functools.partial(first_layer, name)
        for name in _LABELS
        if name not in _BEHIND
    },
}

# Likewise, of all layers.
EVERY_LAYER: dict[str, Callable[[], Variant]] = {
    "random": random,
    **{
        name.replace("_", "-"): functools.partial(every_layer, name)
        for name in _LABELS
        if not catalogue.get(name).first_layers
    },
    **{name: functools.partial(shipped, name) for name in banks.available()},
}


def layers_text(count: int) -> str:
    """Writes "1 layer" or "6 layers"."""
    return f"{count} layer{'s' if count > 1 else ''}"
