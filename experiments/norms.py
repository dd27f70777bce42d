"""How long initialised filters are: the norm of each layer, beside that of the default start.

Batch norm hides a layer's norm from the network's function, but not from its step size.
"""

import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from experiments.cli import options, processes
from experiments.cli.errors import exit_status
from experiments.cli.options import check, option
from experiments.cli.progress import clock
from experiments.records import files, run_record, store
from experiments.reporting import tables
from experiments.study import conduct, presets
from experiments.study.clustering import Clustering
from experiments.study.presets import Experiment
from experiments.training.trainer import Trainer
from jaxinit import diagnostics, distances, initializers
from jaxinit.layers import Network
from jaxinit.types import Params, ParamsInitializer

_SEED = 0

Norms = dict[str, float]  # of each layer


@dataclasses.dataclass(frozen=True)
class NormsOf(Experiment):
    """What `experiments.norms` measures."""

    clusters: tuple[int, ...] = option((3, 10), "numbers of clusters")

    def __post_init__(self) -> None:
        for k in self.clusters:
            check(k >= 1, f"--clusters {k} is too small: say 1 or more")


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


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, writes JSON and a table, and prints it."""
    start = time.monotonic()
    with exit_status():
        settings = options.parse(
            PRESETS,
            argv,
            program="python -m experiments.norms",
            description=(__doc__ or "").split("\n")[0],
        )
        processes.setup_jax()
        norms = measure(settings)
        procedural = settings.data.dataset == "procedural"
        stem = "norms-procedural" if procedural else "norms"
        folder, written = Path(settings.evaluation.output), table(norms)
        print(written)
        about = f"norm of each layer / that of the default start ({settings.data.dataset} data)"
        store.check_writable(folder)
        content = {"what": about, "norms": norms, "environment": run_record.environment()}
        print(f"finished in {clock(time.monotonic() - start)}; written:")
        print(f"  {files.write_json(content, folder / f'{stem}.json')}")
        text = f"{written}\n\n{about[0].upper()}{about[1:]}\n"
        print(f"  {files.write_text(text, folder / f'{stem}.md')}")


if __name__ == "__main__":
    sys.exit(main())
