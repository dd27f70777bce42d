"""The network that the settings ask for, and its convolutions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jaxtyping import Array

import jaxinit
from experiments.cli.errors import UserError, first_line
from experiments.cli.options import check
from experiments.training.hyperparameters import Training
from jaxinit.layers import Network
from jaxinit.models import registry


def make_network(classes: int, settings: Training) -> linen.Module:
    """The network that the settings ask for.

    Raises:
        UserError: It is to compute in float64, which JAX would quietly leave at float32.
    """
    check(
        settings.precision != "float64" or bool(jax.config.read("jax_enable_x64")),
        "--precision float64 needs 64-bit numbers: set JAX_ENABLE_X64=1",
    )
    network = registry.get(settings.network)
    return network.make(classes=classes, dtype=jnp.dtype(settings.precision))


def trace(network: Any, size: tuple[int, ...]) -> Network:
    """Finds the convolutions of a network.

    Args:
        network: A Flax module called as `network.apply(variables, images, train=…)`.
        size: Of its images: (height, width), and channels where they are not three.
    """
    return _trace(network, (1, *size, 3)[:4])


@functools.cache
def shapes(network: Any, size: tuple[int, ...]) -> tuple[Any, Any]:
    """The shapes of a key, and of the variables that the network draws with it.

    Args:
        network: As for `trace`.
        size: As for `trace`.

    Raises:
        UserError: The network does not take images of this size.
    """
    images = jax.ShapeDtypeStruct((1, *size, 3)[:4], jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        return key, jax.eval_shape(lambda key, x: network.init(key, x, train=False), key, images)
    except ValueError as error:
        raise UserError(
            f"the network does not take these images ({first_line(error)}): choose another "
            "--network or --image-size"
        ) from error


@functools.cache
def _trace(network: Any, shape: tuple[int, ...]) -> Network:
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    _, variables = shapes(network, shape[1:])
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def apply(params: Any, rest: Any, images: Array) -> Array:
        return network.apply({"params": params, **rest}, images, train=False)

    return jaxinit.trace(apply, variables["params"], rest, images)
