"""ResNet-18 against PyTorch's: logits, training steps, running statistics, and how it starts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxinit.models import convolution, resnet
from jaxinit.models import torch as torch_weights
from tests import small

BATCH, STEPS = 8, 3


def stepping():
    """The experiments' steps, and settings for them; not there where the library is alone."""
    pytest.importorskip("experiments")
    from experiments.training import epoch, hyperparameters

    return epoch, hyperparameters.Training(learning_rate=0.01, momentum=0.9, weight_decay=1e-4)


@pytest.fixture(scope="module")
def make_pair(torch):
    """Makes a PyTorch network whose batch norms are not trivial, and our variables of the same."""
    from benchmarks import torch_reference

    def make(residual_first_stage=True):
        torch.manual_seed(0)
        network = torch_reference.ResNet18(10, residual_first_stage)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.3, 0.3)
                torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        return network, torch_weights.from_torch(network.state_dict())

    return make


@pytest.fixture(scope="module")
def start():
    """The default start of a network with 10 classes."""
    network = resnet.ResNet18(classes=10)
    return jax.jit(lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False))(
        jax.random.key(3)
    )


def batches(size=32, steps=STEPS):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(steps, BATCH, size, size, 3)).astype(np.float32)
    return images, rng.integers(0, 10, (steps, BATCH)).astype(np.int32)


def assert_close(ours, theirs, tolerance=1e-4):
    """Equal to a fraction of the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@functools.cache
def forward(residual_first_stage=True, dtype="float32"):
    """Logits by the running statistics, and logits and new statistics by the batch's."""
    network = resnet.ResNet18(10, residual_first_stage, jnp.dtype(dtype))

    @jax.jit
    def both(variables, images):
        evaluated = network.apply(variables, images, train=False)
        return evaluated, network.apply(variables, images, train=True, mutable=["batch_stats"])

    return both


@pytest.mark.parametrize(("size", "residual_first_stage"), [(32, True), (64, True), (32, False)])
def test_logits_are_pytorchs(torch, make_pair, size, residual_first_stage):
    theirs, variables = make_pair(residual_first_stage)
    images = batches(size)[0][0]
    channels_first = torch.tensor(images.transpose(0, 3, 1, 2))

    evaluated, (trained, _) = forward(residual_first_stage)(variables, jnp.asarray(images))
    with torch.no_grad():
        assert_close(evaluated, theirs.eval()(channels_first))
        assert_close(trained, theirs.train()(channels_first))
    assert np.abs(evaluated - trained).max() > 0.1


