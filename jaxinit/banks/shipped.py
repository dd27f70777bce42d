"""Banks that come with the library: fitted on trained networks, so that nobody has to train any.

What ships is the clusters, not the weights they were found in. Each bank has a card beside it,
`data/<name>.json`, with the fields of `Card`; `experiments.make_banks` writes both.
"""

import dataclasses
import json
import textwrap
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jaxinit import choices
from jaxinit.banks import bank_file
from jaxinit.banks.filter_bank import FilterBank


@dataclasses.dataclass(frozen=True)
class Card:
    """What a bank that ships was made of, and on what terms.

    Attributes:
        name: By which it is asked for.
        title: In one line.
        networks: Which networks its filters are of, and how many.
        data: What these were trained on.
        accuracy: Of the networks, on images that they were not trained on, and who measured it.
        method: How filters became clusters.
        command: Makes the bank, given the networks.
        licence: On what terms the networks came, and the bank may be used.
        attribution: Whom to name.
        remarks: What to know before use.
        norms: For each layer the norm of a kernel drawn for the networks themselves, as a multiple
            of the default's, root mean square: √(i·o·E‖slice‖² / 2i) over the taps that met data.
        size: Of the file, in bytes.
        checksum: That the file names (`bank_file.checksum`), SHA-256 in hexadecimal.
    """

    name: str
    title: str
    networks: str
    data: str
    accuracy: str
    method: str
    command: str
    licence: str
    attribution: str
    remarks: str
    norms: Mapping[str, float]
    size: int
    checksum: str

    def __str__(self) -> str:
        """The card as text of at most 100 columns."""
        lines = [f"{self.name}: {self.title}"]
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if field.name == "norms":
                value = ", ".join(f"{layer} {norm:.2f}" for layer, norm in value.items())
                value += " (of the default's)"
            elif field.name == "size":
                value = f"{value / 1000:.0f} kB"
            lines += textwrap.wrap(
                f"{field.name + ':':<13}{value}",
                100,
                initial_indent="  ",
                subsequent_indent=" " * 15,
                break_on_hyphens=False,
            )
        return "\n".join(lines)


def available() -> dict[str, Card]:
    """The banks that ship, by name, each with its card.

    Example:
        >>> from jaxinit import banks
        >>> for name, card in banks.available().items():
        ...     print(f"{name}: {card.data}")  # doctest: +ELLIPSIS
        cifar10-resnets: CIFAR-10...
    """
    return dict(_cards())


def named(name: str) -> FilterBank:
    """Reads a bank that ships.

    Args:
        name: One of `available()`.

    Raises:
        ValueError: There is none of this name, or its file is damaged or not the card's.

    Example:
        >>> import jax, jaxinit
        >>> bank = jaxinit.banks.named("imagenet-resnet18")
        >>> jaxinit.banks.draw(jax.random.key(0), bank, "conv1", (7, 7, 3, 16)).shape
        (7, 7, 3, 16)
    """
    cards = _cards()
    if not isinstance(name, str) or name not in cards:
        raise choices.unknown(f"bank {name!r}", cards, "; banks.load reads a file of your own")
    with resources.as_file(_folder() / f"{name}.npz") as path:
        bank, found = bank_file.read(path)
    if found != cards[name].checksum:
        raise ValueError(
            f"the file of bank {name!r} is not the one that its card speaks of: install jaxinit "
            "anew"
        )
    return bank


def _folder() -> Any:
    return resources.files("jaxinit.banks") / "data"


def _cards() -> dict[str, Card]:
    texts = {
        entry.name.removesuffix(".json"): entry.read_text(encoding="utf-8")
        for entry in _folder().iterdir()
        if entry.name.endswith(".json")
    }
    return {name: Card(**json.loads(texts[name])) for name in sorted(texts)}
