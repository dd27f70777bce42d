"""Convolutions found in networks of every framework, and the trees that are filled from it."""

import functools
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxinit
from jaxinit import initializers, kernels
from jaxinit.models import resnet

IMAGES = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
KEY = jax.random.key(0)
TYPES = {"param_dtype": jnp.bfloat16, "dtype": jnp.float32}


def summary(network):
    return [(layer.name, layer.layout, layer.shape, layer.stride) for layer in network.layers]


def filled_with_ones(params, network, layers=None):
    """Fills layers with ones, and tells which leaves became that."""
    init = jaxinit.per_layer(lambda key, shape, dtype=None: jnp.ones(shape, dtype), layers)
    made = init(KEY, params, network=network)
    before, after = kernels.leaves(params), kernels.leaves(made)
    assert jax.tree.structure(made) == jax.tree.structure(params)
    changed = {path for path, leaf in before.items() if after[path] is not leaf}
    for path in changed:
        assert bool((after[path] == 1).all())
        assert after[path].dtype == before[path].dtype
        assert after[path].shape == before[path].shape
    return made, {"/".join(map(str, path)) for path in changed}


# --- Flax Linen -----------------------------------------------------------------------------------


class Block(linen.Module):
    """As in Flax's own example ResNet: names are made automatically."""

    features: int
    stride: int = 1

    @linen.compact
    def __call__(self, x):
        conv = functools.partial(linen.Conv, use_bias=False, **TYPES)
        y = linen.relu(conv(self.features, (3, 3), self.stride)(x))
        y = conv(self.features, (3, 3))(y)
        if y.shape != x.shape:
            x = conv(self.features, (1, 1), self.stride, name="conv_proj")(x)
        return linen.relu(x + y)


class ExampleResNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(8, (7, 7), 2, padding=3, name="conv_init", **TYPES)(x)
        for number in range(11):
            x = Block(8 if number < 10 else 16, 2 if number == 10 else 1)(x)
        return linen.Dense(10)(x.mean((1, 2)))


@pytest.fixture(scope="module")
def example():
    module = ExampleResNet()
    params = jax.eval_shape(module.init, KEY, IMAGES)["params"]
    network = jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, IMAGES)
    return module, params, network


def test_order_is_that_of_calls_and_not_of_names(example):
    _, params, network = example
    assert sorted(params)[0] != "conv_init"
    blocks = [f"Block_{n}/Conv_{c}" for n in range(11) for c in range(2)]
    assert network.names == ("conv_init", *blocks)
    assert [layer.name for layer in network.layers if not layer.is_main] == ["Block_10/conv_proj"]
    stem = network["conv_init"]
    assert (stem.layout, stem.stride, stem.padding) == ("HWIO", (2, 2), ((3, 3), (3, 3)))
    assert (stem.input_size, stem.groups, stem.calls) == ((16, 16), 1, 1)
    assert network.head is not None
    assert network.head.name == "Dense_0"
    assert hash(network) == hash(jaxinit.trace(*_again(example)))


def _again(example):
    module, params, _ = example
    return lambda p, x: module.apply({"params": p}, x), params, IMAGES


def test_the_first_layer_is_the_stem_and_nothing_else_changes(example):
    _, params, network = example
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2, leaf.dtype), params)
    _, changed = filled_with_ones(params, network, layers=1)
    assert changed == {"conv_init/kernel"}
    first = jaxinit.gabor(layers=1)
    made = first(KEY, params, network=network)
    assert made["conv_init"]["kernel"].dtype == jnp.bfloat16
    gabor = jaxinit.gabor_kernel(jax.random.fold_in(KEY, 0), (7, 7, 3, 8), jnp.bfloat16)
    np.testing.assert_array_equal(made["conv_init"]["kernel"], gabor)
    assert jaxinit.changed(first, params, network=network) == ("conv_init/kernel",)


def test_frozen_and_boxed_trees_stay_what_they_are(example):
    _, shapes, network = example
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    frozen = flax.core.freeze(params)
    made = jaxinit.gabor(layers=1)(KEY, frozen, network=network)
    assert isinstance(made, flax.core.FrozenDict)
    init = linen.with_partitioning(linen.initializers.lecun_normal(), (None, None, None, "model"))
    conv = linen.Conv(4, (3, 3), kernel_init=init)
    boxed = conv.init(KEY, jnp.zeros(IMAGES.shape))["params"]
    network = jaxinit.trace(
        lambda p, x: conv.apply({"params": linen.unbox(p)}, x), boxed, IMAGES
    )  # fmt: skip
    made, changed = filled_with_ones(boxed, network)
    assert changed == {"kernel"}
    assert made["kernel"].names == (None, None, None, "model")


