"""What the experiments start networks from: source models, the banks of their filters, variants."""

import dataclasses
import functools
import math
from pathlib import Path

import jax

from experiments import config, data, pretrain, processes, tracking, training
from experiments.errors import UserError
from experiments.progress import Progress, say
from experiments.runner import Variant
from jaxinit import banks, distances, initializers
from jaxinit.layers import LiveTaps, Network
from jaxinit.types import Params, ParamsInitializer, PRNGKey

_FEWEST_CLUSTERED = 192  # slices of a layer: what a first layer of 64 filters has
DISTANCES = ("euclidean", "fourier", "fourier_real", "cosine")
_BANK_SEED = 0
_GABOR_SEED = 0
_MEMBERS = 16  # of a cluster to draw from
_BOOTSTRAP = 4096  # real filters of each layer to draw from


@dataclasses.dataclass(frozen=True)
class Clustering:
    """How filters are clustered."""

    distances: tuple[str, ...] = config.option(
        ("euclidean", "fourier"),
        "distances between slices of filters; fourier is that of magnitudes, fourier_real of real "
        "parts (the authors' program)",
        choices=DISTANCES,
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
    most_slices: int = config.option(
        2**24,
        "slices of one layer that are clustered; where the models together have more, as many are "
        "drawn evenly",
    )

    def __post_init__(self) -> None:
        config.check(self.restarts >= 1, f"--restarts {self.restarts} is too small: say 1 or more")
        config.check(
            self.most_slices >= _FEWEST_CLUSTERED,
            f"--most-slices {self.most_slices} is too small: say {_FEWEST_CLUSTERED} or more",
        )
        for distance in self.distances:
            config.check(
                self.representative != "inverse" or distances.get(distance).inverse is not None,
                f"--representative inverse does not go with {distance}, which has no inverse: "
                "choose centroid, medoid or member",
            )

    def resolved(self, distance: str) -> str:
        """How a cluster becomes a filter (`jaxinit.banks.REPRESENTATIVES` says what follows)."""
        if self.representative != "auto":
            return self.representative
        return {"fourier": "member", "fourier_real": "inverse"}.get(distance, "centroid")


def random() -> Variant:
    """The network's own default start."""
    return Variant("random", "Random", initializers.unchanged, {"kind": "random"})


def gabor(layers: int, *, identical: bool = False) -> Variant:
    """Gabor filters in the first layers; identical: the same in all runs, as the authors'."""
    draw = initializers.gabor(layers=layers)

    def always_the_same(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key
        return draw(jax.random.key(_GABOR_SEED), params, network=network)

    if identical:
        return Variant(
            f"gabor-{layers}-identical",
            f"Gabor, {_layers(layers)}, identical",
            lambda: always_the_same,
            {"kind": "gabor", "layers": layers, "identical": True},
        )
    label, settings = f"Gabor, {_layers(layers)}", {"kind": "gabor", "layers": layers}
    return Variant(f"gabor-{layers}", label, lambda: draw, settings)


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"


def distance_label(distance: str) -> str:
    """Names a distance in figures and tables."""
    return {"fourier_real": "Fourier (real part)"}.get(distance, distance.capitalize())


class Ingredients:
    """The source models of one experiment, trained when first asked for, and what is made of them.

    Args:
        dataset: Its superclasses 0–9 are the clustering half.
        settings: Of the training, as given to the experiment.
        sources: How many models at most, and how they are trained.
        clustering: How their filters are clustered.
        overwrite: Train models and fit banks again.
        evaluated: The images that networks are then trained on, where others.
        progress: Of all that is to be done, if not of the source models alone.
    """

    def __init__(
        self,
        dataset: data.Dataset,
        settings: config.Training,
        sources: config.Sources,
        clustering: Clustering,
        *,
        overwrite: bool = False,
        evaluated: data.Dataset | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._sources = pretrain.Sources(
            dataset, settings, sources, overwrite=overwrite, progress=progress
        )
        self._network = training.make_network(1, settings)
        self._source_size = dataset.train_images.shape[1:3]
        self._size = (evaluated or dataset).train_images.shape[1:3]
        self._clustering = clustering
        self._overwrite = overwrite
        self._loaded: list[pretrain.Source] | None = None

    def work(self) -> dict[str, float]:
        """For each source model that is still to be trained, how many pixels it trains on."""
        return self._sources.work()

    @property
    def folder(self) -> Path:
        """Where the models and the banks lie."""
        return self._sources.folder

    @functools.cached_property
    def network(self) -> Network:
        """The convolutions of the networks that are started."""
        return training.trace(self._network, self._size)

    @functools.cached_property
    def layers(self) -> int:
        """How many of these have more than one tap: all that are initialised."""
        return len(self.network.main)

    @functools.cached_property
    def live(self) -> LiveTaps:
        """The taps that meet data in the networks that are started."""
        return self.network.live_taps()

    def check_layers(self, flag: str, *numbers: int) -> None:
        """Makes sure that the networks have so many layers.

        Raises:
            UserError: They have fewer.
        """
        for number in numbers:
            config.check(
                1 <= number <= self.layers,
                f"{flag} {number} is out of range: say 1 to {self.layers}",
            )

    def names(self) -> tuple[str, ...]:
        """Where each source model comes from, without training or loading any."""
        return self._sources.names()

    def sources(self) -> list[pretrain.Source]:
        """All source models, trained where they are missing."""
        if self._loaded is None:
            self._loaded = self._sources.load()
        return self._loaded

    def pretrained(self) -> Variant:
        """The first source model as it is."""
        return Variant(
            "pretrained",
            "Pretrained",
            lambda: initializers.pretrained(self.sources()[0].load()["params"]),
            {"kind": "pretrained", "source": self.names()[0]},
        )

    def clustered(
        self,
        distance: str,
        k: int,
        *,
        models: int | None = None,
        layers: int | None = None,
        representative: str | None = None,
        live_only: bool = False,
    ) -> Variant:
        """Filters drawn from k clusters a layer.

        Args:
            distance: Between slices.
            k: Number of clusters of each layer.
            models: Only the first so many source models; all where not given, and then not in the
                variant's name.
            layers: How many convolutions are initialised, the first so many; in the name where not
                all. All where not given.
            representative: The filter that stands for a cluster; as the options say where not
                given.
            live_only: Cluster the taps that met data in the source models alone; in the name if so.

        Raises:
            UserError: If the first layer of all models has fewer slices than k.
        """
        layers = self.layers if layers is None else layers
        count, fewest = len(self.names()[:models]), self._fewest_slices
        slices = min(fewest * count, self._clustering.most_slices // count * count)
        config.check(
            k <= slices,
            f"--clusters {k} is too large: {slices} slices of the first layer are clustered, of "
            f"{count} source models",
        )
        chosen = representative or self._clustering.resolved(distance)
        name, label = f"{distance}-k{k}", f"{distance_label(distance)}, {k} cluster"
        label += "s" if k > 1 else ""
        if models is not None:
            name, label = f"{name}-m{models}", f"{label}, {models} models"
        if layers != self.layers:
            name, label = f"{name}-l{layers}", f"{label}, {_layers(layers)}"
        if self._clustering.representative != "auto":
            name = f"{name}-{self._clustering.representative}"
            label = f"{label}, {self._clustering.representative}"
        settings = {
            "kind": "clustered",
            "clusters": k,
            "distance": distance,
            "representative": chosen,
            "restarts": self._clustering.restarts,
            "most_slices": self._clustering.most_slices,
            "layers": layers,
            "sources": list(self.names()[:models]),
        }
        if live_only:
            name, label, settings["live_only"] = f"{name}-live", f"{label}, live taps", True
        return Variant(
            name,
            label,
            lambda: initializers.clustered(
                self.bank(distance, k, models=models, representative=chosen, live_only=live_only),
                layers=layers,
            ),
            settings,
        )

    @functools.cached_property
    def _fewest_slices(self) -> int:
        """Of one model's layers: mostly its first."""
        return min(math.prod(layer.shape[-2:]) for layer in self.network.main)

    def whole_filters(self, layers: int = 1) -> Variant:
        """Whole filters of the source models in the first layers."""

        def make() -> ParamsInitializer:
            sources = [source.stored_params() for source in self.sources()]
            return initializers.whole_filters(sources, layers=layers)

        settings = {"kind": "whole_filters", "layers": layers, "sources": list(self.names())}
        return Variant(f"whole-{layers}", f"Whole filters, {_layers(layers)}", make, settings)

    def bootstrap(self) -> Variant:
        """Filters drawn from those of the source models, as they are."""
        settings = {"kind": "bootstrap", "filters": _BOOTSTRAP, "sources": list(self.names())}
        settings["most_slices"] = self._clustering.most_slices

        def make() -> ParamsInitializer:
            bank = self.bank("euclidean", 1, representative="member", members=_BOOTSTRAP)
            return initializers.clustered(bank)

        return Variant("bootstrap", "Real filters", make, settings)

    def bank(
        self,
        distance: str,
        k: int,
        *,
        models: int | None = None,
        representative: str | None = None,
        members: int = _MEMBERS,
        live_only: bool = False,
    ) -> banks.FilterBank:
        """Fits one bank and keeps it; takes what is kept where it was made from the same.

        Arguments are as of `clustered`; `members` is how many of a cluster are kept to be drawn.
        """
        chosen = representative or self._clustering.resolved(distance)
        asked = {
            "clusters": k,
            "distance": distance,
            "representative": chosen,
            "sources": self.names()[:models],
        }
        stem = f"{distance}-k{k}-m{len(asked['sources'])}-{chosen}"
        options = {name: getattr(self._clustering, name) for name in ("restarts", "most_slices")}
        stem += "".join(f"-{name}-{value}" for name, value in options.items())
        stem += f"-members-{members}" if members != _MEMBERS else ""
        stem += "-live" if live_only else ""
        path = self.folder / "banks" / f"{stem}.npz"
        if path.exists() and not self._overwrite:
            try:
                kept = banks.load(path)
            except (ValueError, OSError) as error:
                raise UserError(f"{error}; delete {path}, it will be made anew") from error
            if all(getattr(kept.provenance, name) == value for name, value in asked.items()):
                return kept
        try:
            params = [source.stored_params() for source in self.sources()[:models]]
            known = training.trace(self._network, self._source_size)
            say(f"clustering the filters of {len(params)} models: {distance}, k = {k}, {chosen}")
            bank = banks.fit(
                jax.random.key(_BANK_SEED),
                params,
                members_per_cluster=members,
                live=known.live_taps() if live_only else None,
                network=known,
                **options,
                **asked,
            )
            if processes.is_first():
                with tracking.writing_to(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    banks.save(bank, path)
        except ValueError as error:
            raise UserError(str(error)) from error
        return bank
