"""What is known of a network's convolutions, and which of them a caller means."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import layers
from jaxinit.layers import Layer, Network


def conv(seed=0.0):
    return {"kernel": jnp.full((3, 3, 2, 4), seed)}


@pytest.fixture
def params():
    return {
        "layer10_0": {"conv1": conv(5.0)},
        "layer2_0": {
            "conv2": conv(3.0),
            "shortcut_conv": {"kernel": jnp.full((1, 1, 2, 4), 9.0)},
            "conv1": conv(2.0),
            "bn1": {"scale": jnp.ones(4), "bias": jnp.zeros(4)},
        },
        "fc": {"kernel": jnp.ones((4, 10)), "bias": jnp.zeros(10)},
        "conv1": conv(1.0),
    }


NAMES = ("conv1", "layer2_0/conv1", "layer2_0/conv2", "layer10_0/conv1")


@pytest.fixture
def network(params):
    return layers.of(params)


def test_our_own_names_tell_their_order(params):
    assert layers.of(params).names == NAMES
    assert layers.of(jax.eval_shape(lambda: params)).names == NAMES
    assert layers.of(jax.tree.map(lambda leaf: leaf + 1, params)).names == NAMES


@pytest.mark.parametrize(
    "tree",
    [
        {"stem": conv(), "block_0": conv()},
        {"conv_init": conv(), "ResNetBlock_0": {"Conv_0": conv()}},
        {"conv1": conv(), "conv2": conv()},
        {"Conv_0": conv(), "Dense_0": {"kernel": jnp.ones((4, 10))}},
        {"kernel": jnp.ones((3, 3, 2, 4))},
        {"fc": jnp.ones((4, 10))},
        {"attention": {"key": {"kernel": jnp.ones((12, 64, 4, 16))}}},
        {"conv1.weight": jnp.ones((4, 2, 3, 3))},
        {"conv1": {"w": jnp.ones((3, 3, 2, 4))}},
        {},
    ],
)
@pytest.mark.parametrize(
    "initializer",
    [
        jaxinit.recommended(),
        jaxinit.gabor(),
        jaxinit.scaled(2.0),
        jaxinit.per_layer(jax.nn.initializers.he_normal()),
        jaxinit.default(),
        jaxinit.controls.at_norms_of(jaxinit.unchanged(), jaxinit.unchanged()),
    ],
)
def test_any_other_order_is_asked_for(tree, initializer):
    with pytest.raises(ValueError, match=r"order .* is not known: give network=jaxinit\.trace"):
        initializer(jax.random.key(0), tree)


def test_a_bank_of_a_tree_whose_order_is_not_known_is_not_made():
    with pytest.raises(ValueError, match="is not known"):
        jaxinit.banks.fit(jax.random.key(0), [{"Conv_0": conv()}], clusters=1)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, NAMES),
        (0, ()),
        (2, NAMES[:2]),
        (np.int64(1), NAMES[:1]),
        (4, NAMES),
        (slice(1, None), NAMES[1:]),
        (slice(None, None, 2), NAMES[::2]),
        (slice(-1, None), NAMES[-1:]),
        ([2, 0], (NAMES[0], NAMES[2])),
        ([-1], NAMES[-1:]),
        (np.array([0, 1]), NAMES[:2]),
        (range(1, 3), NAMES[1:3]),
        ((), ()),
        (["layer10_0/conv1", "conv1"], (NAMES[0], NAMES[3])),
        ((3, 3), (NAMES[3],)),
        ("conv1", NAMES[:1]),
        ("layer2_0/conv?", NAMES[1:3]),
        ("layer2_0/*", (NAMES[1], NAMES[2], "layer2_0/shortcut_conv")),
        (["layer10_*", 0], (NAMES[0], NAMES[3])),
        (lambda layer: layer.size == (1, 1), ("layer2_0/shortcut_conv",)),
        (lambda layer: layer.name.endswith("conv1"), (NAMES[0], NAMES[1], NAMES[3])),
    ],
)
def test_select(network, chosen, expected):
    assert tuple(layer.name for layer in network.select(chosen)) == expected


@pytest.mark.parametrize("chosen", [-1, 5])
def test_a_number_of_layers_that_the_network_lacks(network, chosen):
    with pytest.raises(ValueError, match=rf"layers={chosen} is out of range.*0 to 4"):
        network.select(chosen)


@pytest.mark.parametrize("one", [4, -5, "conv2", "fc", "layer3*", True])
def test_a_layer_that_the_network_lacks(network, one):
    with pytest.raises(
        ValueError, match=f"layer {re.escape(repr(one))} is not in the network.*layer10_0/conv1"
    ):
        network.select([one])


def test_what_is_no_choice_of_layers(network):
    with pytest.raises(ValueError, match="goes forward"):
        network.select(slice(None, None, -1))
    with pytest.raises(TypeError, match="not a bool"):
        network.select(True)


def test_a_network_is_gone_through_layer_by_layer(network):
    assert tuple(network) == network.layers
    assert "conv1" in network
    assert network["conv1"] in network
    assert "conv" not in network


def test_numbers_of_layers_are_their_own(network):
    """A layer's key depends on it; numbers of main layers are their places among these."""
    assert [network.place(network[name]) for name in NAMES] == [0, 1, 2, 3]
    assert network.place(network["layer2_0/shortcut_conv"]) == 4


