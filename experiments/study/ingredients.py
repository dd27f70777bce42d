"""What is made of source models: the banks of their filters, and starts drawn from these."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path

from experiments.cli.options import check
from experiments.cli.progress import Progress
from experiments.data.sets import Dataset
from experiments.runs.evaluation import Evaluation
from experiments.runs.sources import SourceModels, Sources
from experiments.runs.variants import Variant
from experiments.study import starts
from experiments.study.bank_cache import MEMBERS, BankCache
from experiments.study.clustering import Clustering
from experiments.training import networks
from experiments.training.hyperparameters import Training
from jaxinit import distances, initializers
from jaxinit.layers import LiveTaps, Network
from jaxinit.signatures import ParamsInitializer

_BOOTSTRAP = 4096  # real filters of each layer to draw from


class Ingredients:
    """The source models of one experiment, trained when first asked for, and what is made of them.

    Args:
        dataset: The first half of its superclasses is that of the source models.
        settings: Of the training, as given to the experiment.
        sources: How many models at most, and how they are trained.
        clustering: How their filters are clustered.
        overwrite: Train models and fit banks again.
        evaluated: The images that networks are then trained on, where others.
        progress: Of all that is to be done, if not of the source models alone.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: Training,
        sources: Sources,
        clustering: Clustering,
        *,
        overwrite: bool = False,
        evaluated: Dataset | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._sources = SourceModels(
            dataset, settings, sources, overwrite=overwrite, progress=progress
        )
        self._network = networks.make_network(1, settings)
        self.evaluated = dataset if evaluated is None else evaluated
        self._size = self.evaluated.train_images.shape[1:]
        self._clustering = clustering
        sources_network = networks.trace(self._network, dataset.train_images.shape[1:])
        self._banks = BankCache(self._sources, sources_network, clustering, overwrite=overwrite)
        self.bank, self.sources = self._banks.bank, self._banks.sources

    def checksums(self) -> Mapping[str, str]:
        """Of the source models that are there, by their names."""
        return self._sources.checksums()

    def work(self) -> dict[str, float]:
        """For each source model that is still to be trained, how many pixels it trains on."""
        return self._sources.work()

    def check_apart(self, evaluation: Evaluation) -> None:
        """Makes sure that nothing is compared on classes that a source model is trained on.

        Raises:
            UserError: It is, and that was not asked for.
        """
        self._sources.check_apart(self.evaluated, evaluation)

    @property
    def folder(self) -> Path:
        """Where the models and the banks lie."""
        return self._sources.folder

    @functools.cached_property
    def network(self) -> Network:
        """The convolutions of the networks that are started."""
        return networks.trace(self._network, self._size)

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
            check(
                1 <= number <= self.layers,
                f"{flag} {number} is out of range: say 1 to {self.layers}",
            )

    def names(self) -> tuple[str, ...]:
        """Where each source model comes from, without training or loading any."""
        return self._sources.names()

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
        check(
            k <= slices,
            f"--clusters {k} is too large: {slices} slices of the first layer are clustered, of "
            f"{count} source models",
        )
        chosen = representative or self._clustering.resolved(distance)
        name, label = f"{distance}-k{k}", f"{distances.get(distance).label}, {k} cluster"
        label += "s" if k > 1 else ""
        if models is not None:
            name, label = f"{name}-m{models}", f"{label}, {models} model{'s' if models > 1 else ''}"
        if layers != self.layers:
            name, label = f"{name}-l{layers}", f"{label}, {starts.layers_text(layers)}"
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
        if chosen == "member":
            settings["members"] = MEMBERS
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
        return Variant(
            f"whole-{layers}", f"Whole filters, {starts.layers_text(layers)}", make, settings
        )

    def bootstrap(self) -> Variant:
        """Filters drawn from those of the source models, as they are."""
        settings = {"kind": "bootstrap", "filters": _BOOTSTRAP, "sources": list(self.names())}
        settings["most_slices"] = self._clustering.most_slices

        def make() -> ParamsInitializer:
            bank = self.bank("euclidean", 1, representative="member", members=_BOOTSTRAP)
            return initializers.clustered(bank)

        return Variant("bootstrap", "Real filters", make, settings)

    def covariance(self) -> Variant:
        """Gaussian filters with the covariance of the source models' own, layer by layer."""

        def make() -> ParamsInitializer:
            return initializers.covariance([source.stored_params() for source in self.sources()])

        settings = {"kind": "covariance", "sources": list(self.names())}
        return Variant("covariance", "Covariance of filters", make, settings)
