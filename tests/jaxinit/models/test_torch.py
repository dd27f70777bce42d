"""State dicts ⇄ variables: round trips, how the network is found, and what is refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.models import resnet
from jaxinit.models import torch as torch_weights


@pytest.fixture(scope="module")
def variables():
    network = resnet.ResNet18(classes=7)
    shapes = jax.eval_shape(
        lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def state(variables):
    return torch_weights.to_torch(variables)


def test_round_trip(variables, state):
    again = torch_weights.from_torch(state)
    assert jax.tree.structure(again) == jax.tree.structure(dict(variables))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(variables), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)


def test_axes_by_hand(variables, state):
    params, stats = variables["params"], variables["batch_stats"]
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["conv1.weight"][5, 2, 1, 6] == params["conv1"]["kernel"][1, 6, 2, 5]
    shortcut = params["layer3_0"]["shortcut_conv"]["kernel"]
    assert state["layer3.0.downsample.0.weight"].shape == (256, 128, 1, 1)
    assert state["layer3.0.downsample.0.weight"][9, 4, 0, 0] == shortcut[0, 0, 4, 9]
    assert state["fc.weight"].shape == (7, 512)
    assert state["fc.weight"][3, 11] == params["fc"]["kernel"][11, 3]
    scale = params["layer2_0"]["shortcut_bn"]["scale"]
    np.testing.assert_array_equal(state["layer2.0.downsample.1.weight"], scale)
    var = stats["layer4_1"]["bn2"]["var"]
    np.testing.assert_array_equal(state["layer4.1.bn2.running_var"], var)
    assert state["bn1.num_batches_tracked"].dtype == np.int64


def test_names_are_those_that_pytorch_reads(state):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_reference

    network = torch_reference.ResNet18(7)
    network.load_state_dict({name: torch.from_numpy(v) for name, v in state.items()})
    again = torch_weights.from_torch(network.state_dict())
    back = torch_weights.to_torch(again)
    assert set(back) == set(network.state_dict())
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)


def test_both_ways_are_copies(state):
    """PyTorch trains in place, on memory that its arrays share."""
    given = {name: value.copy() for name, value in state.items()}
    variables = torch_weights.from_torch(given)
    back = torch_weights.to_torch(variables)
    for value in (*given.values(), *back.values()):
        value[...] = 0
    for name, value in torch_weights.to_torch(variables).items():
        np.testing.assert_array_equal(value, state[name])


def test_the_counters_may_be_missing(state):
    older = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(older) == len(state) - 20
    again = torch_weights.from_torch(older)
    np.testing.assert_array_equal(again["batch_stats"]["bn1"]["mean"], state["bn1.running_mean"])


@pytest.mark.parametrize(
    "name", ["fc.weight", "layer2.0.downsample.1.running_mean", "conv1.weight"]
)
def test_a_missing_name(state, name):
    with pytest.raises(ValueError, match=f"has no '{name}'"):
        torch_weights.from_torch({k: v for k, v in state.items() if k != name})


@pytest.mark.parametrize("name", ["layer1.2.conv1.weight", "conv1.bias", "x.num_batches_tracked"])
def test_a_name_too_many(state, name):
    with pytest.raises(ValueError, match=f"has no '{name}'"):
        torch_weights.from_torch({**state, name: np.zeros(3)})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (64, 3, 5, 5)),
        ("fc.bias", (8,)),
        ("fc.weight", (7, 9)),
        ("bn1.bias", (64, 1)),
    ],
)
def test_a_wrong_shape(state, name, shape):
    with pytest.raises(ValueError, match=re.escape(f"'{name}' has the shape {shape}")):
        torch_weights.from_torch({**state, name: np.zeros(shape)})


def test_another_networks_variables(variables):
    params = {k: v for k, v in variables["params"].items() if k != "layer4_1"}
    with pytest.raises(ValueError, match="not a registered network's"):
        torch_weights.to_torch({"params": params, "batch_stats": variables["batch_stats"]})


def test_what_training_programs_put_around_a_state_dict(state, variables):
    wrapped = {"module." + name: value for name, value in state.items()}
    for given in (wrapped, {"state_dict": wrapped, "epoch": 3}, {"model": state}):
        again = torch_weights.from_torch(given)
        assert torch_weights.network_of(given) == "resnet18"
        np.testing.assert_array_equal(
            again["params"]["fc"]["bias"], variables["params"]["fc"]["bias"]
        )


def test_another_network_than_the_one_asked_for(state):
    with pytest.raises(ValueError, match="one of resnet18, not of resnet34: ask for resnet18"):
        torch_weights.from_torch(state, "resnet34")
    with pytest.raises(ValueError, match="network 'resnet19' is not known"):
        torch_weights.from_torch(state, "resnet19")
    with pytest.raises(ValueError, match="not those of resnet50"):
        torch_weights.to_torch(torch_weights.from_torch(state), "resnet50")


def test_the_custom_network_has_the_names_of_resnet18(state):
    variables = torch_weights.from_torch(state, "custom")
    for name, value in torch_weights.to_torch(variables, "custom").items():
        np.testing.assert_array_equal(value, state[name])


def test_a_stem_of_several_convolutions(state):
    deep = {k: v for k, v in state.items() if k != "conv1.weight"}
    deep |= {"conv1.0.weight": np.zeros((32, 3, 3, 3)), "conv1.1.weight": np.zeros(32)}
    for network in (None, "resnet18"):
        with pytest.raises(ValueError, match=r"'conv1\.0\.weight', a stem of several convolutions"):
            torch_weights.from_torch(deep, network)


def test_parameters_alone(state):
    alone = {k: v for k, v in state.items() if "running" not in k and "batches" not in k}
    with pytest.raises(ValueError, match=r"no batch statistics, such as 'bn1\.running_mean'"):
        torch_weights.from_torch(alone)


def test_no_state_dict_at_all():
    with pytest.raises(ValueError, match="the state dict has no"):
        torch_weights.from_torch({})


def test_a_lazy_tree_shares_what_it_was_given(state):
    lazy = torch_weights.from_torch(state, lazy=True)
    eager = torch_weights.from_torch(state)
    kernel = lazy["params"]["conv1"]["kernel"]
    assert np.shares_memory(kernel, state["conv1.weight"])
    jax.tree.map(np.testing.assert_array_equal, lazy, eager)
