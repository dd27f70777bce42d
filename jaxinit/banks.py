"""Filter banks: each layer's filters over many models, clustered, and new filters drawn from them.

The paper's single-filter clustering. A bank's file is a NumPy `.npz` without pickles:

- `metadata`: JSON text as bytes: `format` ("jaxinit filter bank"), `version` (2), and the fields of
  `Provenance`; and `layers`, a list with the `name` and `kernel_size` [h, w] of each layer, in the
  order of the network's calls; version 1 had no `normalized`;
- `filters/<layer>`: float32 (k, m, h·w), and `sizes/<layer>`: float32 (k,), as in `FilterBank`;
- `inertia/<layer>`: float32 (), as in `FilterBank`.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Int32

from jaxinit import distances, kernels, kmeans
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Layers, LiveTaps, Network
from jaxinit.signatures import Params, PRNGKey

REPRESENTATIVES = ("centroid", "medoid", "member", "inverse")
"""How a cluster becomes a filter, as magnitudes and directions have no inverse.

- "centroid": the mean of the members' slices, whose squared norm is the members' mean square less
  their spread: about half the norm at ten clusters. Under "fourier" a cluster holds a filter and
  its negative alike, and the mean goes towards zero.
- "medoid": the member nearest the centre: a real filter, but no typical one. Under "euclidean" it
  is small, as the centre is; under "cosine" large, as those are the least noisy.
- "member": several members, drawn uniformly, of which `draw` takes one. Keeps the norms and the
  spread within the clusters too: the layer's own distribution, thinned.
- "inverse": the centre, transformed back: under "fourier_real" the point-symmetric part of the
  centroid, as in the authors' program; under "euclidean" the centroid.
"""

_MANY = 2**20  # rows, beyond which filling up to them costs more than another program

_DEAD = 0.01  # a filter of less than this share of its layer's median norm does nothing

_FORMAT = "jaxinit filter bank"
_VERSION = 2
_READS = (1, 2)


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
    """

    distance: str
    representative: str
    clusters: int
    models: int
    sources: tuple[str, ...]
    jaxinit: str = dataclasses.field(default_factory=_library_version)
    normalized: bool = False


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


