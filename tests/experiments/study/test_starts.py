"""Ways of starting without source models: each fills the first layer, and says how."""

import json

import jax
import pytest

from experiments.study import starts
from jaxinit import catalogue, initializers
from tests import small

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("name", starts.WITHOUT_SOURCES)
def test_a_start_without_sources_changes_the_first_layer_alone(name):
    variant = starts.WITHOUT_SOURCES[name]()
    changed = initializers.changed(variant.make(), small.few_layers())
    assert changed == (() if name == "random" else ("conv1/kernel",))


@pytest.mark.parametrize("name", [*starts.WITHOUT_SOURCES][2:])
def test_what_a_first_layer_is_made_with_is_recorded(name):
    """A default that changes is another start, whose runs do not go on from the former's."""
    settings = starts.WITHOUT_SOURCES[name]().settings
    assert json.loads(json.dumps(settings)) == settings
    defaults = catalogue.get(settings["kind"]).defaults
    assert settings.keys() == {"kind", "layers", *defaults}
    for option, value in defaults.items():
        assert settings[option] == (list(value) if isinstance(value, tuple) else value)


def test_labels_and_names_are_different():
    made = [make() for make in starts.WITHOUT_SOURCES.values()]
    assert len({variant.name for variant in made}) == len(made)
    assert len({variant.label for variant in made}) == len(made)
    key = jax.random.key(0)
    params = small.few_layers()
    drawn = [variant.make()(key, params)["conv1"]["kernel"] for variant in made]
    assert len({kernel.tobytes() for kernel in map(jax.device_get, drawn)}) == len(made)
