"""What a network's convolutions make of a batch: the mean and variance of each one's output.

Read off the program that JAX traces of the network, whichever framework it is written in: calls
are written out (`jit`, `remat`, `custom_jvp`), scans pass by pass, so that each convolution is an
equation of its own, and this program is then run equation by equation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinit import following, tracing, trees
from jaxinit import layers as network_layers
from jaxinit.layers import Layer, Layers, Network
from jaxinit.models.modules import at_least_float32
from jaxinit.signatures import Params


def output_moments(
    apply: Callable[..., Any],
    params: Params,
    *args: Any,
    layers: Layers = None,
    network: Network | None = None,
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """Returns the mean and the variance of each convolution's output on a batch.

    Over images, positions and channels together. It is the output of the convolution itself: where
    a framework adds a bias, that is an operation of its own, which comes after. A kernel that is
    used at several places counts at the first.

    Args:
        apply: The network, as of `jaxinit.trace`: called as `apply(params, *args)`.
        params: Its parameters.
        *args: Its input and whatever else it needs: arrays, and what is handed over as it is.
        layers: Which convolutions (see `Network.select`); None means all main layers.
        network: As it was traced; where not given, it is traced anew.

    Returns:
        For each layer, in the order of calls, mean and variance, in no less than float32.

    Raises:
        ValueError: A layer that the network does not call, or calls within a `while_loop` or a
            branch of `cond`, where its output cannot be read; an array of which there is only a
            shape.

    Example:
        >>> conv = lambda w, x: jax.lax.conv(x, w, (1, 1), "VALID")
        >>> w, x = jnp.ones((1, 1, 2, 2)), jnp.array([[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]])
        >>> {name: (float(m), float(v)) for name, (m, v) in output_moments(conv, w, x).items()}
        {'kernel': (10.0, 4.0)}
    """
    recorded = record(apply, params, *args)
    names = {layer.name for layer in recorded.select(params, layers, network)}

    @jax.jit
    def run(given: Sequence[Array]) -> dict[str, tuple[Array, Array]]:
        found = {}

        def visit(name: str, output: Array) -> Array:
            if name in names and name not in found:
                found[name] = moments(output)
            return output

        recorded.run(given, visit)
        return found

    found = run(arrays(params, *args))
    return {layer.name: found[layer.name] for layer in recorded.network.layers
            if layer.name in names}  # fmt: skip


def moments(output: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean and variance of all numbers of an array, in no less than float32."""
    wide = at_least_float32(output)
    return jnp.mean(wide), jnp.var(wide)


class _Site(NamedTuple):
    """Where a layer's output is: in some channels of what an equation returns."""

    name: str
    axis: int
    start: int
    stop: int


class Recorded(NamedTuple):
    """A network's program, with each convolution an equation of its own.

    Attributes:
        program: As `tracing.program` has it, calls and scans written out.
        network: Its convolutions.
        sites: For the equations that are their calls, by `id`, whose output is where.
    """

    program: tracing.Program
    network: Network
    sites: Mapping[int, Sequence[_Site]]

    def select(
        self, params: Params, layers: Layers = None, network: Network | None = None
    ) -> tuple[Layer, ...]:
        """Resolves which layers are meant, all of which have an output that can be read.

        Args:
            params: The network's parameters.
            layers: See `Network.select`.
            network: As the caller traced it, if it was.

        Raises:
            ValueError: There is none, or none whose output can be read.
        """
        known = self.network if network is None else network_layers.of(params, network)
        read = {site.name for sites in self.sites.values() for site in sites}
        chosen = tuple(self.network[layer.name] for layer in known.select(layers))
        for layer in chosen:
            if layer.name not in read:
                raise ValueError(
                    f"{layer.name} is called within a loop or a branch whose passes are not known "
                    "beforehand, so that its output cannot be read: choose other layers"
                )
        return chosen

    def run(self, given: Sequence[Array], visit: Callable[[str, Array], Array]) -> None:
        """Runs the program, handing over each layer's outputs; to be called under `jax.jit`.

        Args:
            given: What `arrays` returns.
            visit: Is called in order with the name of a layer and an output of it, for each of its
                calls, and returns what is to take the output's place.
        """

        def replaced(equation: Any, results: list[Array]) -> list[Array]:
            for site in self.sites.get(id(equation), ()):
                (whole,) = results
                part = jax.lax.slice_in_dim(whole, site.start, site.stop, axis=site.axis)
                new = visit(site.name, part)
                if new is not part:
                    place = [slice(None)] * whole.ndim
                    place[site.axis] = slice(site.start, site.stop)
                    results = [whole.at[tuple(place)].set(new)]
            return results

        closed = self.program.jaxpr
        _evaluate(closed.jaxpr, closed.consts, given, replaced)


