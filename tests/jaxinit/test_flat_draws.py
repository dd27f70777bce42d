"""Drawing in a row: the numbers of `jax.random`, and no array of several axes while drawing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import flat_draws
from jaxinit.models import resnet

KEY = jax.random.key(7)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("draw", [jax.random.normal, jax.random.uniform, jax.random.rademacher])
def test_numbers_are_those_of_jax(draw, implementation):
    key = jax.random.key(7, impl=implementation)
    for shape in ((3, 5, 2, 7), (4,), (), (2, 0, 3)):
        found = flat_draws.shaped(draw, key, shape, jnp.float32)
        np.testing.assert_array_equal(found, draw(key, shape, jnp.float32))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "normal", "uniform"])
def test_kernels_are_those_of_jax(mode, distribution):
    ours = flat_draws.variance_scaling(1.3, mode, distribution)
    theirs = jax.nn.initializers.variance_scaling(1.3, mode, distribution)
    for shape, dtype in (((3, 5, 2, 7), jnp.float32), ((5, 4), jnp.bfloat16)):
        found = ours(KEY, shape, dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, theirs(KEY, shape, dtype))


def test_a_kernel_can_be_placed():
    place = jax.sharding.NamedSharding(
        jax.make_mesh((1,), ("out",), axis_types=(jax.sharding.AxisType.Explicit,)),
        jax.sharding.PartitionSpec(None, "out"),
    )
    ours, theirs = (
        made.variance_scaling(1.0, "fan_in", "normal")(KEY, (5, 4), jnp.float32, out_sharding=place)
        for made in (flat_draws, jax.nn.initializers)
    )
    assert ours.sharding == theirs.sharding == place
    np.testing.assert_array_equal(ours, theirs)


def test_a_vector_has_no_fan():
    with pytest.raises(ValueError, match=r"shape \(4,\) has no fan: it needs input and output"):
        flat_draws.variance_scaling(1.0, "fan_in", "normal")(KEY, (4,))


def test_a_network_draws_all_its_arrays_in_a_row():
    """Short axes are what XLA compiles slowly on a CPU."""
    network = resnet.ResNet18(10)
    images = jnp.zeros((1, 32, 32, 3))
    jaxpr = jax.make_jaxpr(lambda key: network.init(key, images, train=False))(KEY).jaxpr
    shapes = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "random_bits":
                shapes.append(equation.params["shape"])
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
            ):
                if hasattr(inner, "jaxpr"):
                    walk(inner.jaxpr)

    walk(jaxpr)
    assert len(shapes) == 22  # 20 convolutions, and the linear layer's weight and bias
    assert all(max(shape) == np.prod(shape) for shape in shapes)
