"""Starts at a given norm: under batch norm a layer's norm is its learning rate.

What batch norm follows does not depend on the norm of w, so its gradient is orthogonal to w and
grows as 1/‖w‖. A step of SGD at a rate η then turns w by an angle of η‖∇L(w/‖w‖)‖/‖w‖²: at s times
the norm, a rate of η does what η/s² does at the norm itself (van Laarhoven 2017, section 2; Hoffer
et al. 2018, section 2).
"""

import math
from collections.abc import Mapping, Sequence

from jaxtyping import Array

from jaxinit import checks, kernels, relative_norms
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Layers, LiveTaps, Network
from jaxinit.signatures import Params, ParamsInitializer, PRNGKey


def at_relative_norm(
    relative_norm: float | Array | Mapping[str, float | Array],
    layers: Layers = None,
    live: LiveTaps | None = None,
) -> ParamsInitializer:
    """Scales kernels to norms that are multiples of the default's, √(2·i) of i input channels.

    w ← w · relative_norm · √(2·i·l/t) / ‖w‖, where l of a kernel's t taps are live, and ‖w‖ is
    taken over these. A kernel of zeros stays so; norms of single output channels keep their ratios.

    Args:
        relative_norm: Of all chosen layers, or for each name its own, such as the `norms` of the
            card of a bank that ships. Names may be patterns, as of `Network.select`; a layer's own
            name comes before them.
        layers: Which convolutions (see `Network.select`); None means all main layers, or those that
            `relative_norm` names.
        live: The taps whose norm counts (`Network.live_taps`): the others, which never meet data,
            are scaled along. Where not given, those of the network if it was traced, else all; {}
            for all in any case.

    Raises:
        ValueError: A norm that is negative or not finite; a chosen layer that `relative_norm` does
            not name, or by several patterns (when applied).

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 8))}}
        >>> init = jaxinit.chain(jaxinit.gabor(), at_relative_norm(3.0))
        >>> made = init(jax.random.key(0), params)["conv1"]["kernel"]
        >>> round(float(jnp.sum(made**2)), 3)  # 3² · 2 · 3 input channels
        54.0
    """
    given = relative_norm.values() if isinstance(relative_norm, Mapping) else [relative_norm]
    for norm in given:
        checks.numbers(relative_norm=norm)
        if checks.known(norm) and not 0 <= float(norm) < math.inf:
            raise ValueError(f"relative_norm={norm} must be 0 or more: 1 is the default's")
    if isinstance(relative_norm, Mapping) and layers is None:
        layers = tuple(relative_norm)

    def init(key: PRNGKey, params: Params, *, network: Network | None = None) -> Params:
        del key
        known = network_layers.of(params, network)
        chosen = known.select(layers)
        wanted = _by_layer(relative_norm, chosen, known)
        counted = known.live_taps() if live is None else live
        new = {}
        for layer, kernel in zip(chosen, kernels.get_all(params, chosen), strict=True):
            met = network_layers.live_part(kernel, layer, counted)
            share = math.prod(met.shape[:-2]) / math.prod(layer.size)
            own = relative_norms.as_factor(wanted[layer.name])
            target = own * relative_norms.default_norm(layer.shape, share)
            new[layer] = relative_norms.with_norm(kernel, target, met)
        return kernels.put(params, new)

    return init


def _by_layer(
    relative_norm: float | Array | Mapping[str, float | Array],
    chosen: Sequence[Layer],
    network: Network,
) -> dict[str, float | Array]:
    """The norm of each chosen layer, by its name."""
    if not isinstance(relative_norm, Mapping):
        return {layer.name: relative_norm for layer in chosen}
    meant: dict[str, list[str]] = {layer.name: [] for layer in chosen}
    for given in relative_norm:
        for layer in _named(given, network):
            if layer.name in meant:
                meant[layer.name].append(given)
    norms = {}
    for name, given in meant.items():
        if not given:
            raise ValueError(f"no norm is given for layer {name!r}: name it, or choose others")
        if name not in given and len(given) > 1:
            raise ValueError(
                f"layer {name!r} is meant by {' and '.join(map(repr, given))}: give its own name"
            )
        norms[name] = relative_norm[name if name in given else given[0]]
    return norms


def _named(name: str, network: Network) -> Sequence[Layer]:
    """The layers that a name or a pattern means; none where the network has none of the kind."""
    try:
        return network.select([name])
    except ValueError:
        return ()


def for_step_size(
    step: float | Array | Mapping[str, float | Array],
    layers: Layers = None,
    live: LiveTaps | None = None,
) -> ParamsInitializer:
    """Scales kernels so that a step of SGD turns them `step` times as far as the default's.

    The norm is 1/√step times the default's: by the argument at the top of this module, training
    these layers at a rate η is then, at first, training them at the default's norm and a rate of
    step · η. Only for layers whose output is normalised; with weight decay, or momentum over many
    steps, norms drift towards others.

    Args:
        step: Of all chosen layers, or for each name its own; above 0.
        layers: Which convolutions, as of `at_relative_norm`.
        live: The taps that count, as of `at_relative_norm`.

    Raises:
        ValueError: A step that is not above 0.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = {"conv1": {"kernel": jnp.ones((3, 3, 2, 8))}}
        >>> made = for_step_size(4.0)(jax.random.key(0), params)["conv1"]["kernel"]
        >>> round(float(jnp.sum(made**2)), 3)  # half the norm, of 2 · 2 input channels
        1.0
    """
    steps = dict(step) if isinstance(step, Mapping) else {"": step}
    for own in steps.values():
        checks.numbers(step=own)
        if checks.known(own) and not 0 < float(own) < math.inf:
            raise ValueError(f"step={step} must be above 0: 1 is the default's")
    norms = {name: relative_norms.as_factor(own) ** -0.5 for name, own in steps.items()}
    return at_relative_norm(norms if isinstance(step, Mapping) else norms[""], layers, live)
