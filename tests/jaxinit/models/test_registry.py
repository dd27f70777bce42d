"""Every registered network against PyTorch's, torchvision's where it has it, and its symmetry."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinit import alignment, initializers, kernels, symmetry
from jaxinit.alignment import permutations
from jaxinit.models import registry, resnet, vgg
from jaxinit.models import torch as torch_weights
from tests import small

pytestmark = pytest.mark.usefixtures("small_classifier")
EVERY = pytest.mark.parametrize("name", registry.names())
# One of each family takes a step as well: the others are the same code, with other numbers.
FAMILIES = ("custom", "resnet20", "resnet50", "vgg11")
CLASSES, HIDDEN = 7, 12
RATE, DECAY = 1.0, 1e-2
LAYERS = {
    "resnet18": 17,
    "custom": 17,
    "resnet18-cifar": 17,
    "resnet34": 33,
    "resnet50": 17,  # the others are 1×1
    "resnet20": 19,
    "resnet32": 31,
    "resnet56": 55,
    "vgg11": 8,
    "vgg11-imagenet": 8,
}


@pytest.fixture(scope="module")
def small_classifier():
    """Twelve hidden units for torchvision's 4096: the same program, without a gigabyte."""
    hidden, vgg._HIDDEN = vgg._HIDDEN, HIDDEN  # pyrefly: ignore[bad-assignment]
    torch_weights._layout.cache_clear()
    yield
    vgg._HIDDEN = hidden
    torch_weights._layout.cache_clear()


def reference(torch: Any, name: str) -> Any:
    """PyTorch's network of this name."""
    from benchmarks import torch_reference

    blocks = {"resnet20": 3, "resnet32": 5, "resnet56": 9}
    if name in blocks:
        return torch_reference.CifarResNet(blocks[name], CLASSES)
    if name == "custom":
        return torch_reference.ResNet18(CLASSES, residual_first_stage=False)
    try:
        models = torch_reference.torchvision_models()
    except ImportError as error:
        pytest.skip(str(error))
    if name.startswith("vgg11"):
        network = models.vgg11_bn(num_classes=CLASSES, init_weights=False, dropout=0)
        if name == "vgg11":
            return torch_reference.SmallHead(network.features, 512, CLASSES)
        network.classifier[0] = torch.nn.Linear(512 * 7 * 7, HIDDEN)
        network.classifier[3] = torch.nn.Linear(HIDDEN, HIDDEN)
        network.classifier[6] = torch.nn.Linear(HIDDEN, CLASSES)
        return network
    network = getattr(models, name.removesuffix("-cifar"))(num_classes=CLASSES)
    if name.endswith("-cifar"):
        network.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        network.maxpool = torch.nn.Identity()
    return network