@functools.cache
def our_step(convolve):
    """One jitted step of the experiments' optimiser: (State, images, labels) → State."""
    network = resnet.ResNet18(classes=10, convolve=convolve)
    training, settings = stepping()
    optimizer = training.make_optimizer(settings)

    def loss_of(params, stats, x, y):
        logits, new = network.apply(
            {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), new["batch_stats"]

    @jax.jit
    def step(state, x, y):
        grads, stats = jax.grad(loss_of, has_aux=True)(state.params, state.batch_stats, x, y)
        updates, slots = optimizer.update(grads, state.optimizer, state.params)
        return training.State(optax.apply_updates(state.params, updates), stats, slots)

    return step


def numbers(state):
    """A training state as a state dict of float64."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    named = torch_weights.to_torch(variables).items()
    return {k: v.astype(np.float64) for k, v in named if not k.endswith("num_batches_tracked")}


def assert_same_change(ours, theirs, before, tolerance):
    """Equal to a fraction of the largest change, name by name."""
    for name, old in before.items():
        change = theirs[name] - old
        assert np.abs(change).max() > 0
        np.testing.assert_allclose(
            ours[name] - old, change, rtol=0, atol=tolerance * np.abs(change).max(), err_msg=name
        )


@pytest.fixture(scope="module")
def stepped(torch, make_pair):
    """For each of three steps: what both begin with, PyTorch's result in float64, and ours.

    Each step of ours starts from PyTorch's state, momentum and all: over several steps of a network
    with so few images any two float32 programs drift apart, PyTorch from itself in float64 too.
    """
    training, settings = stepping()
    theirs, variables = make_pair()
    theirs.double().train()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    state, results = training.init_state(variables, settings), []
    for x, y in zip(*batches(), strict=True):
        before = numbers(state)
        ours = our_step(convolution.matmul_convolution)(state, jnp.asarray(x), jnp.asarray(y))
        logits = theirs(torch.tensor(x.transpose(0, 3, 1, 2)).double())
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        named = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
        results.append((before, named, numbers(ours)))
        new = torch_weights.from_torch(named)
        velocity = {
            name: optimizer.state[parameter]["momentum_buffer"].numpy()
            for name, parameter in theirs.named_parameters()
        }
        trace = torch_weights.from_torch({**named, **velocity})["params"]
        slots = optax.tree_utils.tree_set(ours.optimizer, trace=trace)
        state = training.State(new["params"], new["batch_stats"], slots)
    return results


def test_training_steps_are_pytorchs(stepped):
    for before, theirs, ours in stepped:
        assert_same_change(ours, theirs, before, 2e-3)


def test_a_running_average_of_biased_variances_would_not_be_pytorchs(stepped):
    """On the 1×1 maps of the last stage there are as many values as images: 8."""
    before, theirs, ours = stepped[-1]
    for name in ("layer4.0.bn1.running_var", "layer4.1.bn2.running_var"):
        assert_close(ours[name], theirs[name])
        biased = 0.9 * before[name] + (ours[name] - 0.9 * before[name]) * (BATCH - 1) / BATCH
        with pytest.raises(AssertionError):
            assert_close(biased, theirs[name], 1e-3)


def test_xlas_convolution_trains_the_same_network(start):
    training, settings = stepping()
    before = training.init_state(start, settings)
    ours = plain = before
    for (x, y), tolerance in zip(zip(*batches(), strict=True), (2e-3, 3e-2), strict=False):
        x, y = jnp.asarray(x), jnp.asarray(y)
        ours = our_step(convolution.matmul_convolution)(ours, x, y)
        plain = our_step(convolution.plain_convolution)(plain, x, y)
        assert_same_change(numbers(ours), numbers(plain), numbers(before), tolerance)


def test_number_of_parameters(start):
    assert sum(leaf.size for leaf in jax.tree.leaves(start["params"])) == 11_181_642
    assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {jnp.dtype("float32")}


def recorded_order(network, variables):
    """Forwards an image through convolutions that only note the first tap of their kernel."""
    seen = []

    def record(x, kernel, *, stride, padding):
        seen.append(float(kernel[0, 0, 0, 0]))
        rows, columns = (
            convolution.output_size(n, kernel.shape[0], stride, padding) for n in x.shape[1:3]
        )
        return jnp.zeros((x.shape[0], rows, columns, kernel.shape[3]))

    network.clone(convolve=record).apply(variables, jnp.zeros((1, 32, 32, 3)), train=False)
    return seen


def test_layer_names_are_in_forward_order(start):
    names = small.layer_names(start["params"])
    assert len(names) == 17
    assert names[:4] == ("conv1", "layer1_0/conv1", "layer1_0/conv2", "layer1_1/conv1")
    assert names[-1] == "layer4_1/conv2"
    seen = recorded_order(resnet.ResNet18(classes=10), start)
    assert len(seen) == 20  # with three shortcuts
    mine = [float(small.get_kernel(start["params"], name)[0, 0, 0, 0]) for name in names]
    assert len(set(seen)) == 20
    assert [tap for tap in seen if tap in mine] == mine


def test_dead_taps_are_those_without_a_gradient(start):
    """On 32×32 images most of the last stage sees one tap of nine; on 64×64 all see data."""
    network = resnet.ResNet18(classes=10)
    live = small.trace(network, (32, 32)).live_taps()
    middle, corner = slice(1, 2), slice(1, 3)
    assert live == {
        "layer4_0/conv1": (corner, corner),
        "layer4_0/conv2": (middle, middle),
        "layer4_1/conv1": (middle, middle),
        "layer4_1/conv2": (middle, middle),
    }
    assert small.trace(network, (64, 64)).live_taps() == {}
    images = jnp.asarray(batches()[0][0])

    @jax.jit
    def gradient(params):
        def total(params):
            logits: Any = network.apply({**start, "params": params}, images, train=False)
            return logits.sum()

        return jax.grad(total)(params)

    grads = gradient(start["params"])
    for name in small.layer_names(start["params"]):
        seen = np.abs(np.asarray(small.get_kernel(grads, name))).max(axis=(2, 3)) > 0
        expected = np.zeros_like(seen)
        expected[live.get(name, (slice(None), slice(None)))] = True
        np.testing.assert_array_equal(seen, expected, err_msg=name)


def test_convolutions_start_normal_with_fan_out(start):
    everything = []
    for name in small.layer_names(start["params"]):
        kernel = np.asarray(small.get_kernel(start["params"], name))
        standard = kernel.ravel() / np.sqrt(2 / (kernel.shape[0] ** 2 * kernel.shape[3]))
        assert np.std(standard) == pytest.approx(1, abs=5 / np.sqrt(2 * standard.size))
        assert np.mean(standard) == pytest.approx(0, abs=5 / np.sqrt(standard.size))
        everything.append(standard)
    standard = np.concatenate(everything)
    assert np.mean(np.abs(standard) > 2) == pytest.approx(2 * scipy.stats.norm.sf(2), rel=0.01)
    assert scipy.stats.kurtosis(standard) == pytest.approx(0, abs=0.01)
    assert np.abs(standard).max() > 4.5


@pytest.mark.parametrize("name", ["conv1", "layer1_0/conv1", "layer2_0/shortcut_conv", "fc"])
def test_start_is_distributed_as_pytorchs(torch, start, name):
    from benchmarks import torch_reference

    torch.manual_seed(1)
    theirs = torch_weights.from_torch(torch_reference.ResNet18(10).state_dict())["params"]
    ours = start["params"]
    for part in name.split("/"):
        ours, theirs = ours[part], theirs[part]
    for leaf in ours:
        a, b = np.asarray(ours[leaf]).ravel(), np.asarray(theirs[leaf]).ravel()
        test: Any = scipy.stats.ks_2samp(a, b)
        assert test.pvalue > 1e-3


def test_the_linear_layer_starts_uniform(start):
    bound = 1 / np.sqrt(512)
    kernel, bias = (np.asarray(start["params"]["fc"][leaf]) for leaf in ("kernel", "bias"))
    assert bound * 0.998 < np.abs(kernel).max() <= bound
    assert np.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.03)
    assert 0 < np.abs(bias).max() <= bound


def test_batch_norms_start_neutral(start):
    np.testing.assert_array_equal(start["params"]["bn1"]["scale"], np.ones(64))
    np.testing.assert_array_equal(start["params"]["bn1"]["bias"], np.zeros(64))
    np.testing.assert_array_equal(start["batch_stats"]["bn1"]["mean"], np.zeros(64))
    np.testing.assert_array_equal(start["batch_stats"]["bn1"]["var"], np.ones(64))


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(start):
    images = jnp.asarray(batches()[0][0])
    _, (logits, updated) = forward(dtype="bfloat16")(start, images)
    _, (exact, _) = forward()(start, images)
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, updated))} == {jnp.dtype("float32")}
    assert_close(logits, exact, 0.1)
    assert np.abs(np.asarray(logits) - np.asarray(exact)).max() > 0
