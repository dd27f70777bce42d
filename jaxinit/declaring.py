"""Which leaves of a tree are convolutions, said by hand where no network can be traced."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxinit import checks, kernels, trees
from jaxinit.layers import Layer, Network


def declare(params: Any, names: Sequence[str], *, layout: str | None = None) -> Network:
    """Says which leaves of a tree are convolutions, in their order, where nothing can be traced.

    For weights without their network, such as those of a file.

    Args:
        params: A tree of parameters; shapes suffice.
        names: Of the convolutions, in the order of calls: paths of leaves joined by "/", without
            the last part where it is "kernel", "weight" or "w".
        layout: The order of each leaf's axes: "O" and "I" are output and input channels, all other
            letters are spatial axes, in this order. "HWIO" where not given, and then a shape is
            refused that is more likely PyTorch's.

    Raises:
        ValueError: A name that no leaf has, or a leaf of another rank than the layout.
    """
    is_given = layout is not None
    layout = layout if is_given else "HWIO"
    checks.kind("layout", layout, str, "a text such as HWIO")
    checks.kind("names", names, list | tuple, "a list of names")
    spatial = [axis for axis, letter in enumerate(layout) if letter not in "IO"]
    if sorted(layout.replace("I", "").replace("O", "") + "IO") != sorted(layout) or (
        not spatial or len(set(layout)) < len(layout)
    ):
        raise ValueError(f"layout={layout!r} must have one I, one O and a letter a spatial axis")
    order = (*spatial, layout.index("I"), layout.index("O"))
    found = {}
    for path, leaf in trees.leaves(params).items():
        leaf_and_shape = (path, tuple(np.shape(leaf)))
        found[trees.module_name(path)] = found["/".join(map(str, path))] = leaf_and_shape
    layers = []
    if isinstance(names, str):
        raise ValueError(f"names must be a list of names, not the text {names!r}")
    for name in names:
        if not isinstance(name, str) or name not in found:
            raise ValueError(f"no leaf is called {name!r}: there are {', '.join(sorted(found))}")
        path, shape = found[name]
        if len(shape) != len(layout):
            raise ValueError(
                f"{name} has the shape {shape}, which is not {len(layout)} axes as in {layout}"
            )
        view = kernels.simplified((kernels.Transpose(order),), shape)
        if not is_given:
            kernels.check_channels_last(shape)
        layers.append(Layer(name, path, view, tuple(shape[axis] for axis in order), stored=shape))
    return Network(tuple(layers))
