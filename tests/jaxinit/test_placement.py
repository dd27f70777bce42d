"""Sharding, x64 and half precision: what comes back lies and is typed as what went in."""

import os
import subprocess
import sys

import pytest

FOUR_DEVICES = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
PROGRAM = """
import functools, sys
import jax, jax.numpy as jnp, numpy as np, jaxinit
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mode = sys.argv[1]
kind = AxisType.Explicit if mode == "explicit" else AxisType.Auto
mesh = jax.make_mesh((4,), ("model",), axis_types=(kind,))
params = {
    "stem": {"kernel": jnp.ones((7, 7, 3, 8))},
    "body": {"weight": jnp.ones((8, 8, 3, 3)), "bias": jnp.ones(8)},
}

def apply(params, x):
    x = jax.lax.conv_general_dilated(
        x, params["stem"]["kernel"], (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW")
    )
    return jax.lax.conv_general_dilated(x, params["body"]["weight"], (1, 1), "SAME")

network = jaxinit.trace(apply, params, jnp.zeros((1, 3, 8, 8)))
bank = jaxinit.banks.fit(jax.random.key(3), params, clusters=1, network=network)
inits = {
    "gabor": jaxinit.gabor(layers=1),
    "bank": jaxinit.clustered(bank),
    "scaled": jaxinit.scaled(2.0),
    "default": jaxinit.default(),
    "norms": jaxinit.controls.at_norms_of(jaxinit.default(), jaxinit.unchanged()),
    "pretrained": jaxinit.pretrained(params),
}
specs = {"stem": {"kernel": P(None, None, None, "model")},
         "body": {"weight": P("model", None, None, None), "bias": P("model")}}
shardings = jax.tree.map(
    lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda s: isinstance(s, P)
)
for name, init in inits.items():
    init = functools.partial(init, network=network)
    plain = init(jax.random.key(0), params)
    with jax.set_mesh(mesh):
        placed = jax.tree.map(jax.device_put, params, shardings)
        made = init(jax.random.key(0), placed)
        jitted = jax.jit(init)(jax.random.key(0), placed)
    for result in (made, jitted):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6), result, plain)
    for wanted, leaf in zip(jax.tree.leaves(placed), jax.tree.leaves(made)):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim), (name, leaf.sharding)
    if mode == "explicit":
        for wanted, leaf in zip(jax.tree.leaves(placed), jax.tree.leaves(jitted)):
            assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim), (name, leaf.sharding)
print("all placed")
"""

TYPES = """
import functools, jax, jax.numpy as jnp, numpy as np, jaxinit
params = {
    "a": {"kernel": jnp.ones((3, 3, 4, 8), jnp.float64)},
    "b": {"kernel": jnp.full((3, 3, 8, 256), 40, jnp.float16)},
    "c": {"kernel": np.ones((3, 3, 256, 4), np.float32)},
}
network = jaxinit.declare(params, ["a", "b", "c"])
bank = jaxinit.banks.fit(jax.random.key(3), params, clusters=1, network=network)
for init in (
    jaxinit.gabor(), jaxinit.clustered(bank), jaxinit.scaled(2.0), jaxinit.default(),
    jaxinit.controls.at_norms_of(jaxinit.default(), jaxinit.unchanged()),
    jaxinit.per_layer(jax.nn.initializers.he_normal()), jaxinit.pretrained(params),
):
    made = init(jax.random.key(0), params, network=network)
    types = [tree["kernel"].dtype.name for tree in made.values()]
    assert types == ["float64", "float16", "float32"], types
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(made))
norms = jaxinit.diagnostics.kernel_norms(params, network=network)
assert abs(float(norms["b"]) - 40 * (9 * 8 * 256) ** 0.5) < 1
print("all typed")
"""


def run(program, *arguments, **settings):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


SHARD_MAP = """
import jax, jax.numpy as jnp, jaxinit
from jax.sharding import AxisType, PartitionSpec as P

mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
conv = lambda x, w: jax.lax.conv_general_dilated(
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
params = {name: jnp.ones((3, 3, 4, 4)) for name in "ab"}

def apply(spec, params, x):
    inner = lambda w, x: conv(x, w)
    specs = {"in_specs": (spec, P("d")), "out_specs": P("d"), "check_vma": False}
    over = jax.shard_map(inner, mesh=mesh, **specs)
    return over(params["b"], conv(x, params["a"]))

x = jnp.ones((4, 6, 6, 4))
network = jaxinit.trace(lambda p, x: apply(P(), p, x), params, x)
assert network.names == ("a", "b"), network.names
split = jaxinit.trace(lambda p, x: apply(P(None, None, None, "d"), p, x), params, x)
assert [bool(layer.computed_from) for layer in split.layers] == [False, True]
print("all found")
"""


def test_kernels_under_shard_map():
    done = run(SHARD_MAP, XLA_FLAGS=FOUR_DEVICES)
    assert done.stdout.strip() == "all found", done.stderr[-3000:]


@pytest.mark.parametrize("mode", ["auto", "explicit"])
def test_shardings_on_four_devices(mode):
    done = run(PROGRAM, mode, XLA_FLAGS=FOUR_DEVICES)
    assert done.stdout.strip() == "all placed", done.stderr[-3000:]


def test_types_stay_with_64_bits_and_strict_promotion():
    done = run(TYPES, JAX_ENABLE_X64="1", JAX_NUMPY_DTYPE_PROMOTION="strict")
    assert done.stdout.strip() == "all typed", done.stderr[-3000:]
