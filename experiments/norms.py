"""The norms of initialised filters: that of each layer, beside the default start's.

Batch norm hides a layer's norm from the network's function, but not from its step size.
"""

import dataclasses
import functools
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.cli.options import Count, Several
from experiments.data import sets
from experiments.records import files, run_record, store
from experiments.reporting import tables
from experiments.study import conduct, presets
from experiments.study.clustering import Clustering
from experiments.study.entry import Entry
from experiments.study.presets import Experiment
from experiments.training.trainer import Trainer
from jaxinit import diagnostics, distances, initializers
from jaxinit.layers import Network
from jaxinit.signatures import Params, ParamsInitializer

_SEED = 0

Norms = dict[str, float]  # of each layer


@dataclasses.dataclass(frozen=True)
class NormsOf(Experiment):
    """What `experiments.norms` measures."""

    # numbers of clusters
    clusters: Several[Count] = (3, 10)


PRESETS = {
    "quick": NormsOf(**presets.quick("norms")),
    "paper": NormsOf(**presets.paper("norms")),
}


def measure(settings: NormsOf) -> dict[str, Norms]:
    """Draws one network a way of starting.

    Returns:
        For each way of starting the norm of each layer, divided by that of the default start.
    """
    plan = conduct.plan("norms", settings)
    trainer = Trainer(plan.dataset, settings.training, classes=10)
    default, known = trainer.init_variables(jax.random.key(_SEED))["params"], trainer.layers
    models = [source.load()["params"] for source in plan.made_of.sources()]
    each = [_relative(model, default, known) for model in models]
    found = {"source models, mean": {n: statistics.mean(e[n] for e in each) for n in each[0]}}
    found["Gabor"] = _drawn(initializers.gabor(), default, known)
    for distance in settings.clustering.distances:
        for k in settings.clusters:
            for representative in _representatives(settings.clustering, distance):
                variant = plan.made_of.clustered(distance, k, representative=representative)
                name = f"{variant.label}, {representative}"
                found[name] = _drawn(variant.make(), default, known)
    return found


def _representatives(clustering: Clustering, distance: str) -> tuple[str, ...]:
    if clustering.representative != "auto":
        return (clustering.representative,)
    inverse = ("inverse",) if distances.get(distance).inverse is not None else ()
    return ("centroid", "medoid", "member", *inverse)


def _drawn(initializer: ParamsInitializer, default: Params, network: Network) -> Norms:
    start = functools.partial(initializers.run, initializer, network=network)
    return _relative(jax.jit(start)(jax.random.key(_SEED + 1), default), default, network)


def _relative(params: Params, default: Params, network: Network) -> Norms:
    own, theirs = (diagnostics.kernel_norms(tree, network=network) for tree in (params, default))
    return {name: float(norm / theirs[name]) for name, norm in own.items()}


def table(norms: Mapping[str, Norms]) -> str:
    """Writes median, least and greatest over the layers in Markdown."""
    return tables.norms_table(norms).markdown()


class Plan(NamedTuple):
    """Norms that have yet to be measured."""

    settings: NormsOf

    def work(self) -> dict[str, float]:
        """Nothing is trained but source models, which say so themselves."""
        return {}

    def run(self) -> list[Path]:
        """Measures, prints a table, and writes it and JSON.

        Returns:
            What was written.
        """
        settings, folder = self.settings, Path(self.settings.evaluation.output)
        store.check_writable(folder)
        norms = measure(settings)
        stem = "norms-procedural" if settings.data.dataset == "procedural" else "norms"
        data_set = sets.recorded_name(settings.data)
        about = f"norm of each layer / that of the default start ({data_set} data)"
        written = table(norms)
        print(written)
        content = {"what": about, "norms": norms, "environment": run_record.environment()}
        text = f"{written}\n\n{about[0].upper()}{about[1:]}\n"
        with files.writing_to(folder):
            return [
                files.write_json(content, folder / f"{stem}.json"),
                files.write_text(text, folder / f"{stem}.md"),
            ]


ENTRY = Entry(
    "norms",
    __doc__,
    "distance × clusters × representative: measures the norms of initialised filters",
    PRESETS,
    lambda settings, _: Plan(settings),
)
main = ENTRY.main

if __name__ == "__main__":
    sys.exit(main())