def test_layers_without_leaves_cannot_be_filled():
    computed = Layer("convolution 0", (), (), (3, 3, 1, 1), computed_from=("a/g", "a/v"))
    network = Network((computed, Layer("b", ("b", "kernel"), (), (3, 3, 1, 1))))
    with pytest.raises(ValueError, match="is computed from a/g, a/v") as refused:
        network.select(1)
    assert "lambda layer: layer.is_main and not layer.computed_from" in str(refused.value)
    chosen = network.select(lambda layer: layer.is_main and not layer.computed_from)
    assert [layer.name for layer in chosen] == ["b"]


def test_declared():
    state = {"b.weight": np.ones((8, 4, 3, 5)), "a.weight": np.ones((4, 1, 7, 7))}
    network = jaxinit.declare(state, ["a.weight", "b.weight"], layout="OIHW")
    assert network.names == ("a.weight", "b.weight")
    assert network["b.weight"].shape == (3, 5, 4, 8)
    assert network["b.weight"].layout == "OIHW"
    made = jaxinit.per_layer(lambda key, shape, dtype=None: jnp.ones(shape, dtype))(
        jax.random.key(0), state, network=network
    )
    assert made["b.weight"].shape == (8, 4, 3, 5)
    with pytest.raises(ValueError, match=r"no leaf is called 'c'.*a\.weight"):
        jaxinit.declare(state, ["c"])
    with pytest.raises(ValueError, match="not 3 axes as in WIO"):
        jaxinit.declare(state, ["a.weight"], layout="WIO")
    with pytest.raises(ValueError, match="one I, one O"):
        jaxinit.declare(state, ["a.weight"], layout="HWII")


def test_a_layout_that_is_given_is_not_doubted():
    params = {"up": {"kernel": jnp.ones((4, 4, 3, 3))}}
    with pytest.raises(ValueError, match=r"looks like \(out, in.*declare\(…, layout=…\)"):
        jaxinit.declare(params, ["up"])
    network = jaxinit.declare(params, ["up"], layout="HWIO")
    assert network["up"].shape == (4, 4, 3, 3)
    made = jaxinit.gabor()(jax.random.key(0), params, network=network)
    assert np.ptp(made["up"]["kernel"]) > 0


def test_a_network_of_another_tree_is_refused(network):
    other = {"conv1": conv()}
    with pytest.raises(ValueError, match=r"traced with other parameters.*layer2_0/conv1"):
        jaxinit.gabor(layers=1)(jax.random.key(0), other, network=network)


def test_a_table_of_the_layers(network):
    lines = str(network).splitlines()
    assert len(lines) == 6
    assert lines[1].split()[:3] == ["conv1", "conv1/kernel", "3×3×2×4"]
    assert hash(network) == hash(layers.of({**network_tree(network)}))


def network_tree(network):
    tree = {}
    for layer in network.layers:
        node = tree
        for part in layer.path[:-1]:
            node = node.setdefault(part, {})
        node[layer.path[-1]] = jnp.ones(layer.shape)
    return {**tree, "fc": {"kernel": jnp.ones((4, 10))}}
