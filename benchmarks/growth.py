"""How time and memory grow with runs, source models, clusters, image size and devices.

Each point is measured in a process of its own, so that its peak of memory is its own: twice, once
to compile and once for the time. Devices are simulated on the CPU's cores, so that their time shows
what spreading costs and not what it gains. Writes a JSON file and a figure.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli import errors
from experiments.cli.errors import UserError
from experiments.data import tasks
from experiments.data.sets import Dataset
from experiments.runs import protocol
from experiments.training.hyperparameters import Training
from experiments.training.trainer import Trainer
from jaxinit import banks, kmeans
from jaxinit.models import resnet

AXES: Mapping[str, tuple[int, ...]] = {
    "runs": (1, 2, 4, 8, 16, 32, 64),
    "models": (2, 5, 10, 20, 45),
    "clusters": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "image size": (32, 64, 128),
    "images": (256, 512, 1024, 2048, 4096),
    "devices": (1, 2, 4, 8),
}
WORK = {
    "runs": "one step of 32 images of each run",
    "models": "a bank of 17 layers, 10 clusters, a million slices a model",
    "clusters": "20 steps of k-means on 262,144 points of 9 dimensions",
    "image size": "one step of 32 images",
    "images": "one epoch of so many images of 32×32",
    "devices": "one step of 32 images of each of 8 runs",
}
_BATCH = 32


def main() -> None:
    """Measures every point, and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    parser.add_argument("--largest", type=int, default=10**6, help="leave out points above this")
    parser.add_argument("--output", default="output/growth", help="folder of the results")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(options.point[0], int(options.point[1]))))
        return
    with errors.exit_status():
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
        host = {"jax": jax.__version__, "cpu_count": os.cpu_count()}
        found = before(folder / "growth.json", host)
        for axis in options.axes:
            sizes = [size for size in AXES[axis] if size <= options.largest]
            found[axis] = [in_own_process(axis, size) for size in sizes]
            found = {axis: found[axis] for axis in AXES if axis in found}
            text = json.dumps({"work": WORK, "environment": host, "points": found}, indent=1)
            (folder / "growth.json").write_text(text + "\n")
        draw(found, folder / "growth.png")
        for axis, points in found.items():
            print(f"{axis}: time grows as {axis} to the power {exponent(points):.2f}")
        print(f"written: {folder / 'growth.json'}, {folder / 'growth.png'}")


def before(path: Path, host: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """The axes measured here before, on this machine: those not asked for anew are kept."""
    if not path.exists():
        return {}
    file = json.loads(path.read_text())
    return file["points"] if file["environment"] == host else {}


def in_own_process(axis: str, size: int) -> dict[str, float]:
    """Measures one point in a process of its own, with as many devices as it asks for."""
    environment = dict(os.environ)
    if axis == "devices":
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={size}"
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}
    command = [sys.executable, "-m", "benchmarks.growth", "--point", axis, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{axis} {size} could not be measured: {last}")
    point = json.loads(done.stdout.splitlines()[-1])
    print(f"{axis:>10} {size:4d}: {point['seconds']:8.3f} s, {point['gib']:.2f} GiB", flush=True)
    return point


def measure(axis: str, size: int) -> dict[str, float]:
    """Times the second call of one point's work; memory is the process's peak."""
    makers: dict[str, Callable[[int], Callable[[], Any]]] = {
        "runs": lambda runs: training_step(runs, 32),
        "models": bank_fit,
        "clusters": clustering,
        "image size": lambda side: training_step(1, side),
        "images": lambda images: training_step(1, 32, images),
        "devices": lambda devices: training_step(8, 32),
    }
    call = makers[axis](size)
    call()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilobytes = peak / 1024 if sys.platform == "darwin" else peak
    return {"size": size, "seconds": seconds, "gib": kilobytes / 2**20}


def training_step(runs: int, side: int, count: int = _BATCH) -> Callable[[], Any]:
    """Returns an epoch of so many images, of one step where not given, of each run."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int32) % 10
    superclass = (np.arange(10) // 5).astype(np.int32)
    half = (0.5, 0.5, 0.5)
    noise = Dataset(
        "noise", "noise", images, labels, images[:10], labels[:10], superclass, half, half, "0" * 12
    )
    settings = Training(epochs=1, batch_size=_BATCH)
    trainer = Trainer(noise, settings, 10)
    task = tasks.pair_task(noise, (0, 1))
    keys = [protocol.run_keys(seed, (0, 1)) for seed in range(runs)]
    starts = [trainer.init_variables(key.network) for key in keys]
    return lambda: trainer.train([task] * runs, starts, [key.training for key in keys])


def bank_fit(models: int) -> Callable[[], Any]:
    """Returns the fit of a bank to so many random models."""
    network = resnet.ResNet18(classes=10)
    image = jnp.zeros((1, 32, 32, 3))
    init = jax.jit(lambda key: network.init(key, image, train=False)["params"])
    params = [init(jax.random.key(number)) for number in range(models)]
    fit = lambda: banks.fit(jax.random.key(0), params, clusters=10, restarts=1)  # noqa: E731
    return lambda: jax.block_until_ready(fit().filters)


def clustering(clusters: int) -> Callable[[], Any]:
    """Returns twenty steps of k-means."""
    points = jax.random.normal(jax.random.key(0), (262_144, 9))
    start = points[:clusters]
    key = jax.random.key(1)
    return lambda: jax.block_until_ready(
        kmeans.fit(key, points, clusters, centers=start, max_iterations=20, tolerance=0.0)
    )


def exponent(points: Sequence[Mapping[str, float]]) -> float:
    """The slope of the times over the larger half of the sizes, both as logarithms."""
    upper = points[(len(points) - 1) // 2 :]
    if len(upper) < 2:
        return math.nan
    sizes, times = (np.log([point[name] for point in upper]) for name in ("size", "seconds"))
    return float(np.polyfit(sizes, times, 1)[0])


def draw(found: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draws time above memory, an axis a column, with a dashed line for what is linear."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        2, len(found), figsize=(3.2 * len(found), 5.6), squeeze=False, layout="constrained"
    )
    for column, (axis, points) in enumerate(found.items()):
        sizes = [point["size"] for point in points]
        power = 2 if axis == "image size" else 1  # so that it is linear in pixels
        for axes, name, unit in zip(
            grid[:, column], ("seconds", "gib"), ("time (s)", "peak memory (GiB)"), strict=True
        ):
            values = [point[name] for point in points]
            axes.loglog(sizes, values, "o-", color="#0072B2")
            if axis != "devices":
                linear = [values[-1] * (size / sizes[-1]) ** power for size in sizes]
                axes.loglog(sizes, linear, "--", color="#666666", linewidth=1)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_ylabel(unit)
            axes.set_ylim(min(values) / 3, max(values) * 3)
            axes.grid(color="#e6e6e6")
        grid[0, column].set_title(f"{axis}\n{WORK[axis]}", fontsize=8, wrap=True)
        grid[1, column].set_xlabel(axis)
    figure.suptitle("Growth; dashed: linear in the axis (image size: in pixels)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
