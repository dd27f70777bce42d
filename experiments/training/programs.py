"""The compiled functions that trainers share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.training import streamed
from experiments.training.epoch import Epoch, State, init_state
from experiments.training.hyperparameters import Training


def jit_once(function: Callable[..., Any]) -> Any:
    """Compiles what a run needs once: on a CPU in half the time, for code that is no faster."""
    cpu = jax.default_backend() == "cpu"
    options: Any = {"xla_backend_optimization_level": 1} if cpu else None
    return jax.jit(function, compiler_options=options)


class Programs(NamedTuple):
    """The compiled functions of a `Trainer`."""

    mesh: jax.sharding.Mesh
    init: Any
    start: Callable[[Any], State]
    starts: Callable[[Any], State]
    one: Any
    many: Any
    streamed: streamed.Programs


@functools.cache
def programs_for(
    network: Any,
    settings: Training,
    size: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Programs:
    """Compiles, or finds, what trains this network by these settings on images of this size."""
    epoch = Epoch(network, settings, mean, std)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("runs",))
    many = jax.vmap(epoch, in_axes=(None, 0, 0, 0, 0))
    over_runs = None
    if mesh.size > 1:
        own = PartitionSpec("runs")
        over_runs = NamedSharding(mesh, own)
        many = jax.shard_map(
            many,
            mesh=mesh,
            in_specs=(PartitionSpec(), own, own, own, own),
            out_specs=own,
            check_vma=False,  # no run sees another
        )
    one_image = jnp.zeros((1, *size))
    return Programs(
        mesh,
        init=jit_once(lambda key: network.init(key, one_image, train=False)),
        # Copied, as the states are given away to the epochs, and the variables are the caller's.
        start=jax.jit(lambda own: init_state(jax.tree.map(jnp.copy, own), settings)),
        starts=jax.jit(
            jax.vmap(lambda variables: init_state(variables, settings)), out_shardings=over_runs
        ),
        # A single run keeps its plain program: XLA does worse with a batch of one on a CPU.
        one=jax.jit(epoch, donate_argnums=3),
        many=jax.jit(many, donate_argnums=3),
        streamed=streamed.Programs(epoch, size),
    )
