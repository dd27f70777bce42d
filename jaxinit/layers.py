"""Which convolutions a network has, in the order of its calls, and which of them are meant.

`jaxinit.trace` finds them in any network (`jaxinit.tracing`). What is said here holds for every
network alike: *main* layers are the convolutions whose kernels have more than one tap. The others,
1×1, are on shortcuts (the paper leaves those out) or mix channels, where there is no filter to
speak of. Numbers and slices count main layers; names, patterns and predicates reach all.
"""

import dataclasses
import fnmatch
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxinit import checks, kernels, trees
from jaxinit.kernels import View
from jaxinit.trees import Path

#: For each convolution with taps that only ever meet padding, the others along each spatial axis.
LiveTaps = Mapping[str, tuple[slice, ...]]

_HOW = (
    "give network=jaxinit.trace(apply, params, x), which finds them in the order of their calls "
    "(jaxinit.declare where the network cannot be run)"
)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution of a network, all of it static.

    Attributes:
        name: The path of its module joined by "/", "layer1_0/conv1"; "[2]" follows where it is the
            third of a stack; the whole path where a module has several kernels.
        path: Of the leaf that holds the kernel; None where none does.
        view: How the leaf becomes the kernel.
        shape: Of the kernel (spatial …, in, out); of grouped ones `in` is that of one group.
        stride: Along each spatial axis; None where the network was not traced.
        padding: (before, after) along each spatial axis; None likewise.
        dilation: Of the kernel; None likewise.
        input_dilation: Above 1 in transposed convolutions; None likewise.
        groups: Number of feature groups; 1 where the network was not traced.
        input_size: Of the first call, along each spatial axis; None likewise.
        calls: How many places of the program call it.
        live: First tap, and one past the last, that ever meet data along each spatial axis.
        computed_from: The leaves that a kernel is computed from which is no leaf itself, as with
            weight normalisation, or shares some of its numbers with another layer: it cannot be
            filled. Empty for all others.
        stored: Shape of the leaf.
        reads_input: Whether some call of it sees what no convolution has been applied to; None
            where the network was not traced.
    """

    name: str
    path: Path | None
    view: View
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    padding: tuple[tuple[int, int], ...] | None = None
    dilation: tuple[int, ...] | None = None
    input_dilation: tuple[int, ...] | None = None
    groups: int = 1
    input_size: tuple[int, ...] | None = None
    calls: int = 1
    live: tuple[tuple[int, int], ...] | None = None
    computed_from: tuple[str, ...] = ()
    stored: tuple[int, ...] = ()
    reads_input: bool | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Taps along each spatial axis."""
        return self.shape[:-2]

    @property
    def is_main(self) -> bool:
        """Whether the kernel has more than one tap."""
        return any(taps > 1 for taps in self.size)

    @property
    def is_transposed(self) -> bool:
        """Whether zeros are put between the pixels of its input."""
        return any(step > 1 for step in self.input_dilation or ())

    @property
    def layout(self) -> str:
        """The order of the leaf's axes, "HWIO" or "OIHW"; "" where they were split or stacked."""
        letters = {1: "WIO", 2: "HWIO", 3: "DHWIO"}.get(len(self.size), "")
        if not letters or self.path is None or len(self.view) > 1:
            return ""
        if not self.view:
            return letters
        if not isinstance(step := self.view[0], kernels.Transpose):
            return ""
        return "".join(letters[step.axes.index(axis)] for axis in range(len(letters)))

    @property
    def dead_taps(self) -> bool:
        """Whether some taps only ever meet padding."""
        live = self.live or ()
        return any(own != (0, taps) for own, taps in zip(live, self.size, strict=False))


@dataclasses.dataclass(frozen=True)
class Dense:
    """One linear layer of a network.

    Attributes:
        name: As of a `Layer`.
        path: Of the leaf that holds the kernel.
        view: How the leaf becomes the kernel.
        shape: (in, out), each the product of what the leaf has.
    """

    name: str
    path: Path
    view: View
    shape: tuple[int, int]


#: Whether a layer is meant.
Predicate = Callable[[Layer], bool]

