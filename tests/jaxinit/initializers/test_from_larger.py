"""Weights selected from larger networks are those of the rule, and consistent between layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxinit
from jaxinit import initializers
from jaxinit.models import registry, resnet
from tests import small
from tests.jaxinit.initializers.comparing import changed_layers, same

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 3), np.float32))


def chosen(whole, wanted):
    """Which of `whole` entries the authors' rule takes, by hand."""
    if whole % wanted == 0:
        return [number * (whole // wanted) for number in range(wanted)]
    return [round(number * (whole - 1) / (wanted - 1)) for number in range(wanted)]


def test_which_entries_are_taken():
    assert chosen(9, 3) == [0, 3, 6]
    assert chosen(7, 3) == [0, 3, 6]
    assert chosen(64, 48)[:5] == [0, 1, 3, 4, 5]
    assert chosen(64, 48)[-1] == 63
    shapes = [(9, 3), (7, 3), (64, 48), (5, 5), (4, 1), (3, 2), (192, 80)]
    for whole, wanted in shapes:
        source = {"norm": {"scale": np.arange(whole, dtype=np.float32)}}
        made = initializers.weight_selection(source)(KEY, {"norm": {"scale": jnp.zeros(wanted)}})
        np.testing.assert_array_equal(made["norm"]["scale"], chosen(whole, wanted))


def cifar(widths, stages=(1, 1, 1), classes=5):
    """A small network of one family, with a key's parameters."""
    return resnet.ResNet(classes, stages=stages, widths=widths, stem="cifar")


def drawn(module, seed):
    shapes = jax.eval_shape(functools.partial(module.init, train=False), KEY, IMAGES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def test_every_number_is_the_sources_at_the_expected_place():
    larger = drawn(cifar((6, 9, 16), stages=(2, 1, 2)), 0)["params"]
    smaller = jax.tree.map(jnp.asarray, drawn(cifar((4, 6, 8)), 1)["params"])
    made = initializers.weight_selection(larger)(KEY, smaller)
    assert jax.tree.structure(made) == jax.tree.structure(smaller)

    def check(path, leaf):
        whole = functools.reduce(lambda tree, key: tree[key.key], path, larger)
        places = [chosen(*sides) for sides in zip(whole.shape, leaf.shape, strict=True)]
        np.testing.assert_array_equal(leaf, whole[np.ix_(*places)])

    jax.tree_util.tree_map_with_path(check, made)


def widened(leaf, axes, rng):
    """A leaf within one of twice as many channels, whose others do not read the old ones."""
    for axis in axes:
        other = rng.standard_normal(leaf.shape).astype(np.float32)
        leaf = np.stack([leaf, other], axis + 1).reshape(
            *leaf.shape[:axis], 2 * leaf.shape[axis], *leaf.shape[axis + 1 :]
        )
    return leaf


def test_a_network_within_a_wider_and_deeper_one_is_found_whole():
    known = drawn(cifar((4, 6, 8)), 2)
    rng = np.random.default_rng(3)

    def wide(path, leaf):
        names = [key.key for key in path]
        channels = list(range(leaf.ndim - 2, leaf.ndim)) if leaf.ndim > 1 else [0]
        if names[-2:] == ["conv1", "kernel"] and len(names) == 3:
            channels = [3]  # the stem reads colours
        if names[1] == "fc":
            channels = [0] if names[-1] == "kernel" else []  # and the head makes classes
        return widened(leaf, channels, rng)

    larger = jax.tree_util.tree_map_with_path(wide, known)
    for tree in larger.values():
        tree["layer2_1"] = jax.tree.map(np.zeros_like, tree["layer1_0"])
    start = jax.tree.map(jnp.zeros_like, known)
    made = {
        kind: initializers.weight_selection(larger[kind])(KEY, start[kind])
        for kind in ("params", "batch_stats")
    }
    assert same(made, known)


def test_the_same_shapes_are_taken_as_they_are(params):
    source = jax.tree.map(lambda leaf: leaf + 1, params)
    assert same(initializers.weight_selection(source)(KEY, params), source)


def test_the_registrys_deeper_network_gives_the_first_blocks():
    larger, smaller = (
        jax.eval_shape(
            functools.partial(registry.get(name).make(classes=5).init, train=False), KEY, IMAGES
        )["params"]
        for name in ("resnet34", "resnet18")
    )
    made = jax.eval_shape(
        lambda source: initializers.weight_selection(source)(KEY, _zeros(smaller)), larger
    )
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, smaller)


def _zeros(shapes):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def test_chosen_layers_dtypes_and_jit(params):
    wide = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=-1).astype(np.float16), params)
    wide["layer1_0"]["conv1"]["kernel"] = np.repeat(wide["layer1_0"]["conv1"]["kernel"], 2, axis=2)
    init = initializers.weight_selection(wide, layers=2)
    made = init(KEY, params)
    assert changed_layers(params, made) == ["conv1", "layer1_0/conv1"]
    assert made["conv1"]["kernel"].dtype == jnp.float32
    half = np.float16(params["conv1"]["kernel"])
    np.testing.assert_array_equal(made["conv1"]["kernel"], half)
    assert same(jax.jit(init)(KEY, params), made)