class Stack(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (5, 5))(x)
        body = linen.scan(
            OneStep, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return body()(x, None)[0]


class OneStep(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        y = linen.Conv(4, (3, 3), name="first")(x)
        return linen.relu(linen.Conv(4, (3, 3), name="second")(y) + x), None


def test_a_scan_of_no_steps_hides_nothing():
    params = {"a": jnp.zeros((3, 3, 3, 4)), "b": jnp.zeros((3, 3, 4, 4))}
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

    def apply(params, x):
        x, sums = jax.lax.scan(
            lambda carry, weight: (carry * weight, carry.sum()),
            convolve(x, params["a"]),
            jnp.zeros(0),
        )
        return convolve(x, params["b"]).sum() + sums.sum()

    assert jaxinit.trace(apply, params, IMAGES).names == ("a", "b")


def test_layers_under_scan_are_each_their_own():
    module = Stack()
    params: Any = module.init(KEY, jnp.zeros(IMAGES.shape))["params"]
    network = jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, IMAGES)
    inner = [f"ScanOneStep_0/{c}[{n}]" for n in range(3) for c in ("first", "second")]
    assert network.names == ("Conv_0", *inner)
    assert network[inner[2]].shape == (3, 3, 4, 4)
    for pattern in ("*/first[*]", "*/first[[]*", "*/[f]irst*"):
        assert [layer.name for layer in network.select(pattern)] == inner[::2]
    assert [layer.name for layer in network.select("*[1]")] == inner[2:4]
    made = jaxinit.per_layer(
        lambda key, shape, dtype=None: jax.random.normal(key, shape, dtype), [inner[2]]
    )(KEY, params, network=network)
    before, after = (tree["ScanOneStep_0"]["first"]["kernel"] for tree in (params, made))
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[2], before[2])
    assert not np.isin(after[1], before[1]).any()
    drawn = jaxinit.gabor()(KEY, params, network=network)["ScanOneStep_0"]["first"]["kernel"]
    assert not np.array_equal(drawn[0], drawn[1])
    default = jaxinit.default()(KEY, params, network=network)["ScanOneStep_0"]["first"]["kernel"]
    assert float(default.std()) == pytest.approx((2 / (9 * 4)) ** 0.5, rel=0.15)


@pytest.mark.parametrize("shared_input", [True, False])
def test_layers_under_vmap_are_each_their_own(shared_input):
    axes: Any = None if shared_input else 0
    body = linen.vmap(
        linen.Conv,
        in_axes=axes,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        axis_size=3,
    )(4, (3, 3))
    images = jnp.zeros(IMAGES.shape if shared_input else (3, *IMAGES.shape))
    params = body.init(KEY, images)["params"]
    network = jaxinit.trace(lambda p, x: body.apply({"params": p}, x), params, images)
    assert network.names == ("kernel[0]", "kernel[1]", "kernel[2]")
    assert {(layer.groups, layer.shape) for layer in network.layers} == {(1, (3, 3, 3, 4))}
    np.testing.assert_array_equal(
        kernels.get(params, network["kernel[1]"]), np.asarray(params["kernel"])[1]
    )
    _, changed = filled_with_ones(params, network)
    assert changed == {"kernel"}
    made = jaxinit.per_layer(jaxinit.centred_gabor_kernel(1.0))(KEY, params, network=network)
    norms = jnp.square(made["kernel"]).sum((1, 2, 3, 4))
    np.testing.assert_allclose(norms, 6.0, rtol=1e-5)


class Autoencoder(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3), 2, name="z_encoder")(x))
        return linen.ConvTranspose(3, (3, 3), (2, 2), name="a_decoder", transpose_kernel=True)(x)


def test_transposed_convolutions():
    module = Autoencoder()
    params = module.init(KEY, jnp.zeros(IMAGES.shape))["params"]
    network = jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, IMAGES)
    assert network.names == ("z_encoder", "a_decoder")
    assert [layer.is_transposed for layer in network.layers] == [False, True]
    decoder = network["a_decoder"]
    assert decoder.shape == (3, 3, 4, 3)
    kernel = np.asarray(params["a_decoder"]["kernel"])
    seen = np.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(kernels.get(params, decoder), seen)
    _, changed = filled_with_ones(params, network, layers=1)
    assert changed == {"z_encoder/kernel"}