def fit(
    key: PRNGKey,
    models: Params | Iterable[Params],
    *,
    clusters: int,
    distance: str = "euclidean",
    representative: str = "centroid",
    members_per_cluster: int = 16,
    layers: Layers = None,
    live: LiveTaps | None = None,
    network: Network | None = None,
    normalize: bool = False,
    restarts: int = 3,
    most_slices: int = 2**24,
    sources: Sequence[str] = (),
) -> FilterBank:
    """Clusters the 2-D slices of each layer, over all models and input channels.

    How a cluster becomes a filter is a choice with consequences: see `REPRESENTATIVES`.

    However many models there are, memory holds `most_slices` of one layer and what k-means makes of
    them, about 4 · 4 · h · w bytes each.

    Args:
        key: Chooses the seeds of k-means and the members.
        models: Trees of parameters whose chosen layers have equal shapes, or one such tree. Their
            leaves may be anything with a shape that NumPy makes an array of, such as what is still
            in a file: one layer of all models is read at a time.
        clusters: k, the number of clusters of each layer.
        distance: One of `jaxinit.distances`, by name.
        representative: One of `REPRESENTATIVES`.
        members_per_cluster: How many to keep, for "member"; of a smaller cluster, all, repeated.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        live: The taps that met data in the models (`Network.live_taps`): the others, which kept
            their random start, count as zero and are drawn so. All count where not given.
        network: The models' convolutions (`jaxinit.trace`, or `jaxinit.declare` for weights without
            their network); `jaxinit.ResNet18`'s does without.
        normalize: Scale each output channel's filter, over all its input channels, to the norm that
            He's initialisation with fan-out has on average, √(2·i/o). For weights into which batch
            norm is folded, whose filters are scaled by γ/σ. Filters below a hundredth of the
            layer's median norm are dead and left out.
        restarts: Of k-means.
        most_slices: Of a layer that has more over all models, as many are drawn of each model,
            evenly over its channels. The default is what 64 ResNet-18s have.
        sources: What to remember about the models, such as their names.

    Returns:
        A bank with the chosen layers, in float32.

    Raises:
        ValueError: An unknown distance or representative, no inverse, no models, layers whose order
            is not known, that are missing or differ in shape, filters that are not finite, more
            clusters than slices, more models than `most_slices`, or a call under `jax.jit`.
    """
    metric = distances.get(distance)
    models = listed(models)
    _check(key, models, metric, representative, clusters, members_per_cluster)
    known = network_layers.of(models[0], network)
    bank: dict[str, dict[str, Any]] = {"filters": {}, "sizes": {}, "inertia": {}}
    kernel_sizes: dict[str, tuple[int, ...]] = {}
    chosen = known.select(layers)
    if not chosen:
        raise ValueError("a bank needs at least one layer: layers= chooses none")
    if (most := most_slices // len(models)) < 1:
        raise ValueError(
            f"most_slices={most_slices} leaves none to each of {len(models)} models: allow more"
        )
    room = _room([layer.shape for layer in chosen], len(models), most)
    for layer in chosen:
        name = layer.name
        # The key depends on the layer's place in the network, not on which others are chosen.
        cluster_key, member_key = jax.random.split(jax.random.fold_in(key, known.place(layer)))
        slices, weights, size = _collect(member_key, models, layer, clusters, room, most, normalize)
        if live and name in live:
            slices = _masked(slices, live[name], size)
        points = _features(slices, metric, size)
        found = kmeans.fit(cluster_key, points, clusters, weights=weights, restarts=restarts)
        found = found._replace(labels=jnp.where(weights > 0, found.labels, clusters))
        drawn = _represent(
            member_key, slices, points, found, metric, size, representative, members_per_cluster
        )
        # The inverse of a transform may put something where nothing was.
        if live and name in live:
            drawn = _masked(drawn, live[name], size)
        bank["filters"][name] = drawn
        bank["sizes"][name], bank["inertia"][name] = found.sizes, found.inertia
        kernel_sizes[name] = size
    provenance = Provenance(
        distance, representative, clusters, len(models), tuple(sources), normalized=normalize
    )
    return FilterBank(
        **bank, kernel_sizes=flax.core.FrozenDict(kernel_sizes), provenance=provenance
    )


def listed(models: Params | Iterable[Params]) -> list[Params]:
    """The models of a sequence or generator; one tree of parameters stands for itself.

    A dictionary and a module are trees; so is what JAX knows as no list or tuple.
    """
    several = isinstance(models, list | tuple) or (
        isinstance(models, Iterable)
        and not isinstance(models, Mapping)
        and jax.tree_util.all_leaves([models])
    )
    return list(models) if several else [models]


def _check(
    key: PRNGKey,
    models: Sequence[Params],
    metric: distances.Distance,
    representative: str,
    clusters: int,
    members: int,
) -> None:
    if not models:
        raise ValueError("a bank needs at least one model")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves((key, models))):
        raise ValueError("banks.fit reads the models, so that it cannot run under jax.jit or vmap")
    if clusters < 1 or members < 1:
        raise ValueError(
            f"clusters={clusters} and members_per_cluster={members} must both be 1 or more"
        )
    if representative not in REPRESENTATIVES:
        raise ValueError(
            f"representative {representative!r} is not known: choose one of "
            f"{', '.join(REPRESENTATIVES)}"
        )
    if representative == "inverse" and metric.inverse is None:
        raise ValueError(
            f"the distance {metric.name!r} has no inverse: choose the representative centroid, "
            "medoid or member"
        )


