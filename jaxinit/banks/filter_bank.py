"""A filter bank: what each layer's clusters hold, and new filters drawn from them."""

import dataclasses
import functools
import importlib.metadata
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, kernels
from jaxinit.signatures import PRNGKey


def _library_version() -> str:
    try:
        return importlib.metadata.version("jaxinit")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What a bank was made from.

    Attributes:
        distance: Name of the distance (see `jaxinit.distances`).
        representative: How a cluster became filters (see `fit`).
        clusters: Number of clusters of each layer.
        models: Number of source models.
        sources: What the caller said about the models.
        jaxinit: Version of the library.
        normalized: Whether each output channel's filter was brought to one norm before clustering.
        members: How many slices stand for each cluster: more than 1 for "member" alone.
    """

    distance: str
    representative: str
    clusters: int
    models: int
    sources: tuple[str, ...]
    jaxinit: str = dataclasses.field(default_factory=_library_version)
    normalized: bool = False
    members: int = 1


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("filters", "sizes", "inertia"),
    meta_fields=("kernel_sizes", "provenance"),
)
@dataclasses.dataclass(frozen=True)
class FilterBank:
    """The clusters of each layer: a pytree, whose arrays are keyed by the layer's name.

    Attributes:
        filters: Float[Array, "k m h·w"]: for each cluster, the m slices that stand for it: 1, or
            several where the representative is "member".
        sizes: Float[Array, "k"]: how many slices of the models, of those drawn, each cluster has.
        inertia: Float[Array, ""]: Σ (distance to the centre)², in the units of the distance.
        kernel_sizes: (h, w) of each layer, in the order of the network's calls. Static.
        provenance: What it was made from. Static.
    """

    filters: dict[str, Any]
    sizes: dict[str, Any]
    inertia: dict[str, Any]
    kernel_sizes: flax.core.FrozenDict[str, tuple[int, ...]]
    provenance: Provenance


def check_bank(bank: FilterBank) -> None:
    """Makes sure that it is one.

    Raises:
        ValueError: It is something else.
    """
    checks.kind("bank", bank, FilterBank, "a filter bank, as banks.fit or banks.named makes it")


def check_known(bank: FilterBank, layer: str, more: str = "") -> None:
    """Makes sure that the bank has a layer.

    Args:
        bank: Any.
        layer: A layer's name.
        more: What else may be done, for the error.

    Raises:
        ValueError: It has not.
    """
    check_bank(bank)
    if not isinstance(layer, str) or layer not in bank.kernel_sizes:
        raise ValueError(
            f"the bank has no layer {layer!r}: it has {', '.join(bank.kernel_sizes)}{more}"
        )


def check_layer(bank: FilterBank, layer: str, shape: tuple[int, ...]) -> None:
    """Makes sure that a kernel of this shape can be drawn from a layer of the bank.

    Raises:
        ValueError: The bank lacks the layer, or its slices have another size.
    """
    check_known(bank, layer)
    checks.shape(shape)
    size = tuple(bank.kernel_sizes[layer])
    if len(shape) != len(size) + 2 or tuple(shape[:-2]) != size:
        raise ValueError(
            f"a kernel of shape {tuple(shape)} cannot be drawn from layer {layer!r} of the bank, "
            f"whose slices are {kernels.sides(size)}: its shape must start so, with input and "
            "output channels after it"
        )


def check_sizes(layer: str, sizes: Float[np.ndarray, " k"]) -> None:
    """Makes sure that clusters can be drawn by their sizes.

    Raises:
        ValueError: One is negative or not finite, or all are 0.
    """
    if not (np.isfinite(sizes).all() and (sizes >= 0).all() and sizes.sum() > 0):
        raise ValueError(
            f"the sizes of layer {layer!r} of the bank, {checks.shown(sizes.tolist())}, are not "
            "finite numbers from 0 on with one above 0: fit the bank anew"
        )


def draw(
    key: PRNGKey,
    bank: FilterBank,
    layer: str,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "... i o"]:
    """Draws a new kernel, each of its slices independently.

    A slice gets a cluster with probability proportional to its size, then one of the cluster's
    filters uniformly. Can be jitted (`layer`, `shape` and `dtype` are static), and vmapped over
    keys.

    Args:
        key: Chooses the clusters and the filters.
        bank: Where to draw from.
        layer: Which layer of the bank.
        shape: (h, w, i, o) of the kernel, or as many spatial sides as the bank's layer has; they
            must be those.
        dtype: Of the kernel.

    Returns:
        The kernel; taps in the units of the source models'.

    Raises:
        ValueError: The bank lacks the layer, or its slices have another size; sizes that are none.
    """
    checks.kernel(key, shape, dtype)
    check_layer(bank, layer, shape)
    *size, inputs, outputs = shape
    candidates, sizes = bank.filters[layer], bank.sizes[layer]
    if checks.known(sizes):
        check_sizes(layer, np.asarray(sizes))
    count, per_cluster, taps = candidates.shape
    cluster_key, filter_key = jax.random.split(key)
    cumulative = jnp.cumsum(sizes)
    # u < 1 by more than rounding, so that u·total stays below the total and finds a cluster that
    # has members. For so few clusters, comparing with all is the fastest search.
    u = jax.random.uniform(cluster_key, (inputs, outputs), sizes.dtype) * cumulative[-1]
    row = jnp.searchsorted(cumulative, u, side="right", method="compare_all") * per_cluster
    if per_cluster > 1:
        row += jax.random.randint(filter_key, (inputs, outputs), 0, per_cluster, row.dtype)
    table = candidates.reshape(count * per_cluster, taps).astype(dtype)
    return table.T[:, row].reshape(*size, inputs, outputs)
