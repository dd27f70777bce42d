"""Derived symmetries: true of every network, not trivial, and ResNet-18's equal to ours by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxinit import alignment, symmetry
from jaxinit.models import resnet

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (3, 8, 8, 3))


def stirred(variables: Any, seed: int = 0) -> Any:
    """Gives every array values that no permutation leaves as they are."""
    rng = np.random.default_rng(seed)

    def stir(leaf):
        if not hasattr(leaf, "shape"):
            return leaf
        if leaf.ndim < 2:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32))
        spread = (leaf.size / leaf.shape[-1]) ** -0.5
        return jnp.asarray((spread * rng.standard_normal(leaf.shape)).astype(np.float32))

    return jax.tree.map(stir, variables)


def permuted_at_random(variables, found, seed):
    rng = np.random.default_rng(seed)
    sizes = alignment.sizes(variables, found)
    return alignment.permute(variables, found, {k: rng.permutation(n) for k, n in sizes.items()})


def distance(a, b):
    return float(jnp.abs(a - b).max() / jnp.abs(a).max())


def assert_true_of(apply, variables, *args):
    """All permutations leave the function as it was; of one axis alone they do not."""
    found = symmetry.derive(apply, jax.eval_shape(lambda: variables), *args)
    rng = np.random.default_rng(1)
    sizes = alignment.sizes(variables, found)
    permutations = {name: np.roll(rng.permutation(n), 1) for name, n in sizes.items()}
    run = jax.jit(apply)
    before = run(variables, *args)
    permuted = alignment.permute(variables, found, permutations)
    assert distance(before, run(permuted, *args)) < 1e-5
    shifts = {name: np.roll(np.arange(n), 1) for name, n in sizes.items()}
    for path, axes in found.items():
        for axis, name in enumerate(axes):
            if name is not None:
                broken = {path: (None,) * axis + (name,) + (None,) * (len(axes) - axis - 1)}
                moved = alignment.permute(variables, broken, shifts)
                assert distance(before, run(moved, *args)) > 1e-4, (path, axis)
    return found, sizes


def linen_network(module, *args, **options):
    """The network as a function of its variables, and these, stirred."""
    shapes = jax.eval_shape(functools.partial(module.init, **options), KEY, *args)
    return functools.partial(module.apply, **options), stirred(shapes)


def assert_equal_up_to_names(found, expected):
    assert found.keys() == expected.keys()
    pairs = {pair for path in found for pair in zip(found[path], expected[path], strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("residual_first_stage", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_resnet18_has_the_symmetry_found_by_hand(residual_first_stage, dtype):
    network = resnet.ResNet18(10, residual_first_stage, dtype)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(functools.partial(network.init, train=False), KEY, images)
    found = symmetry.derive(network.apply, shapes, images, train=False)
    by_hand = alignment.resnet18(residual_first_stage=residual_first_stage)
    assert_equal_up_to_names(found, by_hand)
    assert found["params/layer2_0/shortcut_conv/kernel"][3] == "layer2_0/conv2"
    # In training the running statistics are not read, but still belong to their channels.
    logits = lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"])[0]  # noqa: E731
    assert_equal_up_to_names(symmetry.derive(logits, shapes, images), by_hand)


def test_resnet18_is_left_as_it_was():
    network = resnet.ResNet18(10)
    apply, variables = linen_network(network, jnp.zeros((1, 8, 8, 3)), train=False)
    images = jax.random.normal(KEY, (4, 32, 32, 3))
    found = symmetry.derive(apply, variables, images)
    permuted = permuted_at_random(variables, found, 1)
    run = jax.jit(apply)
    assert distance(run(variables, images), run(permuted, images)) < 1e-5


class Ours(linen.Module):
    """Two blocks of ours, the second with a shortcut."""

    @linen.compact
    def __call__(self, x, *, train):
        x = linen.relu(
            resnet.BatchNorm(name="bn1")(resnet.Conv(6, 3, name="conv1")(x), train=train)
        )
        x = resnet.Block(6, residual=False, name="layer1_0")(x, train=train)
        x = resnet.Block(8, stride=2, name="layer2_0")(x, train=train)
        return linen.Dense(4, name="fc")(x.mean((1, 2)))


def test_what_uses_a_symmetry_takes_a_derived_one():
    apply, variables = linen_network(Ours(), IMAGES, train=False)
    found, sizes = assert_true_of(apply, variables, IMAGES)
    assert sizes == {
        "conv1": 6,
        "layer1_0/conv1": 6,
        "layer1_0/conv2": 6,
        "layer2_0/conv1": 8,
        "layer2_0/conv2": 8,
    }
    rng = np.random.default_rng(2)
    taken = {name: rng.permutation(size) for name, size in sizes.items()}
    other = alignment.permute(variables, found, taken)
    record = functools.partial(alignment.activations, Ours(), images=IMAGES, symmetry=found)
    by_activations = alignment.match_activations(
        record(variables=variables), record(variables=other)
    )
    for back in (alignment.match(KEY, variables, other, found), by_activations):
        for name in sizes:
            np.testing.assert_array_equal(taken[name][back[name]], np.arange(sizes[name]))
    aligned, _ = alignment.align_layers([variables, other], found, 3)
    for name in ("conv1", "layer1_0/conv1", "layer1_0/conv2"):
        axes = found[f"params/{name}/kernel"]
        assert axes[3] == name
    np.testing.assert_array_equal(
        aligned[1]["params"]["conv1"]["kernel"], variables["params"]["conv1"]["kernel"]
    )


class Bottleneck(linen.Module):
    features: int
    dtype: Any
    stride: int = 1

    @linen.compact
    def __call__(self, x):
        conv = functools.partial(linen.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(linen.BatchNorm, use_running_average=True, dtype=self.dtype)
        y = linen.relu(norm()(conv(self.features, (1, 1))(x)))
        y = linen.relu(norm()(conv(self.features, (3, 3), (self.stride, self.stride))(y)))
        y = norm()(conv(2 * self.features, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(2 * self.features, (1, 1), (self.stride, self.stride))(x))
        return linen.relu(x + y)


class FlaxResNet(linen.Module):
    """As in Flax's examples: names that Flax gives, bottlenecks, perhaps narrow arithmetic."""

    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(5, (3, 3), dtype=self.dtype)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=True, dtype=self.dtype)(x))
        x = linen.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for features, stride in ((3, 1), (3, 1), (4, 2)):
            x = Bottleneck(features, self.dtype, stride)(x)
        return linen.Dense(4, dtype=jnp.float32)(jnp.mean(x, axis=(1, 2)).astype(jnp.float32))