def test_a_head_of_other_classes_keeps_its_start():
    larger = drawn(cifar((8, 8, 8), classes=7), 4)["params"]
    smaller = jax.tree.map(jnp.asarray, drawn(cifar((4, 4, 4), classes=5), 5)["params"])
    made = initializers.weight_selection(larger)(KEY, smaller)
    assert same(made["fc"], smaller["fc"])
    np.testing.assert_array_equal(made["conv1"]["kernel"], larger["conv1"]["kernel"][..., ::2])


class Scanned(linen.Module):
    """Blocks under `nn.scan`, whose kernels are one leaf."""

    features: int
    length: int

    @linen.compact
    def __call__(self, x):
        class Step(linen.Module):
            features: int

            @linen.compact
            def __call__(self, x, _):
                return linen.Conv(self.features, (3, 3), use_bias=False, name="own")(x), None

        x = linen.Conv(self.features, (3, 3), use_bias=False, name="stem")(x)
        body = linen.scan(
            Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.length
        )
        return body(self.features, name="blocks")(x, None)[0]


def test_of_a_stack_the_first_layers_are_taken():
    trees, networks = [], []
    for features, length in ((6, 4), (3, 2)):
        module = Scanned(features, length)
        params = jax.jit(module.init)(KEY, IMAGES)["params"]
        network = jaxinit.trace(
            lambda p, x, module=module: module.apply({"params": p}, x), params, IMAGES
        )
        trees.append(params)
        networks.append(network)
    init = initializers.weight_selection(trees[0], source_network=networks[0])
    made = init(KEY, trees[1], network=networks[1])
    whole = np.asarray(trees[0]["blocks"]["own"]["kernel"])
    np.testing.assert_array_equal(made["blocks"]["own"]["kernel"], whole[:2, :, :, ::2, ::2])
    with pytest.raises(ValueError, match=r"is a part of a leaf.*source_network="):
        initializers.weight_selection(trees[0])(KEY, trees[1], network=networks[1])
    alike = initializers.weight_selection(trees[0])(KEY, trees[0], network=networks[0])
    assert same(alike, trees[0])


def test_equinoxs_order_of_axes():
    eqx = pytest.importorskip("equinox")
    larger, smaller = (
        [eqx.nn.Conv2d(3, width, 3, key=KEY), eqx.nn.Conv2d(width, width, 3, key=KEY)]
        for width in (8, 4)
    )
    x = jax.ShapeDtypeStruct((3, 8, 8), jnp.float32)
    network = jaxinit.trace(lambda layers, x: layers[1](layers[0](x)), smaller, x)
    made = initializers.weight_selection(larger)(KEY, smaller, network=network)
    np.testing.assert_array_equal(made[1].weight, larger[1].weight[::2, ::2])
    np.testing.assert_array_equal(made[0].bias, larger[0].bias[::2])


def test_bad_input_gets_a_sentence(params):
    select = initializers.weight_selection
    with pytest.raises(ValueError, match="a tree of arrays"):
        select({})
    with pytest.raises(ValueError, match="has no bn1/bias"):
        select({"conv1": params["conv1"]})(KEY, params)
    narrow = {**params, "bn1": {"scale": jnp.zeros(4), "bias": jnp.zeros(4)}}
    with pytest.raises(ValueError, match=r"bn1/bias has the shape \(4,\) .* and \(8,\) here"):
        select(narrow)(KEY, params)
    for shape, said in [((5, 5, 3, 8), "kernels of 5×5"), ((7, 7, 3, 4), "not a selection")]:
        other = {**params, "conv1": {"kernel": jnp.zeros(shape)}}
        with pytest.raises(ValueError, match=said):
            select(other)(KEY, params)
    unknown = {"stem": {"kernel": jnp.zeros((3, 3, 3, 4))}}
    with pytest.raises(ValueError, match="order of this tree's convolutions is not known"):
        select(unknown)(KEY, unknown)
    network = small.trace(small.SmallNetwork(), (8, 8))
    with pytest.raises(ValueError, match="'layer1_0/conv1' is not in the network"):
        select(params, ["layer1_0/conv1"], source_network=network)(KEY, params)
