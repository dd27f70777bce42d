"""Finds the start in a file: a bank, weights of any kind, or a checkpoint, and its layers.

What no program tells, the order of the layers and of each kernel's axes, follows from this rule:

1. A state dict of a registered network (`jaxinit.models.torch`) has the order of its calls.
2. So has a tree with the names of `jaxinit.models.resnet`.
3. Of anything else the layers are all arrays of four axes, in the order of the file or tree. They
   are (height, width, in, out) if the name of each ends in "kernel" or "w", as Flax and Haiku have
   it, else (out, in, height, width), as PyTorch and Equinox have it; or as the caller says.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxinit import banks, checkpoints, tracing, trees, weights
from jaxinit import layers as network_layers
from jaxinit.banks import FilterBank
from jaxinit.declaring import declare
from jaxinit.layers import Network
from jaxinit.models import convolution, registry, torch
from jaxinit.signatures import Params

Layout = Literal["HWIO", "OIHW"]

_BOX = re.compile(r"/value$")  # of NNX
_CHANNELS_LAST = re.compile(r"(.*[./])?(kernel(:0)?|w)")
_KERNEL_ENDING = re.compile(r"[./](kernel(:0)?|weight|w)$")
_IMAGES = (1, 32, 32, 3)  # which all registered networks take


def opened(
    path: str | os.PathLike[str], layout: Layout | None = None
) -> tuple[Params | FilterBank, Network | None]:
    """Opens a file or folder that holds a start.

    Args:
        path: A bank (`jaxinit.banks.save`), the name of one that ships, a file of weights
            (`jaxinit.open_weights`), or the folder of an Orbax checkpoint, of which "params" is
            taken where there is such a branch.
        layout: Of the kernels: "HWIO" or "OIHW"; by the rule at the top of this module where not
            given. A layout given takes the place of the whole rule.

    Returns:
        The start and its network; None where it needs none.

    Raises:
        ValueError: Nothing there is a kernel, or the file is damaged or of another kind.
        FileNotFoundError: There is no such file.
        ImportError: A library that reads such files is not installed.
    """
    path = Path(path)
    if not path.exists():
        return _named(str(path))
    if path.is_dir():
        return _of_checkpoint(path, checkpoints.open_checkpoint(path), layout)
    stored = weights.open_weights(path)
    if "metadata" in stored and any(name.startswith("filters/") for name in stored):
        return banks.load(path), None
    if layout is None and (network := _registered(stored)) is not None:
        params = torch.from_torch(stored, network, lazy=True)["params"]
        return params, _convolutions(network)
    return _of_arrays(path, stored, layout)


def _named(name: str) -> tuple[FilterBank, None]:
    """The bank that ships under a text that is no path."""
    if name in banks.available():
        return banks.named(name), None
    raise FileNotFoundError(
        f"{name} does not exist: name a bank, a file of weights, the folder of a checkpoint, or a "
        f"bank that ships ({', '.join(banks.available())})"
    )


def _registered(state: Mapping[str, Any]) -> str | None:
    """Which registered network a state dict is of."""
    try:
        return torch.network_of(state)
    except ValueError:
        return None


@functools.cache
def _convolutions(name: str) -> Network:
    """The convolutions of a registered network, of whose inputs nothing is known."""
    module = registry.get(name).make(classes=1, convolve=convolution.plain_convolution)
    images = jax.ShapeDtypeStruct(_IMAGES, jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: module.init(key, x, train=False), jax.random.key(0), images
    )
    others = {kind: own for kind, own in variables.items() if kind != "params"}

    def apply(params: Params, others: Params, x: Array) -> Array:
        return module.apply({"params": params, **others}, x, train=False)  # pyrefly: ignore[bad-return]

    network = tracing.trace(apply, variables["params"], others, images)
    unsized = [dataclasses.replace(own, input_size=None, live=None) for own in network.layers]
    return Network(tuple(unsized))


def _of_checkpoint(path: Path, tree: Any, layout: Layout | None) -> tuple[Params, Network | None]:
    params = tree["params"] if isinstance(tree, Mapping) and "params" in tree else tree
    if layout is None:
        try:
            network_layers.of(params)
        except ValueError:
            pass
        else:
            return params, None
    arrays = {"/".join(map(str, own)): leaf for own, leaf in trees.leaves(params).items()}
    return _of_arrays(path, arrays, layout)


def _of_arrays(
    path: Path, arrays: Mapping[str, Any], layout: Layout | None
) -> tuple[Params, Network]:
    """Takes all that may be a kernel, in this order."""
    found = {
        _BOX.sub("", name): array
        for name, array in arrays.items()
        if trees.is_array(array)
        and len(array.shape) == 4
        and jnp.issubdtype(array.dtype, jnp.floating)
    }
    if not found:
        raise ValueError(
            f"{path} holds no kernels: none of its arrays has four axes and floating point numbers"
        )
    if layout is None and not all(map(_CHANNELS_LAST.fullmatch, found)):
        layout = "OIHW"
    short = [_KERNEL_ENDING.sub("", name) for name in found]
    if len(set(short)) == len(short):
        found = dict(zip(short, found.values(), strict=True))
    try:
        return found, declare(found, list(found), layout=layout)
    except ValueError:
        raise ValueError(
            f"the arrays of {path} do not look like (height, width, in, out): say --layout OIHW, "
            "or convert them"
        ) from None
