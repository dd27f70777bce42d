"""Calls every public function of the library with odd values, one argument at a time.

    python -m tests.jaxinit.odd_calls [NUMBER [SEED]]

prints each call, of a random choice of so many or of all, that ends in neither a value nor a
sentence of the library's own: a `ValueError` or `TypeError` that the library itself raises.
"""

import inspect
import math
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit
from jaxinit import (
    alignment,
    banks,
    catalogue,
    controls,
    diagnostics,
    distances,
    inspection,
    kernel_init,
    kernels,
    kmeans,
    layers,
    symmetry,
    transfer,
)
from jaxinit import initializers as starts
from jaxinit.models import registry
from jaxinit.models import torch as port
from tests import small

_HOME = Path(jaxinit.__file__).parent

#: What is put in place of one argument.
ODD: tuple[Any, ...] = (
    None, "x", "", b"x", True, -1, 0, 1.5, 10**30, math.nan, math.inf, -math.inf, 1j, (), [], {},
    [None], {"x": 1}, {1: "x"}, object(), slice(None, None, -1), slice("a"), slice(0, 1, 0),
    np.zeros(0), np.full((2, 2), np.nan), np.ones((2, 3), np.int32), np.array("x"), np.float64(-2),
    jnp.ones(3, jnp.complex64), jnp.full((3, 3, 2, 4), jnp.inf), jnp.zeros((), jnp.int32),
)  # fmt: skip

KEY = jax.random.key(0)
PARAMS = {
    "conv1": {"kernel": jnp.arange(108.0).reshape(3, 3, 3, 4)},
    "layer1_0": {"conv1": {"kernel": jnp.arange(-20.0, 124.0).reshape(3, 3, 4, 4)}},
    "fc": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)},
}
BANK = small.bank_for(PARAMS)
NETWORK = layers.of(PARAMS)
IMAGES = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
SHAPE = (3, 3, 3, 4)
SYMMETRY = {"params/a": (None, "h"), "params/b": ("h", None)}
PAIR = {"params": {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(12.0).reshape(3, 4)}}
POINTS = np.arange(12.0, dtype=np.float32).reshape(6, 2)


