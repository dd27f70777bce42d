"""Which leaves of a params tree are convolution kernels, in forward order; kernels ⇄ 2-D slices."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinit.types import Params

# What an initialiser may be told to act on: the first k layers, a slice of them, their numbers
# (from 0), their names, or all (None).
Layers = int | slice | Sequence[int] | Sequence[str] | None

# For each convolution with taps that only ever meet padding, the rows and columns of the others.
LiveTaps = Mapping[str, tuple[slice, slice]]

_SHORTCUT = "shortcut"


def layer_names(params: Params) -> tuple[str, ...]:
    """Names the convolutions that are not on a shortcut, in forward order.

    A convolution is a leaf called `kernel` of rank 4 (height, width, in, out). Forward order is the
    natural order of the paths (`layer2_0/conv1` before `layer2_0/conv2` before `layer10_0/conv1`),
    which the networks of `jaxinit.models` are named by; dictionaries forget theirs in JAX. A path
    with a component that starts with `shortcut` is left out, as the paper does.

    Args:
        params: A nested mapping of arrays; bare or abstract (`jax.eval_shape`) leaves both do.

    Returns:
        Paths without the `kernel`, joined with "/": ("conv1", "layer1_0/conv1", …).
    """
    paths: list[str] = []

    def walk(tree: Any, path: tuple[str, ...]) -> None:
        for name, value in tree.items():
            if hasattr(value, "items"):
                walk(value, (*path, name))
            elif name == "kernel" and value.ndim == 4:
                paths.append("/".join(path))

    walk(params, ())
    kept = (p for p in paths if not any(c.startswith(_SHORTCUT) for c in p.split("/")))
    return tuple(sorted(kept, key=_natural))


def _natural(path: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path)
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts]


def select_layers(params: Params, layers: Layers) -> tuple[str, ...]:
    """Resolves what a caller means by "layers" to names of this tree.

    Args:
        params: The tree whose convolutions are meant.
        layers: None for all; k for the first k; a slice; numbers from 0; or names.

    Returns:
        The names of the chosen convolutions, in forward order.

    Raises:
        ValueError: A layer that the tree does not have.
    """
    names = layer_names(params)
    if layers is None:
        return names
    if isinstance(layers, int):
        if not 0 <= layers <= len(names):
            raise ValueError(
                f"layers={layers} is out of range: the network has {len(names)} convolutions, "
                f"so say 0 to {len(names)}"
            )
        return names[:layers]
    if isinstance(layers, slice):
        return names[layers]
    chosen: set[str] = set()
    for layer in layers:
        if isinstance(layer, int) and 0 <= layer < len(names):
            chosen.add(names[layer])
        elif isinstance(layer, str) and layer in names:
            chosen.add(layer)
        else:
            raise ValueError(
                f"layer {layer!r} is not in the network: its convolutions are 0 to "
                f"{len(names) - 1}, named {', '.join(names)}"
            )
    return tuple(name for name in names if name in chosen)


def get_kernel(params: Params, name: str) -> Any:
    """Returns the kernel (height, width, in, out) of the convolution called `name`.

    An array of JAX or NumPy, or an abstract one, as the tree holds it.
    """
    node: Any = params
    for part in name.split("/"):
        node = node[part]
    return node["kernel"]


def live_part(params: Params, name: str, live: LiveTaps | None) -> Any:
    """Returns the taps that meet data of the convolution called `name`: a block (h, w, in, out).

    Args:
        params: A tree of parameters.
        name: Of a convolution.
        live: See `models.resnet.live_taps`; all taps of convolutions that it does not name, and of
            all where it is None.
    """
    kernel = get_kernel(params, name)
    return kernel[live[name]] if live and name in live else kernel


def set_kernels(params: Params, kernels: dict[str, Array]) -> Params:
    """Returns `params` with the named convolutions' kernels replaced, all else shared."""

    def rebuild(tree: Any, path: tuple[str, ...]) -> Any:
        replaced = {}
        for name, value in tree.items():
            if hasattr(value, "items"):
                replaced[name] = rebuild(value, (*path, name))
            else:
                here = "/".join(path)
                replaced[name] = kernels[here] if name == "kernel" and here in kernels else value
        return replaced

    return rebuild(params, ())


def to_slices(kernel: Float[Array, "h w i o"]) -> Float[Array, "n d"]:
    """Cuts a kernel into its 2-D slices, one a pair of output and input channel.

    Args:
        kernel: Height, width, input and output channels.

    Returns:
        One row of h·w taps for each slice, output channel by output channel: row o·i_total + i.
    """
    height, width, inputs, outputs = kernel.shape
    return jnp.transpose(kernel, (3, 2, 0, 1)).reshape(outputs * inputs, height * width)


def from_slices(slices: Float[Array, "n d"], shape: tuple[int, ...]) -> Float[Array, "h w i o"]:
    """Puts slices back together: the inverse of `to_slices`.

    Args:
        slices: One row of h·w taps for each pair of output and input channel.
        shape: (h, w, i, o) of the kernel; i·o must be the number of rows.
    """
    height, width, inputs, outputs = shape
    return jnp.transpose(slices.reshape(outputs, inputs, height, width), (2, 3, 1, 0))
