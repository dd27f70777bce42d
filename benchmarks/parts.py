"""Where the time of a training step goes, and how far each part is from the machine's two limits.

The limits are measured too: the rate of a large matrix product, and that of copying a large array.
What a part must compute and move is the compiler's own count of operations and bytes.
"""

import argparse
import functools
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import training_step, turns
from experiments.records import surroundings
from experiments.training import augmentation, dead_taps, networks
from experiments.training.epoch import Epoch, State, batch_metrics, init_state
from experiments.training.hyperparameters import Training

_GIGA = 1e9


def main() -> None:
    """Prints a row a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="runs at once")
    parser.add_argument("--batch", type=int, default=128, help="images a step of a run")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    options = parser.parse_args()
    arithmetic, memory = peaks(options.precision)
    print(
        f"{jax.devices()[0].device_kind}, {surroundings.cores()} cores, jax {jax.__version__}: "
        f"{arithmetic / _GIGA:.0f} GFLOP/s in products of {options.precision}, "
        f"{memory / _GIGA:.1f} GB/s of memory"
    )
    print(f"{options.runs} runs of {options.batch} images, {options.size}×{options.size}")
    print("part                  ms     GFLOP   % of peak        GB   % of peak")
    settings = Training(batch_size=options.batch, precision=options.precision)
    network = networks.make_network(training_step.CLASSES, settings)
    for part in measure(network, settings, options.runs, options.size, options.repeats):
        seconds = statistics.median(part.seconds)
        print(
            f"{part.name:18}{1e3 * seconds:8.2f}{part.operations / _GIGA:10.2f}"
            f"{100 * part.operations / seconds / arithmetic:10.0f} %{part.moved / _GIGA:10.3f}"
            f"{100 * part.moved / seconds / memory:10.0f} %",
            flush=True,
        )


class Part(NamedTuple):
    """What one part of a step takes."""

    name: str
    seconds: list[float]  # of each round
    operations: float  # as the compiler counts them
    moved: float  # bytes, likewise


def measure(network: Any, settings: Training, runs: int, size: int, repeats: int) -> Iterator[Part]:
    """Times the parts of a step, one after the other.

    Args:
        network: A Flax module called as `network.apply(variables, images, train=…)`.
        settings: Of the training.
        runs: How many at once.
        size: Height and width of the images.
        repeats: Rounds.
    """
    for name, (call, arguments) in parts(network, settings, runs, size).items():
        compiled = jax.jit(call).lower(*arguments).compile()
        cost = compiled.cost_analysis() or {}
        times = turns.take_turns({name: lambda c=compiled, a=arguments: c(*a)}, repeats, unit=1)
        yield Part(name, times[name], cost.get("flops", 0.0), cost.get("bytes accessed", 0.0))


def peaks(precision: str) -> tuple[float, float]:
    """Measures operations a second of a matrix product, and bytes a second of a copy."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    return max(product_rates(side, precision)), max(copy_rates(8 * side * side))


def product_rates(
    side: int, dtype: str, precision: jax.lax.Precision | None = None, repeats: int = 5
) -> list[float]:
    """Operations a second of the product of two square matrices, in each round.

    Args:
        side: Of the matrices.
        dtype: Of their numbers.
        precision: JAX's own, which is TF32 for float32 on GPUs that have it, where not given.
        repeats: Rounds.
    """
    square = jnp.ones((side, side), dtype)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    times = turns.take_turns({"product": lambda: multiply(square)}, repeats, unit=1)
    return [2 * side**3 / seconds for seconds in times["product"]]


def copy_rates(count: int, repeats: int = 5) -> list[float]:
    """Bytes a second that reading and writing so many float32 numbers moves, in each round."""
    long = jnp.ones((count,), jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    times = turns.take_turns({"copy": lambda: copy(long)}, repeats, unit=1)
    return [2 * long.nbytes / seconds for seconds in times["copy"]]


def parts(
    network: Any, settings: Training, runs: int, size: int
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Lists the parts of a step, each with what it is called on."""
    epoch = Epoch(network, settings, training_step.MEAN, training_step.STD)
    rng = np.random.default_rng(0)
    shape = (runs, settings.batch_size, size, size, 3)
    images = jnp.asarray(rng.integers(0, 256, shape, dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, training_step.CLASSES, shape[:2], dtype=np.int32))
    keys = jax.random.split(jax.random.key(0), runs)
    one_image = jnp.zeros((1, size, size, 3))
    init = jax.jit(jax.vmap(lambda key: network.init(key, one_image, train=False)))
    before = jax.jit(jax.vmap(lambda v: init_state(v, settings)))(init(keys))
    # As an epoch does, whose steps know nothing of the taps that meet no data.
    known = networks.trace(network, shape[2:])
    state, _ = jax.jit(jax.vmap(lambda own: epoch.begin(own, shape[2:])))(before)

    def loss(params: Any, state: State, whole: Any, images: Any, labels: Any) -> Any:
        expand = functools.partial(dead_taps.pad, network=known, whole=whole)
        return epoch.loss(params, state.batch_stats, images, labels, expand)

    def forward(state: State, whole: Any, images: Any, labels: Any) -> Any:
        return loss(state.params, state, whole, images, labels)

    def backward(state: State, whole: Any, images: Any, labels: Any) -> Any:
        gradient = jax.grad(loss, has_aux=True)
        return gradient(state.params, state, whole, images, labels)

    def update(state: State, grads: Any) -> Any:
        updates, slots = epoch.optimizer.update(grads, state.optimizer, state.params)
        return optax.apply_updates(state.params, updates), slots

    def evaluate(state: State, images: Any, labels: Any) -> Any:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits: Any = network.apply(variables, epoch.normalized(images), train=False)
        return batch_metrics(logits, labels)

    listed = {
        "augmentation": (augmentation.augment, (keys, images)),
        "forward": (forward, (state, before.params, images, labels)),
        "forward and back": (backward, (state, before.params, images, labels)),
        "update": (update, (state, state.params)),
        "whole step": (epoch.step, (state, keys, images, labels, before.params)),
        "testing": (evaluate, (before, images, labels)),
    }
    if runs == 1:
        alone = {
            name: (call, tuple(jax.tree.map(lambda leaf: leaf[0], a) for a in arguments))
            for name, (call, arguments) in listed.items()
        }
        return alone
    return {name: (jax.vmap(call), arguments) for name, (call, arguments) in listed.items()}


if __name__ == "__main__":
    main()