class Odd(linen.Module):
    """Depthwise, grouped, dilated, even and shared kernels, checkpointed and under cond."""

    @linen.compact
    def __call__(self, x, mode="same"):
        assert mode == "same"
        shared = linen.Conv(6, (3, 3), kernel_dilation=2, name="shared")
        x = linen.Conv(6, (2, 4), padding="VALID", name="even")(x)
        x = linen.Conv(6, (3, 3), feature_group_count=6, name="depthwise")(x)
        x = linen.remat(linen.Conv)(6, (3, 3), feature_group_count=2, name="grouped")(x)
        x = jax.nn.silu(shared(shared(x)))
        blur = jnp.full((3, 3, 6, 6), 1 / 9)
        x = jax.lax.conv_general_dilated(
            x, blur, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return x


def test_groups_dilation_even_sizes_and_shared_kernels():
    module = Odd()
    params = module.init(KEY, jnp.zeros(IMAGES.shape))["params"]
    network = jaxinit.trace(
        lambda p, x, mode: module.apply({"params": p}, x, mode), params, IMAGES, mode="same"
    )
    assert network.names == ("even", "depthwise", "grouped", "shared")
    assert [layer.groups for layer in network.layers] == [1, 6, 2, 1]
    assert network["even"].size == (2, 4)
    assert network["depthwise"].shape == (3, 3, 1, 6)
    assert network["grouped"].shape == (3, 3, 3, 6)
    assert (network["shared"].calls, network["shared"].dilation) == (2, (2, 2))
    _, changed = filled_with_ones(params, network)
    assert changed == {f"{name}/kernel" for name in network.names}


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_dimensions(axes):
    module = linen.Conv(8, (3,) * axes, strides=2)
    x = jnp.zeros((2, *(9,) * axes, 4))
    params = module.init(KEY, x)["params"]
    network = jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, x)
    (layer,) = network.layers
    assert layer.layout == {1: "WIO", 3: "DHWIO"}[axes]
    assert layer.size == (3,) * axes
    bank = jaxinit.banks.fit(KEY, params, clusters=4, distance="fourier", network=network)
    made = jaxinit.clustered(bank)(KEY, params, network=network)
    known = {row.tobytes() for row in np.asarray(next(iter(bank.filters.values())))[:, 0]}
    assert {row.tobytes() for row in np.asarray(kernels.to_slices(made["kernel"]))} <= known
    default = jaxinit.default()(KEY, params, network=network)
    bound = (3**axes * 4) ** -0.5
    assert 0.5 * bound < float(jnp.abs(default["bias"]).max()) <= bound
    with pytest.raises(ValueError, match="choose 2-D convolutions"):
        jaxinit.gabor()(KEY, params, network=network)


class Normalised(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.WeightNorm(linen.Conv(4, (3, 3), name="inner"))(x)
        return linen.Conv(4, (3, 3), name="plain")(x)


def test_kernels_that_are_computed_are_named_and_not_filled():
    module = Normalised()
    params = module.init(KEY, jnp.zeros(IMAGES.shape))["params"]
    network = jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, IMAGES)
    assert [bool(layer.computed_from) for layer in network.layers] == [True, False]
    assert "inner/kernel" in str(network.layers[0].computed_from)
    for layers in (1, None):
        with pytest.raises(ValueError, match=r"is computed from .*inner/kernel"):
            jaxinit.gabor(layers)(KEY, params, network=network)
    chosen = jaxinit.gabor(lambda layer: not layer.computed_from)
    assert jaxinit.changed(chosen, params, network=network) == ("plain/kernel",)


def test_kernels_in_branches_and_loops():
    params = {"a": jnp.ones((3, 3, 3, 3)), "b": jnp.ones((3, 3, 3, 3)), "c": jnp.ones((3, 3, 3, 3))}

    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def apply(params, x):
        x = jax.lax.fori_loop(0, 3, lambda i, x: conv(x, params["c"]), x)
        x = jax.lax.cond(
            x.sum() > 0, lambda x: conv(x, params["b"]), lambda x: conv(x, params["a"]), x
        )
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: conv(x, params["c"]), x)

    network = jaxinit.trace(apply, params, IMAGES)
    assert set(network.names) == {"a", "b", "c"}
    assert network.names[0] == "c"


