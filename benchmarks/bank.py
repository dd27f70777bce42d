"""How long it takes to fit a bank of all 17 layers, with and without compilation.

The models are random ones or, where a folder of checkpoints is given, those that
`experiments.pretrain` has trained.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli import errors
from experiments.cli.errors import UserError
from experiments.records import surroundings
from experiments.runs import source_checkpoints
from jaxinit import banks
from jaxinit.models import resnet


def main() -> None:
    """Prints the seconds of each fit; on the last line the median without compilation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--distance", default="euclidean")
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpoints", type=Path, help="folder of pair-*/ (default: random)")
    options = parser.parse_args()
    with errors.exit_status():
        params = models(options.models, options.checkpoints)
        times, layers = fit_times(
            params, options.clusters, options.distance, options.restarts, options.repeats
        )
    print(
        f"seconds: {np.median(times[1:]):.2f} (fits {min(times[1:]):.2f} to {max(times[1:]):.2f}; "
        f"the first, with compilation, {times[0]:.2f}); {layers} layers of "
        f"{options.models} models, {options.distance}, k={options.clusters}, "
        f"{options.restarts} restarts, {jax.devices()[0].device_kind}, "
        f"{surroundings.cores()} cores, jax {jax.__version__}"
    )


def fit_times(
    params: list[Any], clusters: int, distance: str, restarts: int, repeats: int
) -> tuple[list[float], int]:
    """Fits a bank again and again.

    Returns:
        Seconds of each fit, the first with compilation and not one of the repeats, and how many
        layers the bank has.
    """
    times, layers = [], 0
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        bank = banks.fit(
            jax.random.key(repeat),
            params,
            clusters=clusters,
            distance=distance,
            restarts=restarts,
        )
        jax.block_until_ready(bank.filters)
        times.append(time.perf_counter() - start)
        layers = len(bank.filters)
        print(f"fit {repeat}: {times[-1]:.2f} s", flush=True)
    return times, layers


def models(count: int, folder: Path | None, network: Any = None) -> list[Any]:
    """Makes random models on the device, or reads trained ones."""
    network = resnet.ResNet18(classes=10) if network is None else network
    init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False))
    if folder is None:
        return [init(jax.random.key(number))["params"] for number in range(count)]
    template = jax.eval_shape(init, jax.random.key(0))
    found = sorted(path for path in folder.glob("pair-*") if path.is_dir())[:count]
    if len(found) < count:
        raise UserError(
            f"{folder} holds {len(found)} checkpoints (pair-*/), {count} are asked for: train "
            f"more, or say --models {len(found)}"
        )
    return [source_checkpoints.load_checkpoint(path, template)[0]["params"] for path in found]


if __name__ == "__main__":
    main()
