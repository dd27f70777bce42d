"""Figure 10: the filters of a network as it is initialised, and as it is after training.

Trains one network on the first pair, for each distance, and writes what each cluster draws, and
slices of the network's kernels before and after, as JSON; the figures are drawn from that alone.
"""

import dataclasses
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.cli.errors import UserError
from experiments.cli.options import Count, Several, check
from experiments.cli.progress import Progress
from experiments.data import sets, tasks
from experiments.data.sets import Dataset
from experiments.records import files, former
from experiments.reporting import pictures, style
from experiments.runs import protocol, side_by_side
from experiments.runs.protocol import PresetCount, Run
from experiments.runs.sources import Sources
from experiments.study import conduct, presets
from experiments.study.clustering import Clustering
from experiments.study.entry import Entry, Section
from experiments.study.ingredients import Ingredients
from experiments.study.presets import Experiment
from experiments.training.trainer import Trainer
from jaxinit import initializers, kernels

_SEED = 0
_SLICES = 20
_DIGITS = 5  # of a recorded tap


@dataclasses.dataclass(frozen=True)
class Filters(Experiment):
    """What `experiments.filters` draws."""

    # number of clusters
    clusters: Count = 3
    # convolutions whose kernels are drawn, counted from 1
    shown: Several[Count] = (1, 2, 6, 10, 17)


def _preset(shared: dict[str, Any], models: int) -> Filters:
    sources = dataclasses.replace(shared.get("sources", Sources()), sources=PresetCount(models))
    clustering = shared.get("clustering", Clustering())
    fourier = dataclasses.replace(clustering, distances=("fourier",))
    return Filters(**shared | {"clustering": fourier, "sources": sources})


PRESETS = {
    "quick": _preset(presets.quick("filters"), 2),
    "reduced": _preset(presets.reduced("filters"), 6),
    "paper": _preset(presets.paper("filters"), 6),
}


class Plan(NamedTuple):
    """The networks whose filters have yet to be drawn."""

    settings: Filters
    dataset: Dataset
    made_of: Ingredients
    progress: Progress | None

    @property
    def file(self) -> Path:
        """Where the slices are recorded."""
        suffix = "-procedural" if self.dataset.name == "procedural" else ""
        return Path(self.settings.evaluation.output) / f"filters{suffix}.json"

    def work(self) -> dict[str, float]:
        """For all that is still to be trained, how many pixels it trains on."""
        waiting = self._waiting(recorded(self.file))
        if not waiting:
            return {}
        names = {f"filters {distance}": self._pixels() for distance in waiting}
        return {**names, **self.made_of.work()}

    def run(self) -> list[Path]:
        """Trains what is not recorded yet, writes the slices and draws them.

        Returns:
            What was written.
        """
        drawings = {} if self.settings.evaluation.overwrite else recorded(self.file)
        waiting = self._waiting(drawings)
        progress = self.progress or Progress(len(waiting) * self._pixels())
        for distance in waiting:
            drawings[distance] = self._measure(distance, progress)
            content = {"schema_version": files.SCHEMA_VERSION, "drawings": drawings}
            with files.writing_to(self.file.parent):
                files.write_json(content, self.file)
        written = [self.file]
        for stem, figure in draw(drawings).items():
            name = stem + self.file.stem.removeprefix("filters")
            written += style.save(figure, self.file.parent, name)
        return written

    def _waiting(self, drawings: Mapping[str, Any]) -> list[str]:
        recorded = {d: former.completed(drawn.get("settings")) for d, drawn in drawings.items()}
        distances = self.settings.clustering.distances
        return [d for d in distances if recorded.get(d) != self._described(d)]

    def _described(self, distance: str) -> dict[str, Any]:
        """All that decides what is drawn."""
        settings = self.settings
        return {
            **sets.describe_data(self.dataset),
            **settings.training.described(),
            "initializer": self.made_of.clustered(distance, settings.clusters).settings,
            "task": tasks.task_name(settings.evaluation.tasks()[0]),
            "shown": list(settings.shown),
        }

    def _pixels(self) -> float:
        settings = self.settings
        task = tasks.task_of(self.dataset, settings.evaluation.tasks()[0])
        return settings.training.epochs * side_by_side.pixels(self.dataset, task)

    def _measure(self, distance: str, progress: Progress) -> dict[str, Any]:
        """Trains one network; returns its slices before and after, and its clusters."""
        settings, pair = self.settings, self.settings.evaluation.tasks()[0]
        task = tasks.task_of(self.dataset, pair)
        trainer = Trainer(self.dataset, settings.training, task.classes)
        variant = self.made_of.clustered(distance, settings.clusters)
        keys = protocol.run_keys(_SEED, pair)
        variables = trainer.init_variables(keys.network)
        start = functools.partial(initializers.run, variant.make(), network=trainer.layers)
        params = jax.jit(start)(keys.initializer, variables["params"])
        run, start = Run(variant.name, pair, _SEED), [{**variables, "params": params}]
        (curve,), (final,), _ = side_by_side.train_runs(trainer, [run], [task], start, progress)
        check(
            not curve.stopped,
            f"the network of {variant.label} cannot be drawn, as {curve.stopped}: lower "
            "--learning-rate",
        )
        bank = self.made_of.bank(distance, settings.clusters)
        shown = [trainer.layers.main[number - 1] for number in settings.shown]
        return {
            "settings": self._described(distance),
            "subtitle": f"{self.dataset.title}: {settings.sources.sources} source models, "
            f"{variant.label}; {tasks.task_name(pair)}, {settings.training.epochs} epochs, "
            f"{jax.devices()[0].device_kind}",
            "kernels": {
                layer.name: [_slices(kernels.get(of, layer)) for of in (params, final["params"])]
                for layer in shown
            },
            "clusters": {
                name: {
                    "filters": _rounded(np.asarray(bank.filters[name])[:, 0].reshape(-1, *size)),
                    "sizes": np.asarray(bank.sizes[name]).tolist(),
                }
                for name, size in bank.kernel_sizes.items()
            },
        }