def test_a_network_without_convolutions():
    module = linen.Dense(3)
    params = module.init(KEY, jnp.zeros((2, 4)))["params"]
    with pytest.raises(ValueError, match="no convolution with a kernel among its parameters"):
        jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, jnp.zeros((2, 4)))


def test_attention_under_scan_has_no_convolution_but_the_patches():
    class Layer(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            return x + linen.MultiHeadDotProductAttention(2)(x), None

    class Transformer(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(8, (4, 4), 4, name="patches")(x).reshape(x.shape[0], -1, 8)
            scanned = linen.scan(
                Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
            )
            return linen.Dense(10)(scanned()(x, None)[0].mean(1))

    module = Transformer()
    params = module.init(KEY, jnp.zeros(IMAGES.shape))["params"]
    network = jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, IMAGES)
    assert network.names == ("patches",)
    _, changed = filled_with_ones(params, network)
    assert changed == {"patches/kernel"}


# --- NNX ------------------------------------------------------------------------------------------


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.z_stem = nnx.Conv(3, 8, (5, 5), rngs=rngs)
        self.blocks = nnx.List([nnx.Conv(8, 8, (3, 3), rngs=rngs) for _ in range(11)])
        self.body = nnx.Sequential(nnx.Conv(8, 8, (3, 3), rngs=rngs), nnx.relu)
        self.norm = nnx.BatchNorm(8, rngs=rngs, use_running_average=True)
        self.a_head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = self.z_stem(x)
        for block in self.blocks:
            x = nnx.relu(block(x))
        return self.a_head(self.norm(self.body(x)).mean((1, 2)))


@pytest.mark.parametrize("as_state", [True, False])
def test_nnx(as_state):
    model = NnxNetwork(nnx.Rngs(0))
    graph, state = nnx.split(model)
    if as_state:
        network = jaxinit.trace(lambda s, x: nnx.merge(graph, s)(x), state, IMAGES)
        params = state
    else:
        network = jaxinit.trace(lambda m, x: m(x), model, IMAGES)
        params = model
    assert network.names == ("z_stem", *(f"blocks/{n}" for n in range(11)), "body/layers/0")
    assert network.head is not None
    assert network.head.name == "a_head"
    made, changed = filled_with_ones(params, network)
    assert len(changed) == 13
    assert type(made) is type(params)
    merged = nnx.merge(graph, made) if as_state else made
    np.testing.assert_array_equal(merged.z_stem.kernel[...], 1)
    merged = nnx.merge(graph, nnx.state(merged))
    assert merged(jnp.zeros(IMAGES.shape)).shape == (2, 10)


# --- Equinox and Haiku ----------------------------------------------------------------------------


def test_equinox():
    eqx: Any = pytest.importorskip("equinox")

    class Network(eqx.Module):
        stem: Any
        layers: list
        head: Any

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.head = eqx.nn.Linear(8, 10, key=keys[0])
            self.stem = eqx.nn.Conv2d(3, 8, 7, padding=3, key=keys[1])
            self.layers = [jax.nn.relu, eqx.nn.Conv2d(8, 8, 3, groups=2, key=keys[2])]

        def __call__(self, x):
            x = self.stem(x)
            for layer in self.layers:
                x = layer(x)
            return self.head(x.mean((1, 2)))

    model = Network(KEY)
    one = jax.ShapeDtypeStruct((3, 16, 16), jnp.float32)
    network = jaxinit.trace(lambda m, x: m(x), model, one)
    assert network.names == ("stem", "layers/1")
    assert network["stem"].layout == "OIHW"
    assert network["stem"].shape == (7, 7, 3, 8)
    assert network["layers/1"].groups == 2
    made = jaxinit.gabor(layers=1)(KEY, model, network=network)
    assert isinstance(made, Network)
    gabor = jaxinit.gabor_kernel(jax.random.fold_in(KEY, 0), (7, 7, 3, 8))
    np.testing.assert_array_equal(made.stem.weight, gabor.transpose(3, 2, 0, 1))
    assert made.layers[1].weight is model.layers[1].weight
    batch = jax.ShapeDtypeStruct((4, 3, 16, 16), jnp.float32)
    assert (
        jaxinit.trace(jax.vmap(lambda m, x: m(x), (None, 0)), model, batch).names == network.names
    )
    default = jaxinit.default()(KEY, model, network=network)
    bound = (3 * 49) ** -0.5
    assert 0.5 * bound < float(jnp.abs(default.stem.bias).max()) <= bound
    assert 0.9 * 8**-0.5 < float(jnp.abs(default.head.weight).max()) <= 8**-0.5


def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(x):
        x = hk.Conv2D(8, 5, name="z_stem")(x)
        x = jax.nn.relu(hk.Conv2D(8, 3, name="a_block")(x))
        return hk.Linear(10, name="head")(x.mean((1, 2)))

    module = hk.without_apply_rng(hk.transform(forward))
    params = module.init(KEY, jnp.zeros(IMAGES.shape))
    network = jaxinit.trace(module.apply, params, IMAGES)
    assert network.names == ("z_stem", "a_block")
    assert network["z_stem"].path == ("z_stem", "w")
    _, changed = filled_with_ones(params, network, layers=1)
    assert changed == {"z_stem/w"}


# --- Our own, and what holds for all --------------------------------------------------------------


@functools.cache
def own(size=32):
    module = jaxinit.ResNet18(classes=10)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda k, x: module.init(k, x, train=False), KEY, images)

    def apply(params, stats, x):
        return module.apply({"params": params, "batch_stats": stats}, x, train=False)

    params, stats = variables["params"], variables["batch_stats"]
    return jaxinit.trace(apply, params, stats, images), params


