"""What `benchmarks.gpu` measures: its parts in order of importance, sizes, and limits."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

PAPER_EPOCHS = 15  # of a run, as in the paper

# Limits, each the most that a number may be.
STEP_RATIO = 1.0  # a training step of ours to one of PyTorch's best form
LAX_RATIO = 1.0  # the same to one with XLA's own convolutions
KMEANS_RATIO = 0.1  # an iteration on the device to one of scikit-learn on the host
TOGETHER_RATIO = 0.5  # a run among the most at once to a run alone
AUTHORS_RATIO = 0.1  # a run among the most at once to one as the authors' program does it
STEP_DIFFERENCE = 1e-3  # of a step's update, in float32, relative to its norm
LABELS_DIFFERENCE = 1e-4  # share of k-means' labels
INERTIA_DIFFERENCE = 1e-2  # of a bank's layers, relative
START_DIFFERENCE = 1e-4  # of an initialiser's filters, relative to the largest value


class Part(NamedTuple):
    """Something that is measured in a process of its own."""

    name: str
    share: float  # the most seconds it may take, of nine minutes


# The shares add up to more than there is: what one leaves over is the next ones'.
PARTS = (
    Part("device", 50),
    Part("kmeans", 60),
    Part("step", 110),
    Part("torch", 110),
    Part("runs", 130),
    Part("agreement", 70),
    Part("grid", 60),
    Part("bank", 45),
    Part("limits", 60),
    Part("lax", 60),
    Part("authors", 30),
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    network: str = "resnet18"  # one of `gpu_parts.FORMS`
    grid_network: str = "resnet18"  # one of the registry, and the same where programs are shared
    images: tuple[int, ...] = (32, 64)  # height and width
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    batch: int = 128
    steps: int = 40  # a round
    rounds: int = 5
    matrix: int = 8192  # side
    runs: tuple[int, int, int] = (1, 8, 50)  # alone, of the grid, and as many as may be
    parts: tuple[int, ...] = (1, 8)  # runs at once whose step is taken apart
    epochs: int = 3  # of which the seconds of a whole run are told
    task: tuple[int, int] = (5000, 1000)  # training and test images
    points: int = 2_600_000
    models: int = 10
    clusters: int = 10
    fits: int = 3


SMALL = Sizes(
    network="resnet8",
    grid_network="resnet20",
    images=(8,),
    precisions=("float32",),
    batch=4,
    steps=2,
    rounds=2,
    matrix=64,
    runs=(1, 2, 2),
    parts=(1,),
    epochs=1,
    task=(20, 10),
    points=3000,
    models=1,
    clusters=2,
    fits=1,
)


def step(size: int, precision: str, whose: str) -> str:
    """The name of a step's time."""
    return f"step, {size}×{size}, {precision}: {whose}"


def together(runs: int) -> str:
    """The name of a run's time."""
    return f"a run of {PAPER_EPOCHS} epochs, {runs} at once"


ITERATION = "k-means, an iteration: "
AUTHORS_EPOCH = "an epoch as the authors' program does it"


class Ratio(NamedTuple):
    """A number that follows from two others, the smallest of those whose names begin so."""

    part: str  # the later one of the two that measure them
    above: str
    below: str
    times: float = 1.0


def ratios(sizes: Sizes) -> dict[str, Ratio]:
    """Those that are of interest, by name."""
    most = together(sizes.runs[-1])
    found = {}
    for whose, part in (("PyTorch", "torch"), ("lax", "lax")):
        for size in sizes.images:
            for precision in sizes.precisions:
                ours, theirs = (step(size, precision, name) for name in ("ours", whose))
                found[f"{ours} / {whose}"] = Ratio(part, ours, theirs)
    found[f"{ITERATION}ours / scikit-learn"] = Ratio(
        "kmeans", f"{ITERATION}ours", f"{ITERATION}scikit-learn"
    )
    found[f"{most} / alone"] = Ratio("runs", most, together(1))
    found[f"{most} / the authors' program"] = Ratio(
        "authors", most, AUTHORS_EPOCH, 1 / PAPER_EPOCHS
    )
    return found


def limits(sizes: Sizes) -> Iterator[tuple[str, str, float]]:
    """Lists (part, name, the most that the number may be)."""
    kinds: Mapping[str, float] = {
        "PyTorch": STEP_RATIO,
        "lax": LAX_RATIO,
        "scikit-learn": KMEANS_RATIO,
        "alone": TOGETHER_RATIO,
        "the authors' program": AUTHORS_RATIO,
    }
    for name, ratio in ratios(sizes).items():
        yield ratio.part, name, kinds[name.rpartition(" / ")[2]]
    for name, most in AGREEMENT.items():
        yield "agreement", name, most
    yield "grid", GRID_FAILED, 0.0


AGREEMENT = {
    "device and CPU, a step's update": STEP_DIFFERENCE,
    "device and CPU, k-means' labels": LABELS_DIFFERENCE,
    "device and CPU, a bank's inertias": INERTIA_DIFFERENCE,
    "device and CPU, the initialisers": START_DIFFERENCE,
}
GRID_FAILED = "grid, runs that stopped or learnt nothing"