def test_flax_resnet_with_bottlenecks():
    apply, variables = linen_network(FlaxResNet(), IMAGES)
    found, sizes = assert_true_of(apply, variables, IMAGES)
    # The stem, two streams, and two layers in each of three blocks.
    assert sorted(sizes.values()) == [3] * 4 + [4] * 2 + [5, 6, 8]
    assert found["params/Bottleneck_1/Conv_2/kernel"] == (
        None,
        None,
        "Bottleneck_1/Conv_1",
        "Bottleneck_0/Conv_2",
    )
    narrow = FlaxResNet(jnp.bfloat16).apply
    with jax.numpy_dtype_promotion("standard"):  # which Flax's narrow norms need
        assert symmetry.derive(narrow, variables, IMAGES) == found


class Vgg(linen.Module):
    @linen.compact
    def __call__(self, x):
        for features in (4, 5, 6):
            x = linen.relu(linen.Conv(features, (3, 3))(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        return linen.Dense(4)(linen.relu(linen.Dense(7)(x)))


@pytest.mark.parametrize(("side", "free"), [(8, [4, 5, 6, 7]), (16, [4, 5, 7])])
def test_channels_are_passed_through_a_flattening_of_one_pixel_alone(side, free):
    images = jax.random.normal(KEY, (3, side, side, 3))
    _, sizes = assert_true_of(*linen_network(Vgg(), images), images)
    assert sorted(sizes.values()) == free


class MobileNet(linen.Module):
    groups: int

    @linen.compact
    def __call__(self, x):
        x = linen.relu6(linen.Conv(4, (3, 3))(x))
        y = linen.Conv(6, (1, 1), name="expand")(x)
        y = linen.Conv(6, (3, 3), feature_group_count=self.groups, name="grouped")(y)
        x = x + linen.Conv(4, (1, 1), name="project")(linen.relu6(y))
        return linen.Dense(4)(x.mean((1, 2)))


def test_depthwise_channels_are_free_and_grouped_ones_are_not():
    found, sizes = assert_true_of(*linen_network(MobileNet(6), IMAGES), IMAGES)
    assert sizes == {"Conv_0": 4, "expand": 6}
    assert found["params/grouped/kernel"] == (None, None, None, "expand")
    _, sizes = assert_true_of(*linen_network(MobileNet(2), IMAGES), IMAGES)
    assert sizes == {"Conv_0": 4}


class Gated(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.silu(linen.Conv(6, (3, 3))(x))
        gate = linen.Dense(3, name="squeeze")(x.mean((1, 2), keepdims=True))
        x = x * linen.sigmoid(linen.Dense(6, name="excite")(linen.relu(gate)))
        return linen.Dense(4)(x.mean((1, 2)))


def test_squeeze_and_excite():
    found, sizes = assert_true_of(*linen_network(Gated(), IMAGES), IMAGES)
    assert sizes == {"Conv_0": 6, "squeeze": 3}
    assert found["params/excite/kernel"] == ("squeeze", "Conv_0")


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        for _ in range(2):
            y = linen.relu(linen.Conv(6, (1, 1))(x))
            x = jnp.concatenate([x, linen.Conv(3, (3, 3))(y)], axis=-1)
        return linen.Dense(4)(x.mean((1, 2)))


def test_concatenated_channels_keep_their_order():
    _, sizes = assert_true_of(*linen_network(Dense(), IMAGES), IMAGES)
    assert sizes == {"Conv_0": 6, "Conv_2": 6}


class PaddedShortcut(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        y = linen.relu(linen.Conv(5, (3, 3), (2, 2))(x))
        y = linen.Conv(8, (3, 3))(y)
        x = y + jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))
        return linen.Dense(4)(linen.relu(x).mean((1, 2)))


def test_padded_channels_keep_their_order():
    _, sizes = assert_true_of(*linen_network(PaddedShortcut(), IMAGES), IMAGES)
    assert sizes == {"Conv_1": 5}


class Normed(linen.Module):
    norm: linen.Module

    @linen.compact
    def __call__(self, x):
        x = linen.gelu(self.norm(linen.Conv(6, (3, 3), use_bias=False)(x)))
        return linen.Dense(4)(x.max((1, 2)))


@pytest.mark.parametrize(
    ("norm", "free"),
    [
        (linen.LayerNorm(), {"Conv_0": 6}),
        (linen.RMSNorm(), {"Conv_0": 6}),
        (linen.GroupNorm(2), {}),
        (linen.GroupNorm(1), {"Conv_0": 6}),
        (linen.InstanceNorm(), {"Conv_0": 6}),
    ],
)
def test_norms(norm, free):
    _, sizes = assert_true_of(*linen_network(Normed(norm), IMAGES), IMAGES)
    assert sizes == free


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 6, rngs=rngs)])
        self.norm, self.last = nnx.BatchNorm(6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.last(self.norm(x, use_running_average=True))


def test_nnx():
    graph, state = nnx.split(Perceptron(nnx.Rngs(0)))
    apply = lambda state, x: nnx.merge(graph, state)(x)  # noqa: E731
    found, sizes = assert_true_of(apply, stirred(state), IMAGES[:, 0, 0])
    assert sizes == {"layers/0": 5, "layers/1": 6}
    assert found["norm/mean/value"] == ("layers/1",)
    other = alignment.permute(state, found, {"layers/0": np.arange(5)[::-1].copy()})
    back = alignment.match(KEY, state, other, found)
    np.testing.assert_array_equal(back["layers/0"], np.arange(5)[::-1])


def test_equinox():
    eqx = pytest.importorskip("equinox")
    first, second, third = jax.random.split(KEY, 3)
    network = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 5, 3, key=first),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.AdaptiveAvgPool2d(1),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.MLP(5, 4, 6, 2, key=second),
            eqx.nn.Dropout(0.5, inference=True),
            eqx.nn.Linear(4, 2, key=third),
        ]
    )
    arrays, rest = eqx.partition(network, eqx.is_array)
    images = IMAGES.transpose(0, 3, 1, 2)
    apply = lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x)  # noqa: E731
    found, sizes = assert_true_of(apply, stirred(arrays), images)
    assert sizes == {
        "layers/0": 5,
        "layers/4/layers/0": 6,
        "layers/4/layers/1": 6,
        "layers/4/layers/2": 4,
    }
    # With the functions among its leaves as well.
    assert symmetry.derive(lambda network, x: jax.vmap(network)(x), network, images) == found
    permuted = alignment.permute(network, found, {"layers/0": np.arange(5)[::-1]})
    assert distance(jax.vmap(network)(images), jax.vmap(permuted)(images)) < 1e-5


