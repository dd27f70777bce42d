"""The parts of `benchmarks.gpu`, each run in a process of its own.

`python -m benchmarks.gpu_parts PART FILE` appends a line of JSON to the file for each number as
soon as it is known, so that what is stopped later leaves what it found.
"""

import argparse
import functools
import importlib.metadata
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu_plan
from benchmarks.gpu_plan import SMALL, Sizes
from experiments.cli.errors import first_line

_TERA, _GIGA = 1e12, 1e9
# Networks by what they have other than ResNet-18.
FORMS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "resnet8": {
        "stages": (1, 1, 1),
        "widths": (16, 32, 64),
        "stem": "cifar",
        "shortcut": "padding",
    },
}


class Report:
    """Takes what a part finds.

    Args:
        path: The file that lines are appended to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = time.monotonic()

    def number(self, name: str, values: Sequence[float], unit: str) -> None:
        """A number, as the median of repeated measurements."""
        self._write(
            name=name,
            value=float(statistics.median(values)),
            unit=unit,
            n=len(values),
            least=float(min(values)),
            most=float(max(values)),
        )

    def missing(self, name: str, reason: str) -> None:
        """A number that there is none of, and why."""
        self._write(name=name, reason=reason)

    def fact(self, name: str, text: object) -> None:
        """What the machine or its programs are."""
        self._write(fact=name, text=str(text))

    def _write(self, **line: Any) -> None:
        now = time.monotonic()
        line["seconds"], self._last = round(now - self._last, 2), now
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Measures one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(argv)
    PARTS[options.part](SMALL if options.small else Sizes(), Report(options.file))


def device(sizes: Sizes, report: Report) -> None:
    """What the device is, and what it can do at best."""
    import jax

    from benchmarks import parts

    first = jax.devices()[0]
    memory = first.memory_stats() or {}
    facts = {
        "platform": first.platform,
        "device": first.device_kind,
        "devices": jax.device_count(),
        "runtime": first.client.platform_version.splitlines()[0],
        "python": platform.python_version(),
        "driver": _driver(),
    }
    for package in ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "scikit-learn"):
        facts[package] = _version(package)
    for name, text in facts.items():
        report.fact(name, text)
    if "bytes_limit" in memory:
        report.number("memory that JAX may use", [memory["bytes_limit"] / 2**30], "GiB")
    for name, dtype, precision in (
        ("float32", "float32", jax.lax.Precision.HIGHEST),
        ("float32 as JAX has it (TF32 on a GPU)", "float32", None),
        ("bfloat16", "bfloat16", None),
    ):
        rates = parts.product_rates(sizes.matrix, dtype, precision, sizes.rounds)
        report.number(f"matrix product, {name}", [r / _TERA for r in rates], "TFLOP/s")
    rates = parts.copy_rates(8 * sizes.matrix**2, sizes.rounds)
    report.number("memory, by a copy", [r / _GIGA for r in rates], "GB/s")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    asked = "--query-gpu=name,driver_version,memory.total,power.limit"
    try:
        found = subprocess.run(
            ["nvidia-smi", asked, "--format=csv,noheader"], capture_output=True, text=True
        )
    except OSError:
        return "no nvidia-smi"
    return found.stdout.strip().splitlines()[0] if found.stdout.strip() else "nvidia-smi is silent"


def make_network(sizes: Sizes, precision: str, **form: Any) -> Any:
    """The Flax module that is timed."""
    from benchmarks import training_step
    from jaxinit.models import resnet

    form |= FORMS[sizes.network]
    return resnet.ResNet(classes=training_step.CLASSES, dtype=precision, **form)


def step(sizes: Sizes, report: Report, *, whose: str = "ours") -> None:
    """The training step, with our convolutions or XLA's."""
    from benchmarks import training_step, turns
    from experiments.training.hyperparameters import Training
    from jaxinit.models import convolution

    convolve = {"ours": convolution.matmul_convolution, "lax": convolution.plain_convolution}
    for precision in sizes.precisions:
        for size in sizes.images:
            settings = Training(batch_size=sizes.batch, augment=False, precision=precision)
            network = make_network(sizes, precision, convolve=convolve[whose])
            images, labels = _images(sizes, size)
            epoch = training_step.jax_epoch(network, images, labels, settings)
            times = turns.take_turns({"": epoch}, sizes.rounds, unit=1e-3 * sizes.steps)
            report.number(gpu_plan.step(size, precision, whose), times[""], "ms")


def _images(sizes: Sizes, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    count = sizes.batch * sizes.steps
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, count, dtype=np.int32)


def pytorch(sizes: Sizes, report: Report) -> None:
    """The same step in each of PyTorch's forms."""
    from benchmarks import torch_forms, training_step, turns

    device = torch_forms.prepare()
    for form in torch_forms.forms(device):
        for precision in sizes.precisions:
            for size in sizes.images:
                name = gpu_plan.step(size, precision, f"PyTorch {form}")
                images, labels = _images(sizes, size)
                normalization = (training_step.MEAN, training_step.STD)
                try:
                    epoch = torch_forms.epoch(
                        *(form, device, sizes.network, precision, images, labels),
                        *(sizes.batch, normalization),
                    )
                    times = turns.take_turns({"": epoch}, sizes.rounds, unit=1e-3 * sizes.steps)
                except Exception as error:  # one form must not cost the others
                    report.missing(name, first_line(error))
                    continue
                report.number(name, times[""], "ms")


