"""Starts that need no source."""

import jax
import numpy as np
import pytest

from jaxinit import initializers, kernel_init
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers, same


def test_closed_form_gives_each_layer_its_relative_depth(params):
    """Of four main layers: 0, ⅓, ⅔ and 1, whichever are chosen; and a shortcut's when asked for."""
    key = jax.random.key(0)
    made = initializers.closed_form(relative_norm=2.0, start=0.5, slope=2.0, curvature=1.0)
    everything = made(key, params)
    for number, name in enumerate(small.layer_names(params)):
        shape = small.get_kernel(params, name).shape
        alone = kernel_init.closed_form_covariance(
            number / 3, 2.0, start=0.5, slope=2.0, curvature=1.0
        )(jax.random.fold_in(key, number), shape)
        np.testing.assert_array_equal(small.get_kernel(everything, name), alone)
    assert same(everything["fc"], params["fc"])
    last = initializers.closed_form(layers=slice(2, None), relative_norm=2.0, start=0.5, slope=2.0,
                                    curvature=1.0)(key, params)  # fmt: skip
    assert changed_layers(params, last) == ["layer2_0/conv1", "layer2_0/conv2"]
    assert same(last["layer2_0"], everything["layer2_0"])
    assert not same(
        initializers.closed_form(layers=["*/shortcut_conv"])(key, params)["layer2_0"],
        params["layer2_0"],
    )


def test_closed_form_of_an_only_layer_is_that_of_the_first(params):
    alone = {"conv1": params["conv1"]}
    key = jax.random.key(0)
    expected = kernel_init.closed_form_covariance(0.0)(jax.random.fold_in(key, 0), (7, 7, 3, 8))
    made = initializers.closed_form()(key, alone)
    np.testing.assert_array_equal(made["conv1"]["kernel"], expected)


def test_closed_form_refuses_a_schedule_that_ends_below_zero(params):
    with pytest.raises(ValueError, match="it must be above 0"):
        initializers.closed_form(start=1.0, slope=-2.0)(jax.random.key(0), params)