def test_haiku():
    hk = pytest.importorskip("haiku")
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 6, 2])(x)))
    variables = stirred(network.init(KEY, IMAGES[:, 0, 0]))
    _, sizes = assert_true_of(network.apply, variables, IMAGES[:, 0, 0])
    assert sizes == {"mlp/~/linear_0": 5, "mlp/~/linear_1": 6}


def test_heads_and_what_is_in_them():
    network = linen.MultiHeadAttention(num_heads=3, qkv_features=12, use_bias=False)
    tokens = jax.random.normal(KEY, (2, 5, 7))
    found, sizes = assert_true_of(*linen_network(network, tokens), tokens)
    # The heads; the features that queries and keys share; those of the values.
    assert sorted(sizes.values()) == [3, 4, 4]
    assert found["params/out/kernel"][0] == found["params/query/kernel"][1]


def scanned(variables, x):
    x = jnp.tanh(x @ variables["stem"])

    @jax.checkpoint
    def block(x, layer):
        return x + jnp.tanh(x @ layer["a"]) @ layer["b"], x.sum(0)

    x, sums = jax.lax.scan(block, x, variables["blocks"])
    return (x + sums.mean(0)[None]) @ variables["head"]


def test_scanned_blocks_have_one_permutation_for_all():
    shapes = {"stem": (3, 5), "blocks": {"a": (4, 5, 6), "b": (4, 6, 5)}, "head": (5, 2)}
    variables = jax.tree.map(jnp.zeros, shapes, is_leaf=lambda s: isinstance(s, tuple))
    found, sizes = assert_true_of(scanned, stirred(variables), IMAGES[:, 0, 0])
    assert sizes == {"stem": 5, "blocks/a": 6}
    assert found["blocks/b"] == (None, "blocks/a", "stem")


