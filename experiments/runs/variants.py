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
        make: Returns the `ParamsInitializer` that is applied to the network's default start. Only
            called where runs are missing, so that nothing is loaded or fitted for what is recorded
            already.
        settings: What identifies it, recorded with each run.
        training: Where it is trained otherwise than the others.
        of_images: How many training images of the task it is made of, at most; if any, `make`
            returns a function of these, normalised as the network sees them, to the initialiser.
            Both are traced.
    """

    name: str
    label: str
    make: Callable[[], Any]
    settings: dict[str, Any]
    training: Training | None = None
    of_images: int = 0

    def then(self, change: Callable[[ParamsInitializer], ParamsInitializer]) -> Any:
        """What `make` returns, with its initialiser changed: to make a variant of this one."""
        made = self.make()
        return (lambda images: change(made(images))) if self.of_images else change(made)


def sources_named(settings: Mapping[str, Any]) -> set[str]:
    """Returns the source models that a variant's settings, or those of its parts, name."""
    found = {settings["source"]} if "source" in settings else set()
    found |= set(settings.get("sources", ()))
    for value in settings.values():
        if isinstance(value, Mapping):
            found |= sources_named(value)
    return found
