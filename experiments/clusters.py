"""Experiment 5, the paper's main one: number of clusters × distance, against random initialisation.

Draws figure 2 (two clusters beside random, pretrained and Gabor initialisation) and figure 3 (the
number of clusters) in form. Missing source models are trained first.
"""

import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from experiments import (
    config,
    plotting,
    pretrain,
    reference,
    runner,
    statistics,
    tracking,
)
from experiments.errors import UserError, exit_status
from experiments.progress import clock, say
from jaxinit import banks, initializers

_BANK_SEED = 0
_DISTANCES = ("euclidean", "fourier", "fourier_real", "cosine")


@dataclasses.dataclass(frozen=True)
class Clusters:
    """What `experiments.clusters` compares."""

    clusters: tuple[int, ...] = config.option((1, 2, 3, 10, 30, 50), "numbers of clusters")
    distances: tuple[str, ...] = config.option(
        ("euclidean", "fourier"),
        "distances between slices of filters; fourier is that of magnitudes, fourier_real of real "
        "parts (the authors' program)",
        choices=_DISTANCES,
    )
    representative: str = config.option(
        "auto",
        "the filter that stands for a cluster: centroid (mean of its members), medoid (the member "
        "nearest its centre), member (a random one), inverse (the centre transformed back); auto: "
        "centroid, but member for fourier, whose clusters hold filters and their negatives alike, "
        "and inverse for fourier_real",
        choices=("auto", "centroid", "medoid", "member", "inverse"),
    )
    restarts: int = config.option(3, "times that k-means starts anew; the best is kept")
    layers: int = config.option(17, "convolutions that are initialised: the first so many of 17")
    baselines: tuple[str, ...] = config.option(
        ("random", "pretrained", "gabor"),
        "initialisations to compare with; gabor is in the first layer",
        choices=("random", "pretrained", "gabor"),
    )
    data: config.Data = dataclasses.field(default_factory=config.Data)
    training: config.Training = dataclasses.field(default_factory=config.Training)
    sources: config.Sources = dataclasses.field(default_factory=config.Sources)
    evaluation: runner.Evaluation = dataclasses.field(default_factory=runner.Evaluation)

    def __post_init__(self) -> None:
        for k in self.clusters:
            config.check(k >= 1, f"--clusters {k} is too small: say 1 or more")
        config.check(0 <= self.layers <= 17, f"--layers {self.layers} is out of range: say 0 to 17")
        config.check(self.restarts >= 1, f"--restarts {self.restarts} is too small: say 1 or more")


QUICK = Clusters(
    clusters=(2, 10),
    restarts=1,
    data=pretrain.QUICK.data,
    training=config.Training(epochs=8, schedule="cosine"),
    sources=pretrain.QUICK.sources,
    evaluation=runner.Evaluation(pairs=((10, 11), (16, 19)), seeds=1),
)
PAPER = Clusters(data=config.Data(dataset="cifar100"))
PRESETS = {"quick": QUICK, "paper": PAPER}


def representative(settings: Clusters, distance: str) -> str:
    """How a cluster becomes a filter, for one distance (`jaxinit.banks.fit` says what follows)."""
    if settings.representative != "auto":
        return settings.representative
    return {"fourier": "member", "fourier_real": "inverse"}.get(distance, "centroid")


def fit_banks(
    settings: Clusters, sources: Sequence[pretrain.Source], folder: Path
) -> dict[tuple[str, int], banks.FilterBank]:
    """Clusters the source models' filters for each distance and number of clusters."""
    with tracking.writing_to(folder):
        (folder / "banks").mkdir(parents=True, exist_ok=True)
    return {
        (distance, k): fit_bank(
            settings, sources, distance, k, folder / "banks" / f"{name(settings, distance, k)}.npz"
        )
        for k, distance in itertools.product(settings.clusters, settings.distances)
    }


def fit_bank(
    settings: Clusters, sources: Sequence[pretrain.Source], distance: str, k: int, path: Path
) -> banks.FilterBank:
    """Fits one bank and keeps it; takes the one that is kept where it was made from the same."""
    asked = {
        "clusters": k,
        "distance": distance,
        "representative": representative(settings, distance),
        "sources": tuple(source.name for source in sources),
    }
    try:
        if path.exists():
            kept = banks.load(path)
            same = all(getattr(kept.provenance, name) == value for name, value in asked.items())
            if same and len(kept.filters) == settings.layers and not settings.evaluation.overwrite:
                return kept
        models = [source.variables["params"] for source in sources]
        say(f"clustering the filters of {len(models)} models: {distance}, k = {k}")
        key = jax.random.key(_BANK_SEED)
        bank = banks.fit(key, models, layers=settings.layers, restarts=settings.restarts, **asked)
        with tracking.writing_to(path):
            banks.save(bank, path)
    except ValueError as error:
        raise UserError(str(error)) from error
    return bank


def variants(
    settings: Clusters, sources: Sequence[pretrain.Source], folder: Path
) -> list[runner.Variant]:
    """Lists the initialisations, baselines first."""
    made = {
        "random": runner.Variant("random", "Random", initializers.unchanged(), {"kind": "random"}),
        "pretrained": runner.Variant(
            "pretrained",
            "Pretrained",
            initializers.pretrained(sources[0].variables["params"]),
            {"kind": "pretrained", "source": sources[0].name},
        ),
        "gabor": runner.Variant(
            "gabor-1",
            "Gabor, 1 layer",
            initializers.gabor(layers=1),
            {"kind": "gabor", "layers": 1},
        ),
    }
    listed = [made[name] for name in settings.baselines]
    for (distance, k), bank in fit_banks(settings, sources, folder).items():
        listed.append(
            runner.Variant(
                name(settings, distance, k),
                label(settings, distance, k),
                initializers.clustered(bank, layers=settings.layers),
                {
                    "kind": "clustered",
                    "clusters": k,
                    "distance": distance,
                    "representative": representative(settings, distance),
                    "restarts": settings.restarts,
                    "layers": settings.layers,
                    "sources": [source.name for source in sources],
                },
            )
        )
    return listed