#: What an initialiser may be told to act on: the first k main layers, a slice of them, their
#: numbers (from 0, or from the end below 0), names or patterns such as "layer1_*/conv?", a
#: predicate of `Layer`, or all main layers (None).
Layers = (
    int
    | np.integer
    | slice
    | str
    | Layer
    | Predicate
    | Sequence[int | np.integer | str | Layer]
    | np.ndarray
    | None
)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Network:
    """The convolutions and linear layers of a network: a hashable value, static under `jit`.

    Attributes:
        layers: Every convolution, in the order of first calls.
        dense: Every linear layer whose kernel is a leaf, likewise.

    Example:
        >>> import jaxinit
        >>> network = jaxinit.declare({"stem": {"kernel": np.ones((3, 3, 1, 8))}}, ["stem"])
        >>> network.names
        ('stem',)
        >>> network["stem"].shape
        (3, 3, 1, 8)
    """

    layers: tuple[Layer, ...]
    dense: tuple[Dense, ...] = ()

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.layers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two kernels are called {twice!r}: rename one of them")

    @property
    def main(self) -> tuple[Layer, ...]:
        """The convolutions whose kernels have more than one tap."""
        return tuple(layer for layer in self.layers if layer.is_main)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the main layers."""
        return tuple(layer.name for layer in self.main)

    @property
    def head(self) -> Dense | None:
        """The linear layer that is called last."""
        return self.dense[-1] if self.dense else None

    def __getitem__(self, name: str) -> Layer:
        """Returns the convolution of this name.

        Raises:
            ValueError: There is none.
        """
        checks.kind("name", name, str, "that of a layer")
        for layer in (own for own in self.layers if own.name == name):
            return layer
        raise ValueError(f"layer {name!r} is not in the network: {self._known()}")

    def __iter__(self) -> Iterator[Layer]:
        """The convolutions, in the order of calls."""
        return iter(self.layers)

    def __contains__(self, layer: object) -> bool:
        """Whether there is a convolution of this name, or this one."""
        return any(layer in (own, own.name) for own in self.layers)

    def place(self, layer: Layer) -> int:
        """A number of the layer's own: its place among main layers; others come after those."""
        return self._places[layer.name]

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        others = (layer for layer in self.layers if not layer.is_main)
        return {layer.name: number for number, layer in enumerate((*self.main, *others))}

    def live_taps(self) -> dict[str, tuple[slice, ...]]:
        """For each convolution with taps that only ever meet padding, the block of the others."""
        return {
            layer.name: tuple(slice(*own) for own in layer.live or ())
            for layer in self.layers
            if layer.dead_taps
        }

    def select(self, layers: Layers = None) -> tuple[Layer, ...]:
        """Resolves what a caller means by "layers".

        Args:
            layers: None for all main layers; k for the first k of them; a slice or numbers of them;
                names, patterns (`block?/*`, `blocks[*]`), or a predicate, of all convolutions.

        Returns:
            The chosen convolutions, in the order of calls.

        Raises:
            ValueError: What is not there, or has a kernel that no leaf holds; none of these.
            TypeError: A bool or a fraction.
        """
        chosen = self._chosen(layers)
        for layer in chosen:
            if layer.computed_from:
                raise ValueError(
                    f"the kernel of {layer.name} is computed from "
                    f"{', '.join(layer.computed_from)}, so that it cannot be filled: choose others "
                    "(layers=lambda layer: layer.is_main and not layer.computed_from), or "
                    "jaxinit.declare its leaf"
                )
        return chosen

    def _chosen(self, layers: Layers) -> tuple[Layer, ...]:
        main = self.main
        if layers is None:
            if not main:
                raise ValueError(f"there is no layer to choose: {self._known()}")
            return main
        if isinstance(layers, bool):
            raise TypeError("layers must be a number, a slice, names or a predicate, not a bool")
        if isinstance(layers, int | np.integer):
            if not 0 <= layers <= len(main):
                raise ValueError(
                    f"layers={layers} is out of range: it is the number of first layers, 0 to "
                    f"{len(main)} here; say [{layers}] for one layer"
                )
            return main[: int(layers)]
        if isinstance(layers, slice):
            ends = {"start": layers.start, "stop": layers.stop, "step": layers.step}
            checks.whole(**{name: end for name, end in ends.items() if end is not None})
            if layers.step is not None and layers.step < 1:
                raise ValueError("layers are in the order of calls: give a slice that goes forward")
            return main[layers]
        if callable(layers):
            chosen = tuple(layer for layer in self.layers if layers(layer))
            if not chosen:
                raise ValueError(f"the predicate holds for no layer: {self._known()}")
            return chosen
        if isinstance(layers, float):
            raise TypeError(f"{layers=} must be a whole number, a slice, names or a predicate")
        several = [layers] if isinstance(layers, str | Layer) else layers
        if isinstance(several, np.ndarray):
            several = np.ravel(several).tolist()
        checks.kind(
            "layers", several, list | tuple | range, "numbers, a slice, names or a predicate"
        )
        names = {name for one in several for name in self._named(one, main)}
        return tuple(layer for layer in self.layers if layer.name in names)

    def _named(self, one: Any, main: tuple[Layer, ...]) -> list[str]:
        if isinstance(one, int | np.integer) and not isinstance(one, bool):
            if -len(main) <= one < len(main):
                return [main[int(one)].name]
        elif isinstance(one, Layer):
            if one in self.layers:
                return [one.name]
            one = one.name
        elif isinstance(one, str):
            every = [layer.name for layer in self.layers]
            # Brackets are those of "blocks[2]" first, and only then a choice of letters.
            tried = (fnmatch.filter(every, as_is) for as_is in (one.replace("[", "[[]"), one))
            found = [one] if one in every else next(filter(None, tried), [])
            if found:
                return found
        raise ValueError(f"layer {one!r} is not in the network: {self._known()}")

    def _known(self) -> str:
        main = f"its {len(self.names)} main layers are {', '.join(self.names)}"
        if not self.names:
            main = "the network has no convolution with more than one tap"
        others = [layer.name for layer in self.layers if not layer.is_main]
        return main + (f"; 1×1 are {', '.join(others)}" if others else "")

    def __str__(self) -> str:
        """A table of the convolutions."""
        head = ("layer", "leaf", "kernel", "layout", "stride", "groups", "input", "live")
        rows = [head] + [_row(layer) for layer in self.layers]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def _row(layer: Layer) -> tuple[str, ...]:
    def sides(numbers: Sequence[int] | None) -> str:
        return "?" if numbers is None else kernels.sides(numbers)

    leaf = f"computed from {', '.join(layer.computed_from)}"
    if layer.path is not None:
        leaf = "/".join(map(str, layer.path)) or "(the whole)"
    live = [stop - start for start, stop in layer.live or ()]
    return (
        layer.name,
        leaf,
        sides(layer.shape),
        layer.layout or "–",
        sides(layer.stride),
        str(layer.groups),
        sides(layer.input_size),
        sides(live if layer.live else None),
    )