def record(apply: Callable[..., Any], params: Params, *args: Any) -> Recorded:
    """Traces a network so that the outputs of its convolutions can be read.

    Args:
        apply: The network, as of `jaxinit.trace`.
        params: Its parameters; shapes suffice.
        *args: Its input and whatever else it needs; shapes suffice.
    """
    seen = tracing.program(apply, params, *args)
    closed = seen.jaxpr
    flat = jax.make_jaxpr(lambda *given: _evaluate(closed.jaxpr, closed.consts, given))(
        *(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=_layout(a)) for a in closed.in_avals)
    )
    seen = seen._replace(jaxpr=flat)
    network, calls = tracing.follow(seen)
    sites: dict[int, list[_Site]] = {}
    for equation in flat.jaxpr.eqns:
        own = [layer for layer, call in zip(network.layers, calls, strict=True)
               if id(equation) in call.places]  # fmt: skip
        if own:
            sites[id(equation)] = _sites(equation, own)
    return Recorded(seen, network, sites)


def arrays(params: Params, *args: Any) -> list[Array]:
    """The arrays among a network's parameters and arguments, in the order of its program.

    Raises:
        ValueError: One of them has a shape but no numbers.
    """
    found = []
    for leaf in jax.tree_util.tree_leaves((params, args)):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise ValueError(
                f"an array of shape {leaf.shape} among the network's parameters or arguments has "
                "no numbers: give a batch of images, and parameters, to compute with"
            )
        if trees.is_array(leaf):
            found.append(leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf)))
    return found


def _layout(aval: Any) -> Any:
    """How an input is laid out on a mesh, where that is part of its type."""
    sharding = aval.sharding
    return sharding if getattr(sharding.mesh, "are_all_axes_explicit", False) else None


def _sites(equation: Any, own: Sequence[Layer]) -> list[_Site]:
    """Deals the channels of a convolution's output to the layers that `vmap` made one of."""
    axis = equation.params["dimension_numbers"].out_spec[1]
    channels = equation.outvars[0].aval.shape[axis]
    widths = [channels] if len(own) == 1 else [layer.shape[-1] for layer in own]
    stops = np.cumsum(widths).tolist()
    if stops[-1] != channels:
        names = ", ".join(layer.name for layer in own)
        raise ValueError(f"the outputs of {names} cannot be told apart: choose other layers")
    starts = [0, *stops[:-1]]
    return [_Site(layer.name, axis, *ends)
            for layer, *ends in zip(own, starts, stops, strict=True)]  # fmt: skip


def _evaluate(
    jaxpr: Any,
    consts: Sequence[Any],
    given: Sequence[Any],
    visit: Callable[[Any, list[Array]], list[Array]] | None = None,
) -> list[Any]:
    """Runs a program; without `visit`, calls and scans that hold convolutions are written out."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, given, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        results = None
        if visit is None and following.holds_convolution(equation):
            results = _written_out(equation, values)
        if results is None:
            operands = {
                atom: value
                for atom, value in zip(equation.invars, values, strict=True)
                if not isinstance(atom, jax.extend.core.Literal)
            }
            alone = jaxpr.replace(
                constvars=[], invars=[*operands], outvars=equation.outvars, eqns=[equation]
            )
            run = jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(alone, []))
            results = run(*operands.values())
        if visit is not None:
            results = visit(equation, list(results))
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _written_out(equation: Any, values: Sequence[Any]) -> list[Any] | None:
    """Runs what an equation calls, or scans; None where its passes are not known."""
    name = equation.primitive.name
    if name == "scan" and equation.params["length"]:
        return _unrolled(equation, values)
    if name in ("scan", "cond", "while", "shard_map"):
        return None
    if (inner := following.called(equation)) is None:
        return None
    return _evaluate(*_opened(inner), values)


def _unrolled(equation: Any, values: Sequence[Any]) -> list[Any]:
    consts, carries = following.scan_counts(equation)
    fixed, carry = list(values[:consts]), list(values[consts : consts + carries])
    places = range(equation.params["length"])
    collected: dict[int, list[Any]] = {}
    for place in reversed(places) if equation.params["reverse"] else places:
        own = [
            jax.lax.index_in_dim(value, place, keepdims=False)
            for value in values[consts + carries :]
        ]
        results = _evaluate(*_opened(equation.params["jaxpr"]), fixed + carry + own)
        carry, collected[place] = results[:carries], results[carries:]
    return carry + [
        jnp.stack(results) for results in zip(*(collected[place] for place in places), strict=True)
    ]


def _opened(program: Any) -> tuple[Any, Sequence[Any]]:
    """A program and its constants."""
    if isinstance(program, jax.extend.core.ClosedJaxpr):
        return program.jaxpr, program.consts
    return program, ()
