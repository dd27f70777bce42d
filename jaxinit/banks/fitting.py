"""Makes a bank of trained models: cuts each layer into slices, and clusters them by k-means."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Int32

from jaxinit import checks, choices, distances, kernels, kmeans, relative_norms
from jaxinit import layers as network_layers
from jaxinit.banks.filter_bank import FilterBank, Provenance
from jaxinit.distances import REPRESENTATIVES
from jaxinit.layers import Layer, Layers, LiveTaps, Network
from jaxinit.signatures import Params, PRNGKey

_MANY = 2**20  # rows, beyond which filling up to them costs more than another program

_DEAD = 0.01  # a filter of less than this share of its layer's median norm does nothing


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
    checks.live(live)
    checks.kind("sources", sources, tuple | list, "a list of names")
    checks.kind("normalize", normalize, bool, "True or False")
    asked = _Settings(
        clusters, distance, representative, members_per_cluster, normalize, restarts, most_slices
    )
    models = _checked(key, listed(models), asked)
    known = network_layers.of(models[0], network)
    found = _cluster_all(key, models, known, known.select(layers), live or {}, asked)
    return FilterBank(*found, provenance=asked.provenance(len(models), sources))


def listed(models: Params | Iterable[Params]) -> list[Params]:
    """The models of a sequence or generator; one tree of parameters stands for itself.

    A dictionary and a module are trees; so is what JAX knows as no list or tuple.
    """
    several = isinstance(models, list | tuple) or (
        isinstance(models, Iterable)
        and not isinstance(models, Mapping)
        and jax.tree_util.all_leaves([models])
    )
    if several and getattr(models, "shape", None) == ():
        raise ValueError(f"models must be trees of parameters, not {checks.shown(models)}")
    return list(models) if several else [models]


@dataclasses.dataclass(frozen=True)
class _Settings:
    """How banks are made: the arguments of `fit` that concern every layer alike."""

    clusters: int
    distance: str
    representative: str
    members_per_cluster: int
    normalize: bool
    restarts: int
    most_slices: int

    @property
    def metric(self) -> distances.Distance:
        return distances.get(self.distance)

    @property
    def members(self) -> int:
        """How many slices stand for each cluster."""
        return self.members_per_cluster if self.representative == "member" else 1

    def most(self, models: int) -> int:
        """How many slices of a layer are taken of each model."""
        if (most := self.most_slices // models) < 1:
            raise ValueError(
                f"most_slices={self.most_slices} leaves none to each of {models} models: allow more"
            )
        return most

    def provenance(self, models: int, sources: Sequence[str]) -> Provenance:
        return Provenance(
            self.distance,
            self.representative,
            self.clusters,
            models,
            tuple(sources),
            normalized=self.normalize,
            members=self.members,
        )


def _checked(key: PRNGKey, models: list[Params], asked: _Settings) -> list[Params]:
    """The models, once it is certain that they, and what is asked for, make sense."""
    checks.whole(
        clusters=asked.clusters,
        members_per_cluster=asked.members_per_cluster,
        restarts=asked.restarts,
        most_slices=asked.most_slices,
    )
    if asked.restarts < 1:
        raise ValueError(f"restarts={asked.restarts} must be 1 or more")
    metric, representative = asked.metric, asked.representative
    if not models:
        raise ValueError("a bank needs at least one model")
    checks.key(key)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves((key, models))):
        raise ValueError("banks.fit reads the models, so that it cannot run under jax.jit or vmap")
    if asked.clusters < 1 or asked.members_per_cluster < 1:
        raise ValueError(
            f"clusters={asked.clusters} and members_per_cluster={asked.members_per_cluster} must "
            "both be 1 or more"
        )
    if not isinstance(representative, str) or representative not in REPRESENTATIVES:
        raise choices.unknown(f"representative {representative!r}", REPRESENTATIVES)
    if representative == "inverse" and metric.inverse is None:
        raise ValueError(
            f"the distance {metric.name!r} has no inverse: choose the representative centroid, "
            "medoid or member"
        )
    return models


class _Slices(NamedTuple):
    """One layer of all models."""

    slices: Float[Array, "n d"]
    weights: Float[Array, " n"]  # 0 for filling
    size: tuple[int, ...]  # (h, w)


def _cluster_all(
    key: PRNGKey,
    models: Sequence[Params],
    network: Network,
    chosen: Sequence[Layer],
    live: LiveTaps,
    asked: _Settings,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], flax.core.FrozenDict]:
    """Clusters one layer after the other: filters, sizes, inertia and kernel sizes by name."""
    if not chosen:
        raise ValueError("a bank needs at least one layer: layers= chooses none")
    most = asked.most(len(models))
    room = _room([layer.shape for layer in chosen], len(models), most)
    _compile(chosen, len(models), room, most, asked)
    filters, sizes, inertia, kernel_sizes = {}, {}, {}, {}
    for layer in chosen:
        name = layer.name
        # The key depends on the layer's place in the network, not on which others are chosen.
        cluster_key, member_key = jax.random.split(jax.random.fold_in(key, network.place(layer)))
        own = _collect(member_key, models, layer, room[layer.size], most, asked)
        if name in live:
            own = own._replace(slices=_masked(own.slices, live[name], own.size))
        filters[name], found = _cluster(cluster_key, member_key, own, asked)
        # The inverse of a transform may put something where nothing was.
        if name in live:
            filters[name] = _masked(filters[name], live[name], own.size)
        sizes[name], inertia[name], kernel_sizes[name] = found.sizes, found.inertia, own.size
    return filters, sizes, inertia, flax.core.FrozenDict(kernel_sizes)


def _compile(
    chosen: Sequence[Layer],
    models: int,
    room: dict[tuple[int, ...], int],
    most: int,
    asked: _Settings,
) -> None:
    """Compiles k-means for all layers: side by side it takes half the time."""
    shapes = []
    for layer in chosen:
        inputs, outputs = layer.shape[-2:]
        rows = _rows(models * min(inputs * outputs, most), room[layer.size])
        slices = jax.ShapeDtypeStruct((rows, math.prod(layer.size)), jnp.float32)
        features = functools.partial(_features, metric=asked.metric, size=layer.size)
        if rows >= asked.clusters:
            shapes.append(jax.eval_shape(features, slices).shape)
    kmeans.compile_for(shapes, asked.clusters, restarts=asked.restarts)


def _cluster(
    cluster_key: PRNGKey, member_key: PRNGKey, own: _Slices, asked: _Settings
) -> tuple[Float[Array, "k m d"], kmeans.KMeansResult]:
    """Clusters the slices of one layer, and finds what stands for each cluster."""
    points = _features(own.slices, asked.metric, own.size)
    found = kmeans.fit(
        cluster_key, points, asked.clusters, weights=own.weights, restarts=asked.restarts
    )
    drawn = _represent(
        member_key,
        own.slices,
        own.weights,
        points,
        found,
        asked.metric,
        own.size,
        asked.representative,
        asked.members_per_cluster,
    )
    return drawn, found


def _collect(
    key: PRNGKey,
    models: Sequence[Params],
    layer: Layer,
    room: int,
    most: int,
    asked: _Settings,
) -> _Slices:
    """Reads one layer of all models."""
    inputs, outputs = layer.shape[-2:]
    clusters = asked.clusters
    if clusters > (count := len(models) * inputs * outputs):
        raise ValueError(
            f"layer {layer.name} has {count} slices over all models, too few for {clusters} "
            "clusters: ask for fewer clusters or give more models"
        )
    per_model = min(inputs * outputs, most)
    slices = np.zeros((_rows(len(models) * per_model, room), math.prod(layer.size)), np.float32)
    weights = np.zeros(len(slices), np.float32)
    for index, model in enumerate(models):
        kernel = _read(model, layer, index).astype(jnp.float32)
        if not np.isfinite(np.asarray(kernel)).all():
            raise ValueError(
                f"layer {layer.name} of model {index} is not finite (NaN or ∞): leave this model "
                "out"
            )
        alive = np.ones(outputs, bool)
        if asked.normalize:
            kernel, alive = _normalized(kernel)
        alive = np.broadcast_to(alive, (inputs, outputs))
        if inputs * outputs > most:
            kernel, alive = _thin(jax.random.fold_in(key, index), kernel, alive, most)
        own = slice(index * per_model, (index + 1) * per_model)
        # In the order of `kernels.to_slices`; here, each shape would need a program of its own.
        taps = np.asarray(kernel).reshape(-1, *kernel.shape[-2:]).T
        slices[own].reshape(taps.shape)[...] = taps
        weights[own] = np.asarray(alive).T.reshape(-1)
    if asked.normalize and clusters > (left := np.count_nonzero(weights)):
        raise ValueError(
            f"layer {layer.name} has {left} slices in filters that are not dead, too few for "
            f"{clusters} clusters: ask for fewer clusters or give more models"
        )
    return _Slices(jnp.asarray(slices), jnp.asarray(weights), layer.size)


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
    norms = relative_norms.length(kernel, axis=tuple(range(kernel.ndim - 1))).reshape(-1)
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
    """Draws one slice of each of `count` equal runs of them."""
    *size, inputs, outputs = kernel.shape
    bounds = jnp.asarray(np.arange(count + 1) * inputs * outputs // count, jnp.int32)
    widths = (bounds[1:] - bounds[:-1]).astype(jnp.float32)
    row = bounds[:-1] + (jax.random.uniform(key, (count,), jnp.float32) * widths).astype(jnp.int32)
    return kernel.reshape(*size, -1)[..., row, None], alive.reshape(-1)[row, None]


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
    weights: Float[Array, " n"],
    points: Float[Array, "n f"],
    found: kmeans.KMeansResult,
    metric: distances.Distance,
    size: tuple[int, ...],
    representative: str,
    members_per_cluster: int,
) -> Float[Array, "k m d"]:
    found = found._replace(labels=jnp.where(weights > 0, found.labels, found.sizes.shape[0]))
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