def test_our_networks_are_seen_through_their_matrix_products():
    network, params = own()
    assert network.names == jaxinit.layers.of(params).names
    assert [layer.path for layer in network.layers] != []
    assert network["layer2_0/shortcut_conv"].size == (1, 1)
    assert network["conv1"].stride == (2, 2)
    assert network.head is not None
    assert network.head.name == "fc"


@pytest.mark.parametrize("size", [32, 64])
def test_live_taps_are_those_whose_gradient_is_not_zero(size):
    """On small maps, by the gradient of a convolution of ones."""
    network, _ = own(size)
    live = network.live_taps()
    assert ("layer4_1/conv2" in live) == (size == 32)
    for layer in network.main:
        assert layer.input_size is not None
        assert layer.stride is not None
        assert layer.padding is not None
        kernel = jnp.ones((*layer.size, 1, 1))
        x = jnp.ones((1, *layer.input_size, 1))
        gradient = jax.grad(
            lambda w, stride=layer.stride, padding=layer.padding, x=x: jax.lax.conv_general_dilated(
                x, w, stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            ).sum()
        )(kernel)
        seen = np.zeros(layer.size, bool)
        seen[live.get(layer.name, ...)] = True
        np.testing.assert_array_equal(np.asarray(gradient)[..., 0, 0] != 0, seen)


INITIALIZERS = {
    "gabor": jaxinit.gabor(layers=1),
    "default": jaxinit.default(),
    "scaled": jaxinit.scaled(0.5),
    "orthogonal": jaxinit.per_layer(jax.nn.initializers.orthogonal()),
    "norms": jaxinit.controls.at_norms_of(
        jaxinit.per_layer(jax.nn.initializers.lecun_normal()), jaxinit.unchanged()
    ),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_jit_vmap_raw_keys_and_partial_agree(name):
    params = {
        "b": {"weight": jax.random.normal(KEY, (8, 3, 3, 3)), "bias": jnp.ones(8)},
        "a": {"kernel": jax.random.normal(KEY, (3, 3, 8, 8))},
    }

    def apply(params, x):
        x = jax.lax.conv_general_dilated(x, params["b"]["weight"], (1, 1), "SAME")
        x = x + params["b"]["bias"][None, :, None, None]
        dims = ("NCHW", "HWIO", "NCHW")
        return jax.lax.conv_general_dilated(
            x, params["a"]["kernel"], (1, 1), "SAME", dimension_numbers=dims
        )

    network = jaxinit.trace(apply, params, jnp.zeros((1, 3, 8, 8)))
    assert network.names == ("b", "a")
    init = functools.partial(INITIALIZERS[name], network=network)
    eager = init(KEY, params)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    jax.tree.map(close, jax.jit(init)(KEY, params), eager)
    static = jax.jit(INITIALIZERS[name], static_argnames="network")
    jax.tree.map(close, static(KEY, params, network=network), eager)
    keys = jax.random.split(KEY, 2)
    many = jax.vmap(init, (0, None))(keys, params)
    jax.tree.map(close, jax.tree.map(lambda leaf: leaf[1], many), init(keys[1], params))
    raw = jax.random.key_data(KEY)
    jax.tree.map(np.testing.assert_array_equal, init(raw, params), eager)


def test_chain_hands_the_network_on_and_takes_plain_functions(example):
    _, shapes, network = example
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)

    def twice(key, params):
        del key
        return jax.tree.map(lambda leaf: leaf * 2, params)

    init = jaxinit.chain(jaxinit.gabor(layers=1), twice, jaxinit.scaled(2.0, layers=[-1]))
    made = init(KEY, params, network=network)
    assert float(made["Block_10"]["Conv_1"]["kernel"].max()) == 4
    assert float(made["Block_0"]["Conv_1"]["kernel"].max()) == 2