def name(settings: Clusters, distance: str, k: int) -> str:
    """Names a clustered variant in files: "euclidean-k3", or "euclidean-k3-member" if asked for."""
    asked = settings.representative
    return f"{distance}-k{k}" if asked == "auto" else f"{distance}-k{k}-{asked}"


def label(settings: Clusters, distance: str, k: int) -> str:
    """Names a clustered variant in figures and tables."""
    text = f"{_distance_label(distance)}, {k} cluster{'s' if k > 1 else ''}"
    return text if settings.representative == "auto" else f"{text}, {settings.representative}"


def _distance_label(distance: str) -> str:
    return {"fourier_real": "Fourier (real part)"}.get(distance, distance.capitalize())


def authors_curves(
    settings: Clusters, variants: Sequence[runner.Variant]
) -> dict[str, list[float]]:
    """The authors' mean curves, for those variants whose setting is one of theirs."""
    if settings.data.dataset != "cifar100":
        return {}
    matched: dict[str, str | None] = {"random": "random_model", "pretrained": "pre_trained_model"}
    matched["gabor-1"] = reference.for_gabor(1)
    for variant in variants:
        if variant.settings["kind"] == "clustered":
            distance, k = variant.settings["distance"], variant.settings["clusters"]
            fixed = {"models": settings.sources.sources, "layers": settings.layers}
            matched[variant.name] = reference.for_clusters(distance, k, **fixed)
            if matched[variant.name] is None and k == 10:
                matched[variant.name] = reference.for_models(
                    distance, settings.sources.sources, layers=settings.layers
                )
    names = {variant.name for variant in variants}
    return {v: reference.curve(name) for v, name in matched.items() if name and v in names}


def present(
    settings: Clusters,
    variants: Sequence[runner.Variant],
    records: Sequence[tracking.RunRecord],
    title: str,
) -> list[Path]:
    """Writes the summary, the results table and the figures; prints the table."""
    folder = Path(settings.evaluation.output)
    authors = authors_curves(settings, variants)
    written = [statistics.write_summary(records, folder)]
    labels = {variant.name: variant.label for variant in variants}
    table = statistics.results_table(records, labels=labels, authors=authors)
    written.append(statistics.write_table(table, records, folder))
    for stem, shown, heading, palette in figures(settings, labels):
        figure = plotting.curves_figure(
            records,
            variants=shown,
            title=heading,
            subtitle=subtitle(settings, records, title),
            palette=palette,
            authors=authors,
        )
        written += plotting.save(figure, folder, tracking.output_name(stem, records))
    figure = plotting.final_accuracy_figure(
        records,
        variants=labels,
        title="Final accuracy of every run",
        subtitle=subtitle(settings, records, title),
    )
    written += plotting.save(figure, folder, tracking.output_name("final_accuracy", records))
    print(table)
    return written


def figures(
    settings: Clusters, labels: dict[str, str]
) -> list[tuple[str, dict[str, str], str, plotting.Palette]]:
    """Says which variants each figure shows: (stem, labels, title, palette)."""
    baselines = {name: text for name, text in labels.items() if "-k" not in name}
    smallest = min((k for k in settings.clusters if k > 1), default=1)
    same_k = {name: text for name, text in labels.items() if name.endswith(f"-k{smallest}")}
    drawn: list[tuple[str, dict[str, str], str, plotting.Palette]] = [
        ("figure2", {**baselines, **same_k}, "Ways of starting a network", "categorical")
    ]
    for distance in settings.distances:
        steps = {
            name: text
            for name, text in labels.items()
            if name == "random" or name.startswith(f"{distance}-k")
        }
        heading = f"Number of clusters, {_distance_label(distance)} distance"
        drawn.append((f"figure3-{distance}", steps, heading, "sequential"))
    return drawn


def subtitle(settings: Clusters, records: Sequence[tracking.RunRecord], title: str) -> str:
    """Says what the runs have in common: data, tasks, protocol, sources, device."""
    evaluation = settings.evaluation
    pairs = len({record.task for record in records})
    return (
        f"{title}: {pairs} pairs × {evaluation.seeds} seeds a variant, {evaluation.protocol} "
        f"runs, {settings.sources.sources} source models, {records[0].environment['device']}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the experiment and says where everything lies."""
    start = time.monotonic()
    with exit_status():
        settings = config.parse(
            PRESETS,
            argv,
            program="python -m experiments.clusters",
            description=(__doc__ or "").split("\n")[0],
        )
        runner.setup_compilation_cache()
        folder = Path(settings.evaluation.output)
        tracking.check_writable(folder)
        dataset = runner.load_data(settings.data)
        runner.check_pairs(settings.evaluation.pairs, dataset)
        sources = pretrain.Sources(dataset, settings.training, settings.sources).load()
        compared = variants(settings, sources, folder)
        records = runner.Runner(
            "clusters", compared, dataset, settings.training, settings.evaluation
        ).run()
        written = present(settings, compared, records, dataset.title)
        print(f"finished in {clock(time.monotonic() - start)}; written:")
        for path in written:
            print(f"  {path}")
        print(f"  {folder / 'runs'} (a file a run), {folder / 'banks'} (the clusters)")


if __name__ == "__main__":
    sys.exit(main())
