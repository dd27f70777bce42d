"""Ways of starting without source models: each fills the first layer, and says how."""

import json

import jax
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.study import elsewhere, starts
from jaxinit import banks, catalogue, initializers, weights
from tests import small

IMAGES = np.random.default_rng(0).standard_normal((40, 16, 16, 3), np.float32)


def made(variant):
    return variant.make()(IMAGES) if variant.of_images else variant.make()


@pytest.mark.parametrize("name", starts.WITHOUT_SOURCES)
def test_a_start_without_sources_changes_the_first_layer_alone(name):
    variant = starts.WITHOUT_SOURCES[name]()
    changed = initializers.changed(made(variant), small.few_layers())
    assert changed == (() if name == "random" else ("conv1/kernel",))


@pytest.mark.parametrize("name", [*starts.WITHOUT_SOURCES][2:])
def test_what_a_first_layer_is_made_with_is_recorded(name):
    """A default that changes is another start, whose runs do not go on from the former's."""
    variant = starts.WITHOUT_SOURCES[name]()
    settings = variant.settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings.get("images", 0) == variant.of_images
    defaults = catalogue.get(settings["kind"]).defaults
    assert settings.keys() - {"images"} == {"kind", "layers", *defaults}
    for option, value in defaults.items():
        assert settings[option] == (list(value) if isinstance(value, tuple) else value)


def test_labels_and_names_are_different():
    variants = [make() for make in starts.WITHOUT_SOURCES.values()]
    assert len({variant.name for variant in variants}) == len(variants)
    assert len({variant.label for variant in variants}) == len(variants)
    key = jax.random.key(0)
    params = small.few_layers()
    drawn = [made(variant)(key, params)["conv1"]["kernel"] for variant in variants]
    assert len({kernel.tobytes() for kernel in map(jax.device_get, drawn)}) == len(variants)


def test_of_images_alone_where_the_catalogue_says_so():
    of_images = {n for n, make in starts.WITHOUT_SOURCES.items() if make().of_images}
    assert of_images == {name.replace("_", "-") for name in catalogue.names("images")}


@pytest.mark.parametrize("name", ["dirac", "cifar10-resnets"])
def test_a_start_of_every_layer_changes_every_layer(name):
    variant, params = starts.EVERY_LAYER[name](), small.few_layers()
    if name in banks.available():  # it has no 7×7 filters
        params["conv1"]["kernel"] = params["conv1"]["kernel"][:3, :3]
        assert variant.settings["checksum"] == banks.available()[name].checksum
    changed = initializers.changed(variant.make(), params)
    assert changed == tuple(f"{name}/kernel" for name in small.layer_names(params))
    assert json.loads(json.dumps(variant.settings)) == variant.settings


def test_a_first_layer_trained_elsewhere_has_filters_of_norm_1(tmp_path):
    filters = np.random.default_rng(0).standard_normal((8, 3, 7, 7), np.float32)
    filters[3] = 0
    weights.save_weights(tmp_path / "w.npz", {"conv1.weight": filters})
    variant = elsewhere.first_layer(str(tmp_path / "w.npz"), "resnet18", (7, 7, 3, 8))
    kernel = variant.make()(jax.random.key(0), small.few_layers())["conv1"]["kernel"]
    norms = np.linalg.norm(filters.reshape(8, -1), axis=1)
    expected = filters[1].transpose(1, 2, 0) / norms[1]
    np.testing.assert_allclose(kernel[..., 1], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(kernel.reshape(-1, 8), axis=0), norms > 0, atol=1e-6)


@pytest.mark.parametrize("path", [None, "none.npz", "other.npz", "grey.npz", "flat.npz"])
def test_a_first_layer_that_is_not_there_gets_a_sentence(tmp_path, path):
    for other, name, shape in [
        ("other.npz", "fc.weight", (2,)),
        ("grey.npz", "conv1.weight", (8, 1, 7, 7)),
        ("flat.npz", "conv1.weight", (8, 3)),
    ]:
        weights.save_weights(tmp_path / other, {name: np.ones(shape, np.float32)})
    words = r"--weights|none|has no conv1|of shape \(8, .* resnet18 .* needs \(8, 3, 7, 7\)"
    with pytest.raises(UserError, match=words):
        elsewhere.first_layer(path and str(tmp_path / path), "resnet18", (7, 7, 3, 8))