def forward(params: Any, x: Any) -> Any:
    """A network of one convolution."""
    return jax.lax.conv_general_dilated(
        x, params["conv1"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


KERNEL = {"key": KEY, "shape": SHAPE, "dtype": jnp.float32}

Table = dict[str, tuple[Callable[..., Any], dict[str, Any]]]


def applied(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an initialiser of trees, and uses it."""

    def call(key: Any, params: Any, network: Any, **options: Any) -> Any:
        return make(**options)(key, params, network=network)

    return call


def drawn(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an initialiser of one kernel, and uses it."""

    def call(key: Any, shape: Any, dtype: Any, **options: Any) -> Any:
        return make(**options)(key, shape, dtype)

    return call


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """What is given where nothing else is said."""
    found = inspect.signature(function).parameters.values()
    return {own.name: own.default for own in found if own.default is not own.empty}


def table() -> Table:
    """Functions by name, each with arguments that are right."""
    return {**of_trees(), **of_kernels(), **of_the_rest()}


def of_trees() -> Table:
    """Initialisers of trees, made and used."""
    tree = {"key": KEY, "params": PARAMS, "network": None}
    unchanged, half = starts.unchanged(), starts.scaled(0.5)
    own: Table = {}

    def add_tree(make: Callable[..., Any], **given: Any) -> None:
        options = {**defaults(make), **given}
        own[f"initialiser {make.__name__}"] = (applied(make), {**tree, **options})

    for make in (starts.gabor, starts.closed_form, starts.default, starts.recommended):
        add_tree(make)
    for make in (starts.clustered, controls.shuffled, controls.gaussian):
        add_tree(make, bank=BANK)
    for make in (starts.bootstrap, starts.covariance, starts.whole_filters):
        add_tree(make, sources=[PARAMS])
    for make in (starts.pretrained, starts.weight_selection):
        add_tree(make, source=PARAMS)
    add_tree(starts.scaled, factor=2.0)
    add_tree(starts.at_relative_norm, relative_norm=2.0)
    add_tree(starts.for_step_size, step=2.0)
    add_tree(starts.mix, first=unchanged, second=half)
    add_tree(starts.only, initializer=half)
    add_tree(starts.per_layer, initializer=kernel_init.dct())
    add_tree(controls.at_norms_of, initializer=unchanged, reference=half)
    add_tree(jaxinit.start, name="dct")
    own["initialiser lsuv"] = (
        lambda key, params, network, apply, x, **options: starts.lsuv(apply, x, **options)(
            key, params, network=network
        ),
        {**tree, "apply": forward, "x": IMAGES, "layers": 1, "target": 1.0, "tolerance": 0.1,
         "iterations": 2},
    )  # fmt: skip
    own["initialiser chain"] = (
        lambda key, params, network, one: starts.chain(one, half)(key, params, network=network),
        {**tree, "one": unchanged},
    )
    return own


def of_kernels() -> Table:
    """Initialisers of one kernel, made and used."""
    own: Table = {}

    def add_kernel(make: Callable[..., Any], **given: Any) -> None:
        options = {**defaults(make), **given}
        own[f"kernel {make.__name__}"] = (drawn(make), {**KERNEL, **options})

    for make in (kernel_init.orthogonal, kernel_init.dirac, kernel_init.impulse, kernel_init.dct,
                 kernel_init.delta_orthogonal, kernel_init.smooth, kernel_init.colour_gabor,
                 kernel_init.centred_gabor_kernel, kernel_init.difference_of_gaussians,
                 kernel_init.gaussian_derivatives, kernel_init.natural_whitening):  # fmt: skip
        add_kernel(make)
    add_kernel(kernel_init.closed_form_covariance, depth=0.5)
    add_kernel(kernel_init.patch_whitening, images=IMAGES, patches=64)
    add_kernel(kernel_init.patch_kmeans, images=IMAGES, patches=64)
    add_kernel(starts.clustered_kernel, bank=BANK)
    own["kernel catalogue"] = (drawn(catalogue.kernel), {**KERNEL, "name": "dct"})
    return own


def of_the_rest() -> Table:
    """All other functions."""
    own: Table = {}

    def add(function: Callable[..., Any], **given: Any) -> None:
        module = function.__module__.removeprefix("jaxinit.")
        own[f"{module}.{function.__name__}"] = (function, {**defaults(function), **given})

    add(starts.changed, initializer=starts.scaled(0.5), params=PARAMS)
    add(kernel_init.gabor_kernel, **KERNEL)
    add(banks.fit, key=KEY, models=[PARAMS], clusters=2, restarts=1)
    add(banks.draw, key=KEY, bank=BANK, layer="conv1", shape=SHAPE)
    add(banks.check_layer, bank=BANK, layer="conv1", shape=SHAPE)
    add(banks.load, path="/nowhere.npz")
    add(banks.named, name="imagenet-resnet18")
    add(catalogue.names)
    add(catalogue.get, name="dct")
    add(distances.get, name="cosine")
    add(registry.get, name="resnet18")
    add(diagnostics.kernel_norms, params=PARAMS)
    add(diagnostics.kernel_angles, before=PARAMS, after=PARAMS)
    add(inspection.examine, start=PARAMS)
    add(inspection.random_entropy, count=10, taps=9)
    add(inspection.variance_entropy, slices=jnp.asarray(POINTS))
    add(inspection.sparsity, slices=jnp.asarray(POINTS))
    add(kernels.get, params=PARAMS, layer=NETWORK["conv1"])
    add(kernels.put, params=PARAMS, kernels={NETWORK["conv1"]: jnp.ones(SHAPE)})
    add(kernels.to_slices, kernel=jnp.ones(SHAPE))
    add(kernels.from_slices, slices=jnp.ones((12, 9)), shape=SHAPE)
    add(kmeans.fit, key=KEY, points=POINTS, k=2, weights=np.ones(6, np.float32))
    add(kmeans.fit, key=KEY, points=POINTS, k=2, centers=POINTS[:2])
    add(kmeans.assign, points=POINTS, centers=POINTS[:2])
    add(jaxinit.declare, params=PARAMS, names=["conv1"])
    add(layers.of, params=PARAMS, network=NETWORK)
    own["Network.select"] = (NETWORK.select, {"layers": 1})
    own["Network[…]"] = (NETWORK.__getitem__, {"name": "conv1"})
    add(transfer.by_depth, bank=BANK, network=NETWORK)
    add(transfer.pairs, bank=BANK, network=NETWORK)
    add(transfer.resample, slices=jnp.ones((2, 9)), size=(3, 3), new=(5, 5))
    own["trace"] = (lambda apply, params, x: jaxinit.trace(apply, params, x),
                    {"apply": forward, "params": PARAMS, "x": IMAGES})  # fmt: skip
    own["symmetry.derive"] = (lambda apply, variables, x: symmetry.derive(apply, variables, x),
                              {"apply": forward, "variables": PARAMS, "x": IMAGES})  # fmt: skip
    order = {"h": np.array([2, 0, 1])}
    add(alignment.permute, variables=PAIR, symmetry=SYMMETRY, permutations=order)
    own["permutation"] = (
        lambda h: alignment.permute(PAIR, SYMMETRY, {"h": h}), {"h": np.array([2, 0, 1])}
    )  # fmt: skip
    add(alignment.match, key=KEY, reference=PAIR, variables=PAIR, symmetry=SYMMETRY)
    add(alignment.match_activations, reference={"h": POINTS}, other={"h": POINTS})
    add(alignment.average, networks=[PAIR, PAIR])
    add(alignment.sizes, variables=PAIR, symmetry=SYMMETRY)
    add(alignment.group_filters, kernels=jnp.ones((2, *SHAPE)))
    add(alignment.align_layers, networks=[{"params": PARAMS}], layers=1,
        symmetry={"params/conv1/kernel": (None, None, None, "h")})  # fmt: skip
    add(jaxinit.open_weights, path="/nowhere.npz")
    add(jaxinit.open_checkpoint, path="/nowhere")
    add(port.network_of, state={"x": np.ones(3)})
    add(port.from_torch, state={"x": np.ones(3)}, network="resnet18")
    add(port.to_torch, variables={"params": PARAMS})
    return own


def calls() -> Iterator[tuple[str, str, Any, Callable[[], Any]]]:
    """Every function, with one argument that is odd."""
    for name, (function, given) in table().items():
        for argument in given:
            for odd in ODD:
                changed = {**given, argument: odd}
                yield name, argument, odd, lambda f=function, g=changed: f(**g)


def complaint(call: Callable[[], Any], also: tuple[type[BaseException], ...] = ()) -> str | None:
    """What is wrong with how a call ends, if anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except also:
        return None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        if any(frame.name == forward.__name__ for frame in frames):  # the caller's own function
            return None
        own = _HOME in Path(last.filename).parents and (last.line or "").startswith("raise ")
        if own and isinstance(error, ValueError | TypeError):
            return None
        if isinstance(error, FileNotFoundError):  # which names the file, as documented
            return None
        said = str(error).strip().split("\n")[0][:100]
        return f"{type(error).__name__}: {said} ({Path(last.filename).name}:{last.lineno})"
    return None


def complaints(
    number: int | None, seed: int = 0, also: tuple[type[BaseException], ...] = ()
) -> list[str]:
    """Makes so many random calls, or all, and says of each what was wrong, if anything was."""
    chosen = list(calls())
    if number is not None:
        chosen = random.Random(seed).sample(chosen, min(number, len(chosen)))
    found = []
    for name, argument, odd, call in chosen:
        if (wrong := complaint(call, also)) is not None:
            found.append(f"{name}({argument}={odd!r:.40}): {wrong}")
    return found


if __name__ == "__main__":
    given = dict(zip(("number", "seed"), map(int, sys.argv[1:]), strict=False))
    wrong = complaints(given.get("number"), given.get("seed", 0))
    print("\n".join(wrong))
    print(len(list(calls())), "calls known,", len(wrong), "wrong")
