"""Starts that need no source."""

import jax
import pytest

from jaxinit import initializers
from tests.jaxinit.initializers.comparing import changed_layers, same

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_the_recommended_start_changes_the_first_layer_alone(params):
    key = jax.random.key(0)
    made = initializers.recommended()(key, params)
    assert changed_layers(params, made) == ["conv1"]
    assert same(made, initializers.gabor(layers=1)(key, params))
