"""A way of starting a network, under its name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from experiments.training.hyperparameters import Training
from jaxinit.signatures import ParamsInitializer


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of starting a network.

    Attributes:
        name: Short, for files: "euclidean-k3".
        label: For figures and tables: "Euclidean, 3 clusters".
        make: Returns what is applied to the network's default start. Only called where runs are
            missing, so that nothing is loaded or fitted for what is recorded already.
        settings: What identifies it, recorded with each run.
        training: Where it is trained otherwise than the others.
    """

    name: str
    label: str
    make: Callable[[], ParamsInitializer]
    settings: dict[str, Any]
    training: Training | None = None


def sources_named(settings: Mapping[str, Any]) -> set[str]:
    """Returns the source models that a variant's settings, or those of its parts, name."""
    found = {settings["source"]} if "source" in settings else set()
    found |= set(settings.get("sources", ()))
    for value in settings.values():
        if isinstance(value, Mapping):
            found |= sources_named(value)
    return found