def plan(settings: Filters, progress: Progress | None = None) -> Plan:
    """Loads the images, but trains nothing yet."""
    shared = conduct.plan("filters", settings, progress=progress)
    fitted = shared.settings
    settings = dataclasses.replace(settings, evaluation=fitted.evaluation, sources=fitted.sources)
    shared.made_of.check_layers("--shown", *settings.shown)
    shared.made_of.check_apart(settings.evaluation)
    return Plan(settings, shared.dataset, shared.made_of, progress)


def recorded(file: Path) -> dict[str, Any]:
    """Reads what was drawn for each distance; nothing where there is no file.

    Raises:
        UserError: If the file is damaged.
    """
    if not file.exists():
        return {}
    try:
        drawings = dict(files.read_json(file)["drawings"])
        slices = [of for drawn in drawings.values() for of in drawn["kernels"].values()]
        if not all(np.isfinite(np.array(of, np.float64)).all() for of in slices):
            raise ValueError("numbers that are not finite")
        return drawings
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error!r}): delete it to draw again") from error


def draw(drawings: Mapping[str, Any]) -> dict[str, Figure]:
    """Makes the figures of what was recorded, by the stems of their files' names."""
    figures: dict[str, Figure] = {}
    for distance, drawn in drawings.items():
        figures[f"figure10-{distance}"] = pictures.kernels_figure(
            {name: (np.array(a), np.array(b)) for name, (a, b) in drawn["kernels"].items()},
            title="Kernels before and after training",
            subtitle=drawn["subtitle"],
        )
        figures[f"clusters-{distance}"] = pictures.filter_figure(
            {name: np.array(layer["filters"]) for name, layer in drawn["clusters"].items()},
            {name: np.array(layer["sizes"]) for name, layer in drawn["clusters"].items()},
            "What each cluster draws",
            drawn["subtitle"],
        )
    return figures


def _slices(kernel: Float[Array, "h w i o"]) -> list[Any]:
    """Takes some slices, evenly spread over the channels."""
    flat = np.asarray(kernels.to_slices(kernel)).reshape(-1, *kernel.shape[:2])
    return _rounded(flat[np.linspace(0, len(flat) - 1, min(_SLICES, len(flat))).astype(int)])


def _rounded(values: np.ndarray) -> list[Any]:
    return np.vectorize(lambda value: float(f"{value:.{_DIGITS}g}"))(values).tolist()


ENTRY = Entry(
    "filters",
    __doc__,
    "nothing: draws filters before and after training",
    PRESETS,
    plan,
    number=13,
    sections=(Section("filters before and after training", ("figure10", "clusters"), 10),),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
