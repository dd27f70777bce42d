"""The banks of an experiment's source models, each fitted once and kept beside the models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.cli import processes
from experiments.cli.errors import UserError
from experiments.cli.progress import say
from experiments.records import files, locks
from experiments.runs.sources import Source, SourceModels
from experiments.study.clustering import Clustering
from jaxinit import banks
from jaxinit.layers import Network

MEMBERS = 16  # of a cluster to draw from, where its members stand for it
_SEED = 0


class BankCache:
    """Fits banks of source models, or takes what is kept.

    Args:
        models: Trained when first asked for.
        network: The models' convolutions.
        clustering: How their filters are clustered.
        overwrite: Fit again what is kept.
    """

    def __init__(
        self, models: SourceModels, network: Network, clustering: Clustering, *, overwrite: bool
    ) -> None:
        self._models = models
        self._network = network
        self._clustering = clustering
        self._overwrite = overwrite
        self._loaded: list[Source] | None = None

    def sources(self) -> list[Source]:
        """All source models, trained where they are missing."""
        if self._loaded is None:
            self._loaded = self._models.load()
        return self._loaded

    def bank(
        self,
        distance: str,
        k: int,
        *,
        models: int | None = None,
        representative: str | None = None,
        members: int = MEMBERS,
        live_only: bool = False,
    ) -> banks.FilterBank:
        """Fits one bank and keeps it; takes what is kept where it was made from the same.

        Args:
            distance: Between slices.
            k: Number of clusters of each layer.
            models: Only the first so many source models; all where not given.
            representative: The filter that stands for a cluster; as the options say where not
                given.
            members: How many of a cluster are kept to be drawn, where its members stand for it.
            live_only: Cluster the taps that met data in the source models alone.

        Raises:
            UserError: A bank that is kept is damaged, or one that cannot be fitted or written.
        """
        chosen = representative or self._clustering.resolved(distance)
        names = self._models.names()[:models]
        asked = {"clusters": k, "distance": distance, "representative": chosen}
        options = {name: getattr(self._clustering, name) for name in ("restarts", "most_slices")}
        file = self._file({**asked, "sources": names}, options, members, live_only)
        kept_members = members if chosen == "member" else 1
        wanted = {**asked, "members": kept_members}
        kept = self._kept(file, names, wanted)
        # As the first process has found it: another command may have made it just now.
        if any(processes.agreed([kept is not None])):
            kept = kept or self._kept(file, names, wanted)
            if kept is not None:
                return kept
        params = [source.stored_params() for source in self.sources()[:models]]
        with locks.held(file):
            # Another process may have made it in the meantime.
            if (kept := self._kept(file, names, wanted)) is not None:
                return kept
            say(f"clustering the filters of {len(params)} models: {distance}, k = {k}, {chosen}")
            try:
                bank = banks.fit(
                    jax.random.key(_SEED),
                    params,
                    members_per_cluster=members,
                    live=self._network.live_taps() if live_only else None,
                    network=self._network,
                    sources=[*self._said(names), file.stem],
                    **options,
                    **asked,
                )
            except ValueError as error:
                raise UserError(str(error)) from error
            if processes.is_first():
                with files.writing_to(file):
                    banks.save(bank, file)
        return bank

    def _file(
        self, asked: dict[str, Any], options: dict[str, int], members: int, live_only: bool
    ) -> Path:
        sources: Sequence[str] = asked["sources"]
        parts = [asked["distance"], f"k{asked['clusters']}", f"m{len(sources)}"]
        parts += [asked["representative"], *(f"{name}-{value}" for name, value in options.items())]
        parts += [f"members-{members}"] if members != MEMBERS else []
        parts += ["live"] if live_only else []
        return self._models.folder / "banks" / f"{'-'.join(parts)}.npz"

    def _said(self, names: Sequence[str]) -> list[str]:
        """The models, each with the beginning of its checksum where that is known."""
        known = self._models.checksums()
        return [f"{name} {known.get(name, '')[:16]}".strip() for name in names]

    def _kept(
        self, file: Path, names: Sequence[str], asked: dict[str, Any]
    ) -> banks.FilterBank | None:
        """Reads what is kept, if it was made as asked, of these models and of this network.

        It says so itself; what banks did not say at first counts as asked.
        """
        if self._overwrite or not file.exists():
            return None
        try:
            kept = banks.load(file)
        except (ValueError, OSError) as error:
            raise UserError(f"{error}; delete {file}, it will be made anew") from error
        same = all(getattr(kept.provenance, name) == value for name, value in asked.items())
        sizes = {layer.name: tuple(layer.size) for layer in self._network.main}
        same &= {name: tuple(size) for name, size in kept.kernel_sizes.items()} == sizes
        said = [source for source in kept.provenance.sources if source != file.stem]
        return kept if same and _agree(said, self._said(names), names) else None


def _agree(said: Sequence[str], own: Sequence[str], names: Sequence[str]) -> bool:
    """Whether models that a bank names are these; checksums count where both sides have them."""

    def is_one(theirs: str, ours: str, name: str) -> bool:
        named = all(one == name or one.startswith(f"{name} ") for one in (theirs, ours))
        return theirs == ours or (named and name in (theirs, ours))

    return len(said) == len(own) and all(map(is_one, said, own, names))