def test_a_kernel_of_pytorch_in_a_bare_initializer_is_refused():
    with pytest.raises(ValueError, match="as PyTorch and Equinox have it"):
        jaxinit.gabor_kernel(KEY, (64, 3, 7, 7))


def test_our_batch_norm_scales_of_zero_stay():
    module = resnet.ResNet(2, stages=(1,), widths=(8,))
    x = jnp.zeros((1, 8, 8, 3))
    shapes = jax.eval_shape(lambda key: module.init(key, x, train=False), KEY)["params"]
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    params["layer1_0"]["bn2"]["scale"] = jnp.zeros(8)
    params["bn1"]["scale"] = jnp.full(8, 3.0)
    made = jaxinit.default()(KEY, params)
    assert not made["layer1_0"]["bn2"]["scale"].any()
    assert bool((made["bn1"]["scale"] == 1).all())
    assert resnet.he_normal_fan_out is not None


def test_pretrained_spares_the_head_by_its_place():
    def network_of(classes):
        class Network(linen.Module):
            @linen.compact
            def __call__(self, x):
                x = linen.Conv(4, (3, 3), name="stem")(x).mean((1, 2))
                return linen.Dense(classes, name="classifier")(linen.Dense(6, name="a")(x))

        module = Network()
        params = module.init(jax.random.key(classes), jnp.zeros(IMAGES.shape))["params"]
        return params, jaxinit.trace(lambda p, x: module.apply({"params": p}, x), params, IMAGES)

    source, _ = network_of(10)
    params, network = network_of(7)
    made = jaxinit.pretrained(source)(KEY, params, network=network)
    np.testing.assert_array_equal(made["a"]["kernel"], source["a"]["kernel"])
    np.testing.assert_array_equal(made["classifier"]["kernel"], params["classifier"]["kernel"])
    np.testing.assert_array_equal(made["classifier"]["bias"], params["classifier"]["bias"])
    with pytest.raises(ValueError, match=r"give network=jaxinit\.trace"):
        jaxinit.pretrained(source)(KEY, params)


# --- What must not pass silently ------------------------------------------------------------------