def _collect(
    key: PRNGKey,
    models: Sequence[Params],
    layer: Layer,
    clusters: int,
    room: dict[tuple[int, ...], int],
    most: int,
    normalize: bool,
) -> tuple[Float[Array, "n d"], Float[Array, " n"], tuple[int, ...]]:
    """Reads one layer of all models: its slices, their weights (0 for filling), (h, w)."""
    *size, inputs, outputs = layer.shape
    own = len(models) * inputs * outputs
    if clusters > own:
        raise ValueError(
            f"layer {layer.name} has {own} slices over all models, too few for {clusters} "
            "clusters: ask for fewer clusters or give more models"
        )
    read: list[Array] = []
    alive: list[Array] = []
    for index, model in enumerate(models):
        kernel = _read(model, layer, index).astype(jnp.float32)
        if normalize:
            kernel, live = _normalized(kernel)
        else:
            live = jnp.ones((outputs,), bool)
        live = jnp.broadcast_to(live, (inputs, outputs))
        if inputs * outputs > most:
            kernel, live = _thin(jax.random.fold_in(key, index), kernel, live, most)
        read.append(kernel)
        alive.append(live)
    count = sum(kernel.shape[-2] * kernel.shape[-1] for kernel in read)
    slices, weights, finite = _stack(read, alive, _rows(count, room[tuple(size)]))
    if not finite.all():
        raise ValueError(
            f"layer {layer.name} of model {int(jnp.argmin(finite))} is not finite (NaN or ∞): "
            "leave this model out"
        )
    if normalize and clusters > (left := int(jnp.count_nonzero(weights))):
        raise ValueError(
            f"layer {layer.name} has {left} slices in filters that are not dead, too few for "
            f"{clusters} clusters: ask for fewer clusters or give more models"
        )
    return slices, weights, tuple(size)


def _read(model: Params, layer: Layer, index: int) -> Array:
    try:
        kernel = kernels.get(model, layer)
    except ValueError:
        raise ValueError(
            f"model {index} has no layer {layer.name}, but model 0 has: give models of one network"
        ) from None
    if kernel.shape != layer.shape:
        raise ValueError(
            f"layer {layer.name} has shape {kernel.shape} in model {index}, but {layer.shape} in "
            f"{'model 0' if index else 'the network'}: give models of one network"
        )
    return kernel


@jax.jit
def _normalized(kernel: Float[Array, "... i o"]) -> tuple[Array, Bool[Array, " o"]]:
    """Brings each output channel's filter to the default's norm; tells which are not dead."""
    norms = jnp.sqrt(jnp.sum(jnp.square(kernel), axis=tuple(range(kernel.ndim - 1))))
    alive = norms > _DEAD * jnp.median(norms)
    inputs, outputs = kernel.shape[-2:]
    factors = (2 * inputs / outputs) ** 0.5 / jnp.where(alive, norms, 1)
    return kernel * factors.reshape((1,) * (kernel.ndim - 1) + (-1,)), alive


def _masked(
    slices: Float[Array, "... d"], own: tuple[slice, ...], size: tuple[int, ...]
) -> Float[Array, "... d"]:
    """Sets the taps outside these rows and columns to zero."""
    mask = np.zeros(size, bool)
    mask[own] = True
    mask = mask.reshape((1,) * (slices.ndim - 1) + (-1,))
    return jnp.where(mask, slices, jnp.zeros((), slices.dtype))


