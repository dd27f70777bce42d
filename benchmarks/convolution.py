"""How long ResNet-18's convolutions take as matrix products, beside XLA's own convolution.

Each shape of the network on 32×32 images goes forward and back by both, in turns, after a check
that they agree to rounding. On a CPU most of the ratio is XLA's backward pass.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import turns
from experiments.records import surroundings
from jaxinit.models import convolution, resnet

TOLERANCE = 1e-5  # of the largest value, on 32×32 images


class Shape(NamedTuple):
    """One convolution on square maps."""

    size: int
    inputs: int
    outputs: int
    taps: int
    stride: int


def main() -> None:
    """Prints a row a shape, and the ratio of the whole network on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128, help="images")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    options = parser.parse_args()
    print("   map  channels  taps stride times  matmul ms   lax ms  ratio  difference")
    total_ours, total_lax = 0.0, 0.0
    # A kernel's gradient sums over positions; its rounding grows as the root of their number.
    tolerance = TOLERANCE * max(1, options.size / 32)
    for shape, times in network_shapes(options.size).items():
        ours, lax, difference = measure(shape, options.batch, options.repeats, tolerance)
        total_ours += times * ours
        total_lax += times * lax
        print(
            f"{shape.size:3d}×{shape.size:<3d}{shape.inputs:4d}→{shape.outputs:<4d}{shape.taps:3d}×"
            f"{shape.taps}{shape.stride:6d}{times:6d}{ours:12.2f}{lax:10.2f}{ours / lax:7.2f}"
            f"{difference:12.1e}",
            flush=True,
        )
    print(
        f"ratio: {total_ours / total_lax:.2f} (matmul {total_ours:.0f} ms, lax {total_lax:.0f} ms "
        f"forward and back, all convolutions of ResNet-18; batch {options.batch}, "
        f"{options.size}×{options.size}, {surroundings.cores()} cores, jax {jax.__version__}, "
        f"median of {options.repeats})"
    )


def network_shapes(size: int) -> dict[Shape, int]:
    """Collects the distinct convolutions of ResNet-18, in forward order, with how many there are.

    Args:
        size: Height and width of the images.
    """
    shapes: dict[Shape, int] = {}

    def record(x: Any, kernel: Any, *, stride: int, padding: int) -> Any:
        shape = Shape(x.shape[1], x.shape[3], kernel.shape[3], kernel.shape[0], stride)
        shapes[shape] = shapes.get(shape, 0) + 1
        return convolution.plain_convolution(x, kernel, stride=stride, padding=padding)

    network = resnet.ResNet18(classes=10, convolve=record)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    jax.eval_shape(lambda k, x: network.init(k, x, train=False), jax.random.key(0), images)
    return shapes


def measure(shape: Shape, batch: int, repeats: int, tolerance: float) -> tuple[float, float, float]:
    """Times both on one shape, in turns.

    Returns:
        Milliseconds of ours and of lax, and their largest difference relative to the largest value.

    Raises:
        SystemExit: They do not agree.
    """
    x_key, kernel_key, upstream_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (batch, shape.size, shape.size, shape.inputs))
    kernel_shape = (shape.taps, shape.taps, shape.inputs, shape.outputs)
    kernel = resnet.he_normal_fan_out(kernel_key, kernel_shape, jnp.float32)
    size = convolution.output_size(shape.size, shape.taps, shape.stride, shape.taps // 2)
    upstream = jax.random.normal(upstream_key, (batch, size, size, shape.outputs))
    both = (convolution.matmul_convolution, convolution.plain_convolution)
    calls = [
        functools.partial(
            forward_and_back(c, shape.stride, shape.taps // 2, images_too=shape.inputs > 3),
            x,
            kernel,
            upstream,
        )
        for c in both
    ]
    pairs = zip(jax.tree.leaves(calls[0]()), jax.tree.leaves(calls[1]()), strict=True)
    difference = max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)
    if difference > tolerance:
        raise SystemExit(f"the two differ by {difference:.1e} of the largest value at {shape}")
    times = turns.take_turns(dict(zip(("ours", "lax"), calls, strict=True)), repeats)
    (ours, lax), _ = turns.compare(times)
    return ours, lax, difference


def forward_and_back(
    convolve: convolution.Convolution, stride: int, padding: int, *, images_too: bool
) -> Callable[..., Any]:
    """Returns the jitted output and gradients; no gradient in the images at the first layer."""
    call = functools.partial(convolve, stride=stride, padding=padding)

    def run(x: Any, kernel: Any, upstream: Any) -> Any:
        if images_too:
            y, back = jax.vjp(call, x, kernel)
        else:
            y, back = jax.vjp(lambda b: call(x, b), kernel)
        return y, back(upstream)

    return jax.jit(run)


if __name__ == "__main__":
    main()