# What the modules of `jaxinit.models.resnet` call their parameters: names that tell their order.
_OURS = re.compile(
    r"(conv1|layer\d+_\d+/(conv\d|shortcut_conv)|fc)/kernel"
    r"|(bn1|layer\d+_\d+/(bn\d|shortcut_bn))/(scale|bias)|fc/bias"
)


def of(params: Any, network: Network | None = None, *, shapes: bool = True) -> Network:
    """Returns the convolutions of a tree of parameters.

    Args:
        params: A tree of parameters; shapes suffice.
        network: Traced, if it was. Only the trees of `jaxinit.models.resnet` do without: their
            names tell the order of their layers.
        shapes: Whether leaves must have the shapes that they were traced with.

    Raises:
        ValueError: No network is given and the order is not certain, or it is of another tree.
    """
    if network is None:
        return _ours(params)
    if not isinstance(network, Network):
        raise ValueError(
            f"network must be what jaxinit.trace returns, not {type(network).__name__}"
        )
    checks.kind("shapes", shapes, bool, "True or False")
    found = trees.leaves(params)
    for layer in network.layers:
        if layer.path is None:
            continue
        name = "/".join(map(str, layer.path)) or "the kernel"
        if layer.path not in found:
            raise ValueError(
                f"the network was traced with other parameters: this tree has no {name}; trace it "
                "with the tree that is to be filled"
            )
        shape = tuple(np.shape(found[layer.path]))
        if shapes and shape != layer.stored:
            raise ValueError(
                f"the network was traced with other parameters: {name} has the shape {shape} here "
                f"and {layer.stored} there; trace it with the tree that is to be filled"
            )
    return network


def _ours(params: Any) -> Network:
    found = trees.leaves(params)
    names = {"/".join(map(str, path)): path for path in found}
    if not names or not all(_OURS.fullmatch(name) for name in names):
        raise ValueError(f"the order of this tree's convolutions is not known: {_HOW}")
    layers = []
    for name in sorted(names, key=_natural):
        shape = tuple(found[names[name]].shape)
        if name.endswith("/kernel") and name != "fc/kernel":
            if len(shape) != 4:
                raise ValueError(
                    f"{name} has the shape {shape}, which is not (height, width, in, out): {_HOW}"
                )
            layers.append(
                Layer(trees.module_name(names[name]), names[name], (), shape, stored=shape)
            )
    head = names.get("fc/kernel")
    dense = () if head is None else (Dense("fc", head, (), tuple(found[head].shape)),)
    return Network(tuple(layers), dense)


def _natural(path: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path)
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts]


def live_part(kernel: Any, layer: Layer, live: LiveTaps | None) -> Any:
    """Returns the block of a kernel's taps that meet data.

    Args:
        kernel: Of the layer (spatial …, in, out).
        layer: Of a network.
        live: See `Network.live_taps`; all taps of layers that it does not name, and of all where it
            is None.
    """
    checks.live(live)
    return kernel[live[layer.name]] if live and layer.name in live else kernel