def test_branches_and_loops():
    def apply(variables, x):
        x = jnp.tanh(x @ variables["a"])
        x = jax.lax.cond(x.sum() > 0, lambda x: x * variables["b"], lambda x: x - 1, x)
        x = jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: 0.5 * x + variables["c"], x)
        return (
            jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ variables["d"]), x) @ variables["e"]
        )

    shapes = {"a": (3, 5), "b": (1, 5), "c": (1, 5), "d": (5, 5), "e": (5, 2)}
    variables = jax.tree.map(jnp.zeros, shapes, is_leaf=lambda s: isinstance(s, tuple))
    variables = {**stirred(variables), "c": -jnp.arange(5.0)[None]}
    for x in (jnp.ones((1, 3)), -jnp.ones((1, 3))):
        found = symmetry.derive(apply, variables, x)
        moved = alignment.permute(variables, found, {"a": np.array([3, 0, 4, 1, 2])})
        assert distance(apply(variables, x), apply(moved, x)) < 1e-5
    assert found["d"] == ("a", "a")


@pytest.mark.parametrize("mask", [np.array([1, 1, 0, 1, 0], np.float32), np.ones(5, np.float32)])
def test_a_constant_that_varies_keeps_channels_in_order(mask):
    def apply(variables, x):
        return (jnp.tanh(x @ variables["a"]) * mask[None]) @ variables["b"]

    variables = stirred({"a": jnp.zeros((3, 5)), "b": jnp.zeros((5, 2))})
    _, sizes = assert_true_of(apply, variables, IMAGES[:, 0, 0])
    assert sizes == ({} if mask.min() == 0 else {"a": 5})


def test_what_has_no_rule_keeps_its_order():
    def apply(variables, x):
        return jnp.fft.fft(jnp.tanh(x @ variables["a"])).real @ variables["b"]

    variables = {"a": jnp.zeros((3, 5)), "b": jnp.zeros((5, 2))}
    assert symmetry.derive(apply, variables, jnp.zeros((1, 3))) == {}
    # Nor has a variable that is not read any symmetry, or one that is handed out.
    assert symmetry.derive(lambda v, x: x, variables, jnp.zeros(3)) == {}
    assert symmetry.derive(lambda v, x: v["a"], variables, jnp.zeros(3)) == {}


def test_paths_must_differ():
    variables = {"a/b": jnp.zeros((2, 2)), "a": {"b": jnp.zeros((2, 2))}}
    with pytest.raises(ValueError, match="two arrays have the path 'a/b'"):
        symmetry.derive(lambda v, x: x, variables, jnp.zeros(3))