def runs(sizes: Sizes, report: Report) -> None:
    """Whole runs, one alone and many at once."""
    from benchmarks import many_runs
    from experiments.training.hyperparameters import Training

    dataset = many_runs.made_up(*sizes.task)
    alone, some, most = sizes.runs
    orders = {"float32": (alone, most, some), "bfloat16": (most,)}
    for precision in sizes.precisions:
        settings = Training(epochs=sizes.epochs, precision=precision)
        network = make_network(sizes, precision)
        for count in dict.fromkeys(orders[precision]):
            own = many_runs.our_seconds(dataset, settings, count, network)
            seconds = own * gpu_plan.PAPER_EPOCHS / sizes.epochs
            name = gpu_plan.together(count)
            name += "" if precision == "float32" else f", {precision}"
            report.number(name, [seconds], "s")
            report.number(f"{name}: runs an hour", [3600 / seconds], "")


def kmeans(sizes: Sizes, report: Report) -> None:
    """An iteration of k-means, and whole fits."""
    import jax
    import jax.numpy as jnp

    from benchmarks import kmeans as both
    from benchmarks import turns
    from jaxinit import kmeans as library

    shape = (sizes.points, 9)
    points = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for name, steps in (("ours", both.jaxinit_steps), ("scikit-learn", both.sklearn_steps)):
        try:
            calls = {str(n): steps(points, sizes.clusters, n) for n in (both.SHORT, both.LONG)}
            unit = 1e-3 * (both.LONG - both.SHORT)
            short, long = turns.take_turns(calls, sizes.rounds, unit=unit).values()
        except ModuleNotFoundError as error:
            report.missing(f"{gpu_plan.ITERATION}{name}", f"{error.name} is not installed")
            continue
        times = [b - a for a, b in zip(short, long, strict=True)]
        report.number(f"{gpu_plan.ITERATION}{name}", times, "ms")
    on_device, seeds = jnp.asarray(points), iter(range(sizes.rounds + 1))

    def fit() -> Any:
        return library.fit(jax.random.key(next(seeds)), on_device, sizes.clusters)

    times = turns.take_turns({"": fit}, sizes.rounds, unit=1)
    report.number("k-means, a whole fit: ours", times[""], "s")


def bank(sizes: Sizes, report: Report) -> None:
    """The bank of all layers."""
    from benchmarks import bank as banks

    params = banks.models(sizes.models, None, make_network(sizes, "float32"))
    times, layers = banks.fit_times(params, sizes.clusters, "euclidean", 3, sizes.fits)
    name = f"a bank of {layers} layers of {sizes.models} models, k = {sizes.clusters}"
    report.number(f"{name}, with compilation", times[:1], "s")
    report.number(name, times[1:], "s")


def limits(sizes: Sizes, report: Report) -> None:
    """The parts of a step, beside what the device can do at best."""
    from benchmarks import parts
    from experiments.training.hyperparameters import Training

    peaks: Any = {precision: parts.peaks(precision) for precision in sizes.precisions}
    for count in sizes.parts:
        for precision, (operations, moved) in peaks.items():
            settings = Training(batch_size=sizes.batch, precision=precision)
            network = make_network(sizes, precision)
            for part in parts.measure(network, settings, count, sizes.images[0], sizes.rounds):
                name = f"{part.name}, {count} at once, {precision}"
                report.number(name, [1e3 * s for s in part.seconds], "ms")
                shares = {
                    "arithmetic": part.operations / operations,
                    "memory": part.moved / moved,
                }
                for what, share in shares.items():
                    of_peak = [100 * share / s for s in part.seconds]
                    report.number(f"{name}: of the device's {what}", of_peak, "%")


def authors(sizes: Sizes, report: Report) -> None:
    """An epoch as the authors' program does it, with PyTorch's loader."""
    from benchmarks import many_runs

    torch, transforms = many_runs.import_torchvision()
    dataset = many_runs.made_up(*sizes.task)
    seconds = many_runs.their_seconds(torch, transforms, dataset, 1, 4)
    report.number(gpu_plan.AUTHORS_EPOCH, [seconds], "s")


def _agreement(sizes: Sizes, report: Report) -> None:
    from benchmarks import gpu_agreement

    gpu_agreement.agreement(sizes, report)


def _grid(sizes: Sizes, report: Report) -> None:
    from benchmarks import gpu_agreement

    gpu_agreement.grid(sizes, report)


PARTS: dict[str, Callable[[Sizes, Report], None]] = {
    "device": device,
    "step": step,
    "torch": pytorch,
    "runs": runs,
    "kmeans": kmeans,
    "agreement": _agreement,
    "bank": bank,
    "limits": limits,
    "grid": _grid,
    "lax": functools.partial(step, whose="lax"),
    "authors": authors,
}

if __name__ == "__main__":
    main()