def stirred(torch: Any, name: str) -> Any:
    """The same, with biases, batch norms and their statistics that are not trivial."""
    torch.manual_seed(0)
    network = reference(torch, name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return network


def a_batch(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    size = 64 if name == "vgg11-imagenet" else 32
    return rng.normal(size=(4, size, size, 3)), rng.integers(0, CLASSES, 4)


def widened(variables: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), variables)


def our_step(name: str, variables: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """Logits by the batch's statistics, and the state dict after a step of SGD."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        network: Any = registry.get(name).make(classes=CLASSES, dtype=jnp.float64)

        def loss_of(params, stats, x, y):
            logits, new = network.apply(
                {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return losses.mean(), (logits, new["batch_stats"])

        @jax.jit
        def step(variables, x, y):
            params, stats = variables["params"], variables["batch_stats"]
            grads, (trained, stats) = jax.grad(loss_of, has_aux=True)(params, stats, x, y)
            params = jax.tree.map(lambda w, g: w - RATE * (g + DECAY * w), params, grads)
            return trained, {"params": params, "batch_stats": stats}

        trained, after = step(widened(variables), jnp.asarray(x), jnp.asarray(y))
        return np.asarray(trained), torch_weights.to_torch(after)


# Those that are left out are resnet20 with more blocks; their arrays are compared below.
@pytest.mark.parametrize("name", [n for n in registry.names() if n not in ("resnet32", "resnet56")])
def test_logits_are_pytorchs(torch, name):
    """In float64, so that nothing but a mistake can part them."""
    theirs = stirred(torch, name)
    variables = torch_weights.from_torch(
        {k: v.numpy() for k, v in theirs.state_dict().items()}, name
    )
    x, _ = a_batch(name)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        network: Any = registry.get(name).make(classes=CLASSES, dtype=jnp.float64)
        apply = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
        evaluated = np.asarray(apply(widened(variables), jnp.asarray(x)))
    with torch.no_grad():
        expected = theirs.double().eval()(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(evaluated, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_is_pytorchs(torch, name):
    """In float64 likewise: the logits by the batch's statistics, and all that a step changes."""
    theirs = stirred(torch, name)
    before = {k: v.numpy().copy() for k, v in theirs.state_dict().items()}
    x, y = a_batch(name)
    trained, after = our_step(name, torch_weights.from_torch(before, name), x, y)

    theirs.double()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=RATE, weight_decay=DECAY)
    logits = theirs.train()(torch.tensor(x.transpose(0, 3, 1, 2)))
    torch.nn.functional.cross_entropy(logits, torch.tensor(y)).backward()
    optimizer.step()
    expected = logits.detach().numpy()
    np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    stepped = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert stepped.keys() == after.keys()
    for key, old in before.items():
        if key.endswith("num_batches_tracked"):
            continue
        change = stepped[key] - old.astype(np.float64)
        assert np.abs(change).max() > 0
        # State dicts are of float32.
        tolerance = 1e-6 * np.abs(change).max() + 1e-7 * np.abs(old).max()
        np.testing.assert_allclose(after[key], stepped[key], rtol=1e-7, atol=tolerance, err_msg=key)


@EVERY
def test_state_dicts_round_trip_and_name_their_network(torch, name):
    state = {k: v.numpy() for k, v in stirred(torch, name).state_dict().items()}
    found = torch_weights.network_of(state)
    assert found == ("resnet18" if name == "custom" else name)
    variables = torch_weights.from_torch(state)
    back = torch_weights.to_torch(variables)
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    again = torch_weights.to_torch(variables, name)
    assert again.keys() == back.keys()


def shapes_of(name: str) -> Any:
    network = registry.get(name).make(classes=CLASSES)
    images = jnp.zeros((1, 32, 32, 3))
    return jax.eval_shape(lambda key: network.init(key, images, train=False), jax.random.key(0))


@EVERY
def test_layers_and_the_default_start(name):
    shapes = shapes_of(name)
    network = small.trace(registry.get(name).make(classes=CLASSES), (32, 32))
    assert len(network.names) == LAYERS[name]
    assert network.names[0] == "conv1"
    start = functools.partial(initializers.default(), network=network)
    made = jax.eval_shape(start, jax.random.key(0), shapes["params"])
    assert jax.tree.map(lambda leaf: leaf.shape, made) == jax.tree.map(
        lambda leaf: leaf.shape, dict(shapes["params"])
    )


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "vgg11-imagenet"])
def test_permuting_leaves_the_function_as_it_was(name):
    own, shapes = registry.get(name).symmetry(), shapes_of(name)
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> Any:
        if leaf.ndim == 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        drawn = rng.standard_normal(leaf.shape, np.float32)
        return jnp.asarray(drawn * np.float32(np.prod(leaf.shape[:-1]) ** -0.5))

    variables = jax.tree.map(draw, shapes)
    sizes = alignment.sizes(variables, own)
    permutations = {key: rng.permutation(size) for key, size in sizes.items()}
    permuted = alignment.permute(variables, own, permutations)
    layers = small.trace(registry.get(name).make(classes=CLASSES), (32, 32)).main
    for layer in layers:
        before, after = (kernels.get(v["params"], layer) for v in (variables, permuted))
        free = any(own[f"params/{layer.name}/kernel"])
        assert np.array_equal(before, after) != free
    network: Any = registry.get(name).make(classes=CLASSES)
    x = jnp.asarray(rng.standard_normal((2, 32, 32, 3), np.float32))
    apply = jax.jit(lambda variables: network.apply(variables, x, train=False))
    before, after = apply(variables), apply(permuted)
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-5 * float(jnp.abs(before).max()))


@EVERY
def test_every_array_is_in_the_symmetry(name):
    arrays = permutations.flat(shapes_of(name))
    symmetry = registry.get(name).symmetry()
    head = "fc3" if name == "vgg11-imagenet" else "fc"
    assert set(arrays) - set(symmetry) == {f"params/{head}/bias"}
    assert set(symmetry) <= set(arrays)


def test_only_channels_within_blocks_are_free_where_shortcuts_have_no_weights():
    names = {n for axes in registry.get("resnet32").symmetry().values() for n in axes if n}
    assert len(names) == 15
    assert all(name.endswith("/conv1") for name in names)
    bottlenecks = registry.get("resnet50").symmetry()
    assert bottlenecks["params/layer1_0/shortcut_conv/kernel"] == (None, None, "conv1", "stage1")
    assert bottlenecks["params/layer1_1/conv1/kernel"][2:] == ("stage1", "layer1_1/conv1")


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'resnet19' is not known: choose one of resnet18, custom"):
        registry.get("resnet19")
    images = jnp.zeros((1, 16, 16, 3))
    for network, sentence in (
        (resnet.ResNet(10, stem="deep"), "stem 'deep' is not known: choose one of imagenet, cifar"),
        (resnet.ResNet(10, stages=(2, 2)), "differ in length"),
        (vgg.VGG(10), "16×16 are too small to be halved 5 times"),
        (vgg.VGG(10, head="mlp"), "head 'mlp' is not known"),
    ):
        with pytest.raises(ValueError, match=sentence):
            network.init(jax.random.key(0), images, train=False)


def partition(found: Any) -> set[frozenset[tuple[str, int]]]:
    """The axes that each permutation acts on, whatever it is called."""
    groups: dict[str, set[tuple[str, int]]] = {}
    for path, axes in found.items():
        for axis, name in enumerate(axes):
            if name is not None:
                groups.setdefault(name, set()).add((path, axis))
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "resnet18-cifar", "vgg11"])
def test_symmetries_by_hand_are_those_of_the_program(name):
    network: Any = registry.get(name).make(classes=CLASSES)
    images = jnp.zeros((1, 32, 32, 3))
    derived = symmetry.derive(network.apply, shapes_of(name), images, train=False)
    assert partition(derived) == partition(registry.get(name).symmetry())
