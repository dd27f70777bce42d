"""How initialisers compose: one after the other, layer by layer, mixed, and what each replaces."""

import dataclasses
import fnmatch
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxinit import checks, following, kernels, trees
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Layers, Network
from jaxinit.models.modules import at_least_float32
from jaxinit.signatures import Initializer, Params, ParamsInitializer, PlainInitializer, PRNGKey


@dataclasses.dataclass(frozen=True)
class Chain:
    """What `chain` makes: initialisers that are applied one after the other."""

    steps: tuple[Callable[..., Params], ...]

    def __call__(self, key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        """Applies all steps, each with a key of its own; a single one is given the key itself."""
        checks.key(key)
        keys = [key] if len(self.steps) == 1 else jax.random.split(key, len(self.steps))
        for step_key, step in zip(keys, self.steps, strict=True):
            params = run(step, step_key, params, network)
        return params


def chain(*initializers: ParamsInitializer | PlainInitializer) -> Chain:
    """Applies initialisers one after the other; later ones see what earlier ones made.

    Chains within are taken apart, and `unchanged()` is left out, before keys are dealt. So with one
    key, chain(chain(a, b), c) and chain(a, chain(b, c)) draw the same, and chain(a, unchanged()),
    chain(unchanged(), a) and chain(a) draw what a draws.

    Args:
        *initializers: Each gets a key of its own, and the network. A function of key and params
            alone will do as well.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> init = chain(jaxinit.gabor(layers=1), scaled(0.5))
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> init(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """
    steps: list[Callable[..., Params]] = []
    for initializer in initializers:
        _check_whole(initializer, "chain")
        if isinstance(initializer, Chain):
            steps += initializer.steps
        elif initializer is not _unchanged:
            steps.append(initializer)
    return Chain(tuple(steps))


def only(
    initializer: ParamsInitializer | PlainInitializer,
    layers: Layers = None,
    *,
    paths: str | Sequence[str] | Callable[[str], bool] | None = None,
) -> ParamsInitializer:
    """Keeps to some layers, or leaves, what an initialiser changes; all others keep their bits.

    Args:
        initializer: Draws the whole tree, with the key that it is given.
        layers: Which convolutions' kernels it may change (see `Network.select`); None means all
            main layers.
        paths: Instead, which leaves: patterns of their paths joined by "/" ("fc/*", "*/bias"), or a
            predicate of such a path.

    Raises:
        ValueError: Both layers and paths are given; patterns that no leaf has (when applied).

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 8)), "bias": jnp.ones(8)}}
        >>> doubled = lambda key, params: jax.tree.map(lambda leaf: 2 * leaf, params)
        >>> changed(only(doubled, paths="*/bias"), params)
        ('conv1/bias',)
    """
    _check_whole(initializer, "only")
    if not (paths is None or callable(paths)):
        several = [paths] if isinstance(paths, str) else paths
        checks.kind("paths", several, list | tuple, "patterns of paths, or a predicate of a path")
        for pattern in several:
            checks.kind("each of paths", pattern, str, "a pattern")
    if paths is not None and layers is not None:
        raise ValueError("only takes layers or paths, not both: chain two of them")

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        drawn = run(initializer, key, params, network)
        if paths is None:
            return _at_layers(params, drawn, network_layers.of(params, network).select(layers))
        return _at_paths(params, drawn, paths)

    return init


def _at_layers(params: Params, drawn: Params, layers: Sequence[Layer]) -> Params:
    """The tree with the kernels of some layers from what an initialiser made of it."""
    given, new = trees.leaves(params), trees.leaves(drawn)
    # What an initialiser has left alone would be new where it is turned to be put back.
    chosen = [
        layer
        for layer in layers
        if layer.path is None or new.get(layer.path) is not given[layer.path]
    ]
    before = kernels.get_all(params, chosen)
    return kernels.put(params, _drawn(drawn, chosen, before))


def _at_paths(
    params: Params, drawn: Params, paths: str | Sequence[str] | Callable[[str], bool]
) -> Params:
    """The tree with some leaves from what an initialiser made of it."""
    found = trees.leaves(params)
    names = {path: "/".join(map(str, path)) for path in found}
    meant = {path for path, name in names.items() if _matches(name, paths)}
    if not meant:
        like = "that the predicate holds for" if callable(paths) else f"like {paths!r}"
        raise ValueError(f"no leaf has a path {like}: there are {', '.join(names.values())}")
    new = trees.leaves(drawn)
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    taken = []
    for keys, leaf in with_paths:
        if (path := trees.plain_path(keys)) in meant and trees.is_array(leaf):
            if path not in new or np.shape(new[path]) != tuple(leaf.shape):
                raise ValueError(
                    f"the initialiser changes the shape of {names[path]}, or leaves it out: it "
                    "must return a tree like the one that it is given"
                )
            leaf = kernels.like(jnp.asarray(new[path]), leaf)
        taken.append(leaf)
    return jax.tree_util.tree_unflatten(structure, taken)


def _drawn(drawn: Params, chosen: Sequence[Layer], before: Sequence[Array]) -> dict[Layer, Array]:
    """What an initialiser made of the kernels of some layers, each of the shape that it had."""
    try:
        made = kernels.get_all(drawn, chosen)
    except ValueError:
        raise ValueError(
            "the initialiser does not return a tree like the one that it is given"
        ) from None
    return {
        layer: _checked(kernel, layer, old)
        for layer, kernel, old in zip(chosen, made, before, strict=True)
    }


def _matches(name: str, paths: str | Sequence[str] | Callable[[str], bool]) -> bool:
    if callable(paths):
        return paths(name)
    patterns = [paths] if isinstance(paths, str) else paths
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def mix(
    first: ParamsInitializer | PlainInitializer,
    second: ParamsInitializer | PlainInitializer,
    share: float = 0.5,
    layers: Layers = None,
) -> ParamsInitializer:
    """Takes some output channels of each layer from one initialiser, and the others from another.

    Both draw with the same key, and each channel is what its initialiser draws there alone.

    Args:
        first: Draws the first ⌊share · o + ½⌋ of a layer's o output channels.
        second: Draws the others.
        share: From 0 to 1.
        layers: Which convolutions (see `Network.select`); None means all main layers. All else
            stays as it is.

    Raises:
        ValueError: A share that is not from 0 to 1.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 8))}}
        >>> made = mix(jaxinit.scaled(0.0), unchanged(), 0.25)(jax.random.key(0), params)
        >>> made["conv1"]["kernel"][0, 0, 0].tolist()
        [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    _check_whole(first, "mix")
    _check_whole(second, "mix")
    checks.numbers(share=share)
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} must be from 0 to 1")

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        chosen = network_layers.of(params, network).select(layers)
        before = kernels.get_all(params, chosen)
        one, other = (
            _drawn(run(initializer, key, params, network), chosen, before)
            for initializer in (first, second)
        )
        new = {}
        for layer, kernel in zip(chosen, before, strict=True):
            count = math.floor(share * layer.shape[-1] + 0.5)
            parts = [one[layer][..., :count], other[layer][..., count:]]
            new[layer] = jnp.concatenate([part.astype(kernel.dtype) for part in parts], axis=-1)
        return kernels.put(params, new)

    return init


def _check_whole(initializer: Any, whose: str) -> None:
    if not callable(initializer):
        raise ValueError(
            f"{whose} takes initialisers, which are functions, not {type(initializer).__name__}"
        )
    _check_called(initializer, whose)
    if _names(initializer, "shape"):
        raise ValueError(f"{whose} takes initialisers of whole trees: wrap this one in per_layer")


def _check_called(initializer: Any, whose: str) -> None:
    """Refuses what makes an initialiser, as `gabor` does, and has yet to be called."""
    made = getattr(initializer, "__annotations__", {}).get("return")
    if made in (ParamsInitializer, Initializer, Chain):
        name = getattr(initializer, "__name__", "it")
        raise ValueError(
            f"{whose} takes initialisers, and {name} is a function that makes one: call it, as in "
            f"{name}()"
        )


def run(
    initializer: Callable[..., Params], key: PRNGKey, params: Params, network: Network | None
) -> Params:
    """Calls an initialiser with the network, if there is one and it takes it."""
    checks.function("an initialiser", initializer)
    if network is None:
        return initializer(key, params)
    if _takes(initializer, "network"):
        return initializer(key, params, network=network)
    return initializer(key, params)


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name, or takes any."""
    parameters = _parameters(function)
    return any(own.name == name or own.kind == own.VAR_KEYWORD for own in parameters)


def _names(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this very name."""
    return any(own.name == name for own in _parameters(function))


def _parameters(function: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of what has no signature
        return ()


def changed(
    initializer: ParamsInitializer | PlainInitializer,
    params: Params,
    *,
    network: Network | None = None,
) -> tuple[str, ...]:
    """Tells which leaves an initialiser replaces, without drawing any.

    A leaf that is computed anew counts, even where the same numbers come out.

    Args:
        initializer: Any.
        params: The tree that it would be given; shapes suffice.
        network: As it would be given.

    Returns:
        Paths of leaves, joined by "/", in the tree's order.

    Example:
        >>> import jaxinit
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}, "bn1": {"bias": jnp.ones(64)}}
        >>> changed(jaxinit.gabor(layers=1), params)
        ('conv1/kernel',)
    """
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    arrays = [number for number, (_, leaf) in enumerate(with_paths) if hasattr(leaf, "dtype")]

    def replaced(key: Array, given: Sequence[Array]) -> list[Array]:
        filled = [leaf for _, leaf in with_paths]
        for number, leaf in zip(arrays, given, strict=True):
            filled[number] = leaf
        made = run(initializer, key, jax.tree_util.tree_unflatten(structure, filled), network)
        new = jax.tree_util.tree_leaves(made)
        return [new[number] for number in arrays]

    shapes = [
        jax.ShapeDtypeStruct(leaf.shape, kernels.dtype_of(leaf))
        for leaf in (with_paths[number][1] for number in arrays)
    ]
    passed = following.passed_on(jax.make_jaxpr(replaced)(jax.random.key(0), shapes).jaxpr)
    return tuple(
        "/".join(map(str, trees.plain_path(with_paths[number][0])))
        for place, number in enumerate(arrays)
        if passed[place] != place + 1  # the key comes before the leaves
    )


def per_layer(initializer: Initializer, layers: Layers = None) -> ParamsInitializer:
    """Bridges the two kinds: fills the kernels of some layers with an `Initializer`.

    Args:
        initializer: Makes one kernel (spatial …, in, out), however the tree stores it; each layer
            gets a key of its own. Those of `jax.nn.initializers` do.
        layers: Which convolutions (see `Network.select`); None means all main layers.
    """
    checks.function("initializer", initializer)
    _check_called(initializer, "per_layer")
    if _names(initializer, "network"):
        raise ValueError("per_layer takes (key, shape, dtype) initialisers: compose this by chain")
    return fill_layers(
        lambda key, layer, kernel: initializer(key, kernel.shape, kernel.dtype), layers
    )


def fill_layers(
    make: Callable[[PRNGKey, Layer, Array], Array | None], layers: Layers = None
) -> ParamsInitializer:
    """Replaces the kernels of some layers by what a function makes of them.

    Args:
        make: Maps a key of the layer's own, the layer and its kernel (spatial …, in, out) to
            another kernel, or to None where it is to stay.
        layers: Which convolutions (see `Network.select`); None means all main layers.
    """

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        checks.key(key)
        known = network_layers.of(params, network)
        new: dict[Layer, Array] = {}
        chosen = known.select(layers)
        for layer, kernel in zip(chosen, kernels.get_all(params, chosen), strict=True):
            kernels.check_floating(kernel, (layer.name,))
            # The key depends on the layer's place in the network, not on which others are chosen.
            layer_key = jax.random.fold_in(key, known.place(layer))
            with kernels.known_axes():
                made = make(layer_key, layer, kernel)
            if made is not None:
                new[layer] = _checked(made, layer, kernel)
        return kernels.put(params, new)

    return init


def _checked(made: Any, layer: Layer, kernel: Array) -> Array:
    if not hasattr(made, "shape") or tuple(made.shape) != kernel.shape:
        what = f"shape {tuple(made.shape)}" if hasattr(made, "shape") else type(made).__name__
        raise ValueError(
            f"the initialiser made {what} for layer {layer.name}, whose kernel has the shape "
            f"{kernel.shape}: it must be called with (key, shape, dtype) and return an array"
        )
    return jnp.asarray(made)


def _unchanged(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
    del key, network
    return params


def unchanged() -> ParamsInitializer:
    """Leaves everything as it is: random initialisation, where the network drew its own."""
    return _unchanged


def scaled(factor: float | Array, layers: Layers = None) -> ParamsInitializer:
    """Multiplies the kernels of some layers by a factor; None means all main layers."""
    if isinstance(factor, jax.Array | np.ndarray):
        if factor.dtype != bool:
            checks.array("factor", factor, None, jnp.number)
        if jnp.iscomplexobj(factor):
            raise ValueError(f"factor holds {factor.dtype}, and kernels are real")
    else:
        checks.numbers(factor=factor)
    if checks.known(factor) and not np.isfinite(np.asarray(factor, float)).all():
        raise ValueError(f"factor={checks.shown(factor)} must be finite")
    return fill_layers(lambda key, layer, kernel: _times(kernel, factor), layers)


def _times(kernel: Array, factor: float | Array) -> Array:
    wide = at_least_float32(kernel)
    try:
        fits = np.broadcast_shapes(np.shape(factor), kernel.shape) == kernel.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"factor of shape {np.shape(factor)} does not go with a kernel of shape {kernel.shape}"
        )
    own = jnp.broadcast_to(jnp.asarray(factor, wide.dtype), kernel.shape)
    return (wide * own).astype(kernel.dtype)