def conv(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_one_kernel_in_two_orders_is_one_layer():
    """A tied decoder sees the encoder's kernel transposed and flipped."""
    params = {"w": jax.random.normal(KEY, (3, 3, 3, 4))}

    def apply(params, x):
        x = conv(x, params["w"])
        return jax.lax.conv_transpose(
            x, params["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            transpose_kernel=True,
        )  # fmt: skip

    network = jaxinit.trace(apply, params, IMAGES)
    assert [(layer.name, layer.shape, layer.calls) for layer in network.layers] == [
        ("w", (3, 3, 3, 4), 2)
    ]


def test_parts_of_a_kernel_and_all_of_it_do_not_make_two_layers():
    params = {"w": jnp.ones((3, 3, 3, 6))}

    def slimmable(params, x):
        return conv(x, params["w"][..., :2]).sum() + conv(x, params["w"]).sum()

    network = jaxinit.trace(slimmable, params, IMAGES)
    assert [bool(layer.computed_from) for layer in network.layers] == [False, True]
    with pytest.raises(ValueError, match="is computed from w"):
        jaxinit.gabor()(KEY, params, network=network)

    def halves(params, x):
        first, second = jnp.split(params["w"], 2, axis=-1)
        return conv(x, first) + conv(x, second)

    network = jaxinit.trace(halves, params, IMAGES)
    assert network.names == ("w[0]", "w[1]")
    made = jaxinit.gabor(["w[1]"])(KEY, params, network=network)["w"]
    np.testing.assert_array_equal(made[..., :3], 1)
    assert not (made[..., 3:] == 1).all()


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize(
    "take", [jnp.unstack, lambda stack, axis: list(jnp.moveaxis(stack, axis, 0))]
)
def test_kernels_of_a_stack_that_is_taken_apart(axis, take):
    """Some versions of JAX have one equation for that, others a slice for each."""
    stack = np.random.default_rng(0).standard_normal((2, 3, 3, 3, 3))
    params = {"first": np.ones((3, 3, 3, 3)), "stack": np.moveaxis(stack, 0, axis)}

    def apply(params, x):
        for kernel in (params["first"], *take(params["stack"], axis=axis)):
            x = conv(x, kernel)
        return x

    # Leaves and input as NumPy has them by default, of 64 bits.
    network = jaxinit.trace(apply, params, np.ones(IMAGES.shape))
    assert [layer.name.partition("[")[0] for layer in network.layers] == ["first", "stack", "stack"]
    for layer, kernel in zip(network.layers[1:], stack, strict=True):
        np.testing.assert_array_equal(kernels.get(params, layer), kernel.astype(np.float32))
    init = initializers.only(initializers.scaled(2.0), layers=slice(2, None))
    assert initializers.changed(init, params, network=network) == ("stack",)
    made = init(KEY, params, network=network)["stack"]
    first, second = np.moveaxis(made / params["stack"], axis, 0)
    np.testing.assert_allclose([first.mean(), second.mean()], [1, 2], rtol=1e-6)


def test_casts_that_lose_the_numbers_and_other_orders_of_reshaping():
    params = {"w": jax.random.normal(KEY, (9, 12))}

    def quantised(params, x):
        w = params["w"].reshape(3, 3, 3, 4)
        return conv(x, w.astype(jnp.int8).astype(jnp.float32))

    assert jaxinit.trace(quantised, params, IMAGES).layers[0].computed_from == ("w",)

    def columns_first(params, x):
        return conv(x, jnp.reshape(params["w"], (3, 3, 3, 4), order="F"))

    (layer,) = jaxinit.trace(columns_first, params, IMAGES).layers
    np.testing.assert_array_equal(
        kernels.get(params, layer), np.asarray(params["w"]).reshape((3, 3, 3, 4), order="F")
    )


def test_all_parameters_through_one_barrier():
    params = {"a": jnp.ones((3, 3, 3, 3)), "b": jnp.ones((3, 3, 3, 3))}

    def apply(params, x):
        params = jax.lax.optimization_barrier(params)
        return conv(conv(x, params["b"]), params["a"])

    assert jaxinit.trace(apply, params, IMAGES).names == ("b", "a")


def test_two_kernels_of_one_name_are_refused():
    kernel = jnp.ones((3, 3, 3, 3))
    params = {"a": {"b": {"kernel": kernel}}, "a/b": {"kernel": kernel}}

    def apply(params, x):
        return conv(conv(x, params["a"]["b"]["kernel"]), params["a/b"]["kernel"])

    with pytest.raises(ValueError, match="two kernels are called 'a/b/kernel': rename"):
        jaxinit.trace(apply, params, IMAGES)
    with pytest.raises(ValueError, match="two kernels are called 'a'"):
        jaxinit.declare({"a": kernel}, ["a", "a"])


def test_a_tree_of_other_shapes_than_the_traced_one_is_refused():
    narrow, wide = ({"w": jnp.ones((3, 3, 3, n))} for n in (4, 8))
    network = jaxinit.trace(lambda p, x: conv(x, p["w"]), narrow, IMAGES)
    with pytest.raises(ValueError, match=r"w has the shape \(3, 3, 3, 8\) here and \(3, 3, 3, 4\)"):
        jaxinit.default()(KEY, wide, network=network)


@pytest.mark.parametrize(
    ("initializer", "said"),
    [
        (lambda key, shape, dtype=None: jnp.ones((5, 5, 1, 1)), r"made shape \(5, 5, 1, 1\)"),
        (jax.nn.initializers.he_normal, "made function .* must be called with"),
        (lambda key, shape, dtype=None: None, "made NoneType"),
    ],
)
def test_what_initializers_make_is_checked(initializer, said):
    params = {"w": jnp.ones((3, 3, 3, 4))}
    network = jaxinit.trace(lambda p, x: conv(x, p["w"]), params, IMAGES)
    init = jaxinit.per_layer(initializer)
    if "NoneType" in said:
        assert init(KEY, params, network=network)["w"] is params["w"]
        return
    with pytest.raises(ValueError, match=said):
        init(KEY, params, network=network)


def test_initializers_of_the_other_kind_are_told_apart():
    other: Any = jaxinit.gabor(layers=1)
    with pytest.raises(ValueError, match="compose this by chain"):
        jaxinit.per_layer(other)
    with pytest.raises(ValueError, match="wrap this one in per_layer"):
        jaxinit.chain(jaxinit.gabor_kernel)


def test_a_network_is_static_under_jit():
    params = {"w": jnp.ones((3, 3, 3, 4))}
    network = jaxinit.trace(lambda p, x: conv(x, p["w"]), params, IMAGES)
    init = jax.jit(jaxinit.chain(jax.jit(jaxinit.gabor())))
    made = init(KEY, params, network=network)["w"]
    expected = jaxinit.chain(jaxinit.gabor())(KEY, params, network=network)["w"]
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_bare_array_and_an_input_closed_over():
    kernel = jax.random.normal(KEY, (3, 3, 3, 4))
    network = jaxinit.trace(lambda w, x: conv(x, w), kernel, IMAGES)
    assert network.names == ("kernel",)
    assert not np.array_equal(jaxinit.default()(KEY, kernel, network=network), kernel)
    params = {"c": {"kernel": kernel}, "h": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}}
    x = jnp.ones(IMAGES.shape)

    def apply(params):
        y = conv(x, params["c"]["kernel"]).mean((1, 2))
        return y @ params["h"]["kernel"] + params["h"]["bias"][None]

    network = jaxinit.trace(apply, params)
    assert network.head is not None
    changed = jaxinit.changed(jaxinit.default(), params, network=network)
    assert changed == ("c/kernel", "h/bias", "h/kernel")


def test_default_knows_normalisations_by_their_pairs():
    params = {
        "conv": {"value": jnp.ones((3, 3, 3, 4)), "bias": jnp.full(4, 3.0)},
        "haiku": {"scale": jnp.full((1, 1, 1, 4), 6.0), "offset": jnp.full((1, 1, 1, 4), 5.0)},
        "equinox": {"weight": jnp.full(4, 6.0), "bias": jnp.full(4, 5.0)},
        "scanned": {"scale": jnp.full((3, 4), 6.0), "bias": jnp.full((3, 4), 5.0)},
        "layer_scale": {"scale": jnp.full(4, 1e-6)},
        "temperature": {"scale": jnp.asarray(0.07)},
    }
    network = jaxinit.trace(lambda p, x: conv(x, p["conv"]["value"]), params, IMAGES)
    made = jaxinit.default()(KEY, params, network=network)
    for name, (scale, shift) in {
        "haiku": ("scale", "offset"),
        "equinox": ("weight", "bias"),
        "scanned": ("scale", "bias"),
    }.items():
        np.testing.assert_array_equal(made[name][scale], 1)
        np.testing.assert_array_equal(made[name][shift], 0)
    assert made["layer_scale"]["scale"] is params["layer_scale"]["scale"]
    assert made["temperature"]["scale"] is params["temperature"]["scale"]
    assert 0 < float(jnp.abs(made["conv"]["bias"]).max()) <= 27**-0.5


def test_convolutions_inside_what_cannot_be_followed_are_refused():
    params = {"w": jnp.ones((3, 3, 3, 3))}

    def apply(params, x):
        solve = lambda matvec, b: matvec(b)  # noqa: E731
        return jax.lax.custom_linear_solve(lambda x: conv(x, params["w"]), x, solve, symmetric=True)

    with pytest.raises(ValueError, match="inside custom_linear_solve, which cannot be followed"):
        jaxinit.trace(apply, params, IMAGES)


def test_live_taps_of_two_calls_are_those_of_either():
    params = {"w": jnp.ones((3, 3, 3, 3))}

    def apply(params, x):
        return conv(x[:, :1, :1], params["w"]).sum() + conv(x[:, :1, :2], params["w"]).sum()

    (layer,) = jaxinit.trace(apply, params, IMAGES).layers
    assert layer.live == ((1, 2), (0, 3))
    assert layer.calls == 2
