"""Figure 10: the filters of a network as it is initialised, and as it is after training.

Draws the clusters' filters of each layer, and slices of the same network's kernels before and after
training on the first pair.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import (
    comparison,
    config,
    ingredients,
    plotting,
    protocol,
    runner,
    tracking,
    training,
)
from experiments.errors import exit_status
from experiments.progress import Progress
from jaxinit import banks, filters

_SEED = 0
_SLICES = 20


@dataclasses.dataclass(frozen=True)
class Filters(comparison.Experiment):
    """What `experiments.filters` draws."""

    clusters: int = config.option(3, "number of clusters")
    shown: tuple[int, ...] = config.option(
        (1, 2, 6, 10, 17), "convolutions whose kernels are drawn, counted from 1"
    )

    def __post_init__(self) -> None:
        config.check(self.clusters >= 1, f"--clusters {self.clusters} is too small: say 1 or more")
        for number in self.shown:
            config.check(1 <= number <= 17, f"--shown {number} is out of range: say 1 to 17")


_QUICK, _PAPER = Filters(**comparison.quick("filters")), Filters(**comparison.paper("filters"))
_REDUCED = Filters(**comparison.reduced("filters"))
_FOURIER = ingredients.Clustering(distances=("fourier",))
PRESETS = {
    "quick": dataclasses.replace(_QUICK, clustering=_FOURIER),
    "reduced": dataclasses.replace(_REDUCED, clustering=_FOURIER),
    "paper": dataclasses.replace(_PAPER, clustering=_FOURIER, sources=config.Sources(sources=6)),
}


def run(settings: Filters) -> list[Path]:
    """Trains one network for each distance, and draws."""
    plan = comparison.plan("filters", settings)
    folder, dataset = Path(settings.evaluation.output), plan.dataset
    pair = settings.evaluation.tasks()[0]
    suffix = "-procedural" if dataset.name == "procedural" else ""
    written: list[Path] = []
    task = runner.data.task(dataset, pair)
    trainer = training.Trainer(dataset, settings.training, task.classes)
    for distance in settings.clustering.distances:
        variant = plan.made_of.clustered(distance, settings.clusters)
        run = protocol.Run(variant.name, pair, _SEED)
        keys = protocol.run_keys(run.seed, run.pair)
        variables = trainer.init_variables(keys.network)
        params = jax.jit(variant.make())(keys.initializer, variables["params"])
        progress = Progress(settings.training.epochs * runner.pixels(dataset, task))
        start = [{**variables, "params": params}]
        _, (final,), _ = runner.train_runs(trainer, [run], [task], start, progress)
        about = f"{dataset.title}: {settings.sources.sources} source models, {variant.label}"
        figure = plotting.kernels_figure(
            {
                name: (np.asarray(filters.get_kernel(params, name)), _kernel(final, name))
                for name in (filters.layer_names(params)[number - 1] for number in settings.shown)
            },
            title="Kernels before and after training",
            subtitle=f"{about}; trained on {runner.task_name(pair)}",
            slices=_SLICES,
        )
        written += plotting.save(figure, folder, f"figure10-{distance}{suffix}")
        bank = plan.made_of.bank(distance, settings.clusters)
        written += plotting.save(_clusters(bank, about), folder, f"clusters-{distance}{suffix}")
    return written


def _kernel(variables: Any, name: str) -> np.ndarray:
    return np.asarray(filters.get_kernel(variables["params"], name))


def _clusters(bank: banks.FilterBank, about: str) -> plotting.Figure:
    drawn = {
        name: np.asarray(bank.filters[name])[:, 0].reshape(-1, *size)
        for name, size in bank.kernel_sizes.items()
    }
    return plotting.filter_figure(drawn, bank.sizes, "What each cluster draws", about)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws, and says where."""
    with exit_status():
        settings = config.parse(
            PRESETS,
            argv,
            program="python -m experiments.filters",
            description=(__doc__ or "").split("\n")[0],
        )
        runner.setup_jax()
        tracking.check_writable(Path(settings.evaluation.output))
        for path in run(settings):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
