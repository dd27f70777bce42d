"""Where the time of a training step goes, and how far each part is from the machine's two limits.

The limits are measured too: the rate of a large matrix product, and that of copying a large array.
What a part must compute and move is the compiler's own count of operations and bytes.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import training_step, turns
from experiments.training import augmentation, networks
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
        f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}: "
        f"{arithmetic / _GIGA:.0f} GFLOP/s in products of {options.precision}, "
        f"{memory / _GIGA:.1f} GB/s of memory"
    )
    print(f"{options.runs} runs of {options.batch} images, {options.size}×{options.size}")
    print("part                  ms     GFLOP   % of peak        GB   % of peak")
    settings = Training(batch_size=options.batch, precision=options.precision)
    for name, (call, arguments) in parts(settings, options.runs, options.size).items():
        compiled = jax.jit(call).lower(*arguments).compile()
        cost = compiled.cost_analysis() or {}
        times = turns.take_turns({name: lambda c=compiled, a=arguments: c(*a)}, options.repeats)
        seconds = 1e-3 * statistics.median(times[name])
        flops, moved = cost.get("flops", 0.0), cost.get("bytes accessed", 0.0)
        print(
            f"{name:18}{1e3 * seconds:8.2f}{flops / _GIGA:10.2f}"
            f"{100 * flops / seconds / arithmetic:10.0f} %{moved / _GIGA:10.3f}"
            f"{100 * moved / seconds / memory:10.0f} %",
            flush=True,
        )


def peaks(precision: str) -> tuple[float, float]:
    """Measures operations a second of a matrix product, and bytes a second of a copy."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((side, side), precision)
    long = jnp.ones((8 * side * side,), jnp.float32)
    multiply, copy = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
    times = turns.take_turns(
        {"product": lambda: multiply(square), "copy": lambda: copy(long)}, 5, unit=1
    )
    return 2 * side**3 / min(times["product"]), 2 * long.nbytes / min(times["copy"])


def parts(
    settings: Training, runs: int, size: int
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Lists the parts of a step, each with what it is called on."""
    network = networks.make_network(training_step.CLASSES, settings)
    epoch = Epoch(network, settings, training_step.MEAN, training_step.STD)
    rng = np.random.default_rng(0)
    shape = (runs, settings.batch_size, size, size, 3)
    images = jnp.asarray(rng.integers(0, 256, shape, dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, training_step.CLASSES, shape[:2], dtype=np.int32))
    keys = jax.random.split(jax.random.key(0), runs)
    one_image = jnp.zeros((1, size, size, 3))
    init = jax.jit(jax.vmap(lambda key: network.init(key, one_image, train=False)))
    state = jax.jit(jax.vmap(lambda v: init_state(v, settings)))(init(keys))

    def forward(state: State, images: Any, labels: Any) -> Any:
        return epoch.loss(state.params, state.batch_stats, images, labels)

    def backward(state: State, images: Any, labels: Any) -> Any:
        gradient = jax.grad(epoch.loss, has_aux=True)
        return gradient(state.params, state.batch_stats, images, labels)

    def update(state: State, grads: Any) -> Any:
        updates, slots = epoch.optimizer.update(grads, state.optimizer, state.params)
        return optax.apply_updates(state.params, updates), slots

    def evaluate(state: State, images: Any, labels: Any) -> Any:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits: Any = network.apply(variables, epoch.normalized(images), train=False)
        return batch_metrics(logits, labels)

    listed = {
        "augmentation": (augmentation.augment, (keys, images)),
        "forward": (forward, (state, images, labels)),
        "forward and back": (backward, (state, images, labels)),
        "update": (update, (state, state.params)),
        "whole step": (epoch.step, (state, keys, images, labels)),
        "testing": (evaluate, (state, images, labels)),
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