@functools.partial(jax.jit, static_argnames="count")
def _thin(
    key: PRNGKey, kernel: Float[Array, "... i o"], alive: Bool[Array, "i o"], count: int
) -> tuple[Float[Array, "... n 1"], Bool[Array, "n 1"]]:
    """Draws one slice of each of `count` equal runs of them; NaN if any tap is not finite."""
    *size, inputs, outputs = kernel.shape
    bounds = jnp.asarray(np.arange(count + 1) * inputs * outputs // count, jnp.int32)
    widths = (bounds[1:] - bounds[:-1]).astype(jnp.float32)
    row = bounds[:-1] + (jax.random.uniform(key, (count,), jnp.float32) * widths).astype(jnp.int32)
    drawn = kernel.reshape(*size, -1)[..., row, None]
    return jnp.where(jnp.isfinite(kernel).all(), drawn, jnp.nan), alive.reshape(-1)[row, None]


@functools.partial(jax.jit, static_argnames="rows")
def _stack(
    read: Sequence[Float[Array, "... i o"]], alive: Sequence[Bool[Array, "i o"]], rows: int
) -> tuple[Float[Array, "filled d"], Float[Array, " filled"], Bool[Array, " models"]]:
    """Lists all slices, filled up with rows of weight 0, and which kernels are finite."""
    slices = jnp.concatenate([kernels.to_slices(kernel) for kernel in read])
    count = len(slices)
    weights = jnp.concatenate([live.T.reshape(-1) for live in alive]).astype(slices.dtype)
    finite = jnp.stack([jnp.isfinite(kernel).all() for kernel in read])
    filling = (0, rows - count)
    return jnp.pad(slices, (filling, (0, 0))), jnp.pad(weights, filling), finite


def _room(shapes: Sequence[tuple[int, ...]], models: int, most: int) -> dict[tuple[int, ...], int]:
    """How many slices of its largest layer each kernel size needs room for, over all models."""
    room: dict[tuple[int, ...], int] = {}
    for *sides, inputs, outputs in shapes:
        size = tuple(sides)
        room[size] = max(room.get(size, 0), models * min(inputs * outputs, most))
    return room


def _rows(count: int, room: int) -> int:
    """How many rows slices are filled up to: `room`, or a sixteenth of many where that is enough.

    So that all layers together need few programs.
    """
    small = -(-room // 16)
    return small if room > _MANY and count <= small else room


@functools.partial(jax.jit, static_argnames=("metric", "size"))
def _features(
    slices: Float[Array, "n d"], metric: distances.Distance, size: tuple[int, ...]
) -> Float[Array, "n f"]:
    return metric.features(slices, size)


@functools.partial(
    jax.jit, static_argnames=("metric", "size", "representative", "members_per_cluster")
)
def _represent(
    key: PRNGKey,
    slices: Float[Array, "n d"],
    points: Float[Array, "n f"],
    found: kmeans.KMeansResult,
    metric: distances.Distance,
    size: tuple[int, ...],
    representative: str,
    members_per_cluster: int,
) -> Float[Array, "k m d"]:
    if representative == "member":
        return slices[_members(key, found.labels, found.sizes, members_per_cluster)]
    if representative == "medoid":
        return slices[_medoids(points, found)][:, None]
    if representative == "inverse" and metric.inverse is not None:
        return metric.inverse(found.centers, size)[:, None]
    sums = jax.ops.segment_sum(slices, found.labels, found.sizes.shape[0])
    return (sums / jnp.maximum(found.sizes, 1)[:, None])[:, None]


def _medoids(points: Float[Array, "n f"], found: kmeans.KMeansResult) -> Int32[Array, " k"]:
    k = found.sizes.shape[0]
    _, squares = kmeans.assign(points, found.centers)
    least = jax.ops.segment_min(squares, found.labels, k)
    order = jnp.arange(points.shape[0], dtype=jnp.int32)
    nearest = jnp.where(squares == least[found.labels], order, order[-1])
    # A cluster without members, which is never drawn, must still index something.
    return jnp.minimum(jax.ops.segment_min(nearest, found.labels, k), order[-1])


def _members(
    key: PRNGKey, labels: Int32[Array, " n"], sizes: Float[Array, " k"], count: int
) -> Int[Array, "k m"]:
    """Draws members of each cluster without replacement, and repeats those of small ones."""
    lots = jax.random.uniform(key, labels.shape, sizes.dtype)
    places = jnp.arange(min(count, labels.shape[0]), dtype=jnp.int32)

    def highest(cluster: tuple[Array, Array]) -> Array:
        number, size = cluster
        drawn = jax.lax.top_k(jnp.where(labels == number, lots, -1), len(places))[1]
        return drawn[jnp.arange(count, dtype=jnp.int32) % jnp.clip(size, 1, len(places))]

    # One cluster after the other: sorting all points would take XLA far longer.
    clusters = (jnp.arange(sizes.shape[0], dtype=jnp.int32), sizes.astype(jnp.int32))
    return jax.lax.map(highest, clusters)


def check_layer(bank: FilterBank, layer: str, shape: tuple[int, ...]) -> None:
    """Makes sure that a kernel of this shape can be drawn from a layer of the bank.

    Raises:
        ValueError: The bank lacks the layer, or its slices have another size.
    """
    if layer not in bank.kernel_sizes:
        raise ValueError(f"the bank has no layer {layer!r}: it has {', '.join(bank.kernel_sizes)}")
    size = tuple(bank.kernel_sizes[layer])
    if tuple(shape[:-2]) != size:
        raise ValueError(
            f"a kernel of shape {tuple(shape)} cannot be drawn from layer {layer!r} of the bank, "
            f"whose slices are {kernels.sides(size)}: its shape must start so, with input and "
            "output channels after it"
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
        ValueError: The bank lacks the layer, or its slices have another size.
    """
    check_layer(bank, layer, shape)
    *size, inputs, outputs = shape
    candidates, sizes = bank.filters[layer], bank.sizes[layer]
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


def save(bank: FilterBank, path: str | os.PathLike[str]) -> None:
    """Writes a bank to a file (see the top of this module), whole or not at all.

    A file that is there already is replaced.
    """
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        **dataclasses.asdict(bank.provenance),
        "layers": [{"name": n, "kernel_size": list(s)} for n, s in bank.kernel_sizes.items()],
    }
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()
    arrays: dict[str, Any] = {"metadata": np.frombuffer(text, np.uint8)}
    for field in ("filters", "sizes", "inertia"):
        for name, array in getattr(bank, field).items():
            arrays[f"{field}/{name}"] = np.asarray(array, np.float32)
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def load(path: str | os.PathLike[str]) -> FilterBank:
    """Reads a bank that `save` wrote.

    Args:
        path: The file.

    Raises:
        ValueError: The file is damaged, of another version, or not a bank.
        FileNotFoundError: There is no such file.
    """
    damaged = (
        *(KeyError, TypeError, AttributeError, ValueError, EOFError, NotImplementedError),
        *(zipfile.BadZipFile, zlib.error),
    )
    try:
        # Opened here, as NumPy leaves what it cannot read open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        metadata = json.loads(arrays["metadata"].tobytes())
        if metadata["format"] != _FORMAT:
            raise ValueError("another format")
        version = metadata["version"]
        bank = _parse(metadata, arrays) if version in _READS else None
    except damaged as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged or not a filter bank ({error}): make it anew with "
            "banks.fit and banks.save"
        ) from error
    if bank is None:
        raise ValueError(
            f"{os.fspath(path)} is a filter bank of version {version}, but this jaxinit reads "
            f"versions {' and '.join(map(str, _READS))}: use the jaxinit that wrote it"
        )
    return bank


def _parse(metadata: dict[str, Any], arrays: dict[str, np.ndarray]) -> FilterBank:
    metadata = {"normalized": False, **metadata} if metadata["version"] == 1 else metadata
    fields = {field.name: metadata[field.name] for field in dataclasses.fields(Provenance)}
    fields["sources"] = tuple(fields["sources"])
    provenance = Provenance(**fields)
    sizes = {layer["name"]: tuple(layer["kernel_size"]) for layer in metadata["layers"]}
    bank = FilterBank({}, {}, {}, flax.core.FrozenDict(sizes), provenance)
    for name, size in sizes.items():
        candidates, counts = arrays[f"filters/{name}"], arrays[f"sizes/{name}"]
        inertia = arrays[f"inertia/{name}"]
        k = provenance.clusters
        if (
            candidates.ndim != 3
            or candidates.shape[::2] != (k, int(np.prod(size)))
            or candidates.shape[1] < 1
            or counts.shape != (k,)
            or inertia.shape != ()
            or any(a.dtype != np.float32 for a in (candidates, counts, inertia))
        ):
            raise ValueError(f"the arrays of layer {name} do not have the shapes they should")
        if not np.isfinite(candidates).all() or not (counts >= 0).all() or not counts.sum() > 0:
            raise ValueError(f"the numbers of layer {name} cannot be a bank's")
        bank.filters[name], bank.sizes[name] = jnp.asarray(candidates), jnp.asarray(counts)
        bank.inertia[name] = jnp.asarray(inertia)
    return bank
