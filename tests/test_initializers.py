"""Initialisers: what they draw, and what they leave alone."""

import dataclasses
import os
import subprocess
import sys

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import gabor_filters, initializers, kernels
from jaxinit.models import resnet
from tests import small

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYERS = ("conv1", "layer1_0/conv1", "layer2_0/conv1", "layer2_0/conv2")


@pytest.fixture(scope="module")
def params():
    return small.few_layers()


@pytest.fixture(scope="module")
def bank(params):
    return small.bank_for(params)


def same(first, second):
    return jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), first, second))


def changed_layers(before, after):
    names = small.layer_names(before)
    return [
        n
        for n in names
        if not jnp.array_equal(small.get_kernel(before, n), small.get_kernel(after, n))
    ]


def every_kind(bank, params):
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    return {
        "default": initializers.default(),
        "gabor": initializers.gabor(),
        "clustered": initializers.clustered(bank),
        "pretrained": initializers.pretrained(other),
        "scaled": initializers.scaled(0.5),
        "whole": initializers.whole_filters([params, other]),
        "chain": initializers.chain(initializers.gabor(layers=1), initializers.clustered(bank)),
    }


@pytest.mark.parametrize("kind", ["default", "gabor", "clustered", "whole", "chain"])
def test_same_key_same_params_other_key_other_params(kind, bank, params):
    init = jax.jit(every_kind(bank, params)[kind])
    first, again = init(jax.random.key(3), params), init(jax.random.key(3), params)
    other = init(jax.random.key(4), params)
    assert same(first, again)
    assert not same(first, other)
    assert jax.tree.structure(first) == jax.tree.structure(params)


@pytest.mark.parametrize(
    "kind", ["default", "gabor", "clustered", "pretrained", "scaled", "whole", "chain"]
)
def test_jit_is_eager_and_vmap_is_a_loop(kind, bank, params):
    init = every_kind(bank, params)[kind]
    keys = jax.random.split(jax.random.key(5), 2)
    jitted = jax.jit(jax.vmap(init, in_axes=(0, None)))(keys, params)
    for i in range(2):
        eager = init(keys[i], params)
        for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(eager), strict=True):
            np.testing.assert_allclose(a[i] if a.ndim > b.ndim else a, b, rtol=1e-5, atol=1e-6)


def test_first_k_layers_and_nothing_else(bank, params):
    assert small.layer_names(params) == LAYERS
    for count in range(5):
        made = initializers.clustered(bank, layers=count)(jax.random.key(0), params)
        assert changed_layers(params, made) == list(LAYERS[:count])
        assert same(made["fc"], params["fc"])
        shortcut = made["layer2_0"]["shortcut_conv"]
        assert same(shortcut, params["layer2_0"]["shortcut_conv"])


def test_any_subset_of_layers(bank, params):
    key = jax.random.key(0)
    everything = initializers.clustered(bank)(key, params)
    for layers, chosen in (
        (slice(1, 3), ["layer1_0/conv1", "layer2_0/conv1"]),
        ([3, 0], ["conv1", "layer2_0/conv2"]),
        (["layer2_0/conv1"], ["layer2_0/conv1"]),
    ):
        made = initializers.clustered(bank, layers=layers)(key, params)
        assert changed_layers(params, made) == chosen
        # A layer draws the same filters whichever others are chosen.
        for name in chosen:
            np.testing.assert_array_equal(
                small.get_kernel(made, name), small.get_kernel(everything, name)
            )


def test_clustered_slices_are_centres_in_proportion_to_the_clusters_sizes(bank, params):
    made = initializers.clustered(bank)(jax.random.key(7), params)
    name = "layer2_0/conv2"
    slices = np.asarray(kernels.to_slices(small.get_kernel(made, name)))
    centres = np.asarray(bank.filters[name])[:, 0]
    distances = np.abs(slices[:, None] - centres[None]).max(axis=2)
    np.testing.assert_allclose(distances.min(axis=1), 0, atol=1e-7)
    counts = np.bincount(distances.argmin(axis=1), minlength=3)
    sizes = np.asarray(bank.sizes[name])
    expected = sizes / sizes.sum() * len(slices)
    deviation = np.sqrt(expected * (1 - expected / len(slices)))
    assert np.all(np.abs(counts - expected) < 5 * deviation)


def test_default_has_torchvisions_moments():
    network = resnet.ResNet18(classes=10)
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda k: network.init(k, images, train=False), jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), shapes["params"])
    made = jax.jit(initializers.default())(jax.random.key(11), params)
    for name in small.layer_names(params):
        kernel = np.asarray(small.get_kernel(made, name))
        expected = (2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3])) ** 0.5
        assert abs(kernel.std() / expected - 1) < 5 / (2 * kernel.size) ** 0.5
    shortcut = np.asarray(made["layer2_0"]["shortcut_conv"]["kernel"])
    assert abs(shortcut.std() / (2 / 128) ** 0.5 - 1) < 0.05
    for leaf in made["fc"].values():
        assert np.abs(leaf).max() <= 512**-0.5
        assert not np.array_equal(leaf, params["fc"]["bias"])
    assert np.all(np.asarray(made["bn1"]["scale"]) == 1)
    assert np.all(np.asarray(made["bn1"]["bias"]) == 0)


def gabor_by_hand(size, sigma, theta, wavelength, phase, aspect):
    grid = np.linspace(-size // 2, size // 2, size)
    slices = np.empty((size, size))
    for i, y in enumerate(grid):
        for j, x in enumerate(grid):
            along = x * np.cos(theta) + y * np.sin(theta)
            across = -x * np.sin(theta) + y * np.cos(theta)
            envelope = np.exp(-0.5 * (along**2 / sigma**2 + across**2 * aspect**2 / sigma**2))
            slices[i, j] = envelope * np.cos(2 * np.pi * along / wavelength + phase)
    return slices


@pytest.mark.parametrize("size", [3, 7])
def test_gabor_is_the_formula_with_parameters_in_range(size):
    key = jax.random.key(2)
    kernel = np.asarray(gabor_filters.gabor_kernel(key, (size, size, 3, 4)))
    ranges = [(1.5, 2.5), (0, np.pi), (2, 13), (0, 2 * np.pi), (0.9, 1.1)]
    drawn = [
        np.asarray(jax.random.uniform(own, (1, 1, 4), jnp.float32, low, high)).ravel()
        for own, (low, high) in zip(jax.random.split(key, 5), ranges, strict=True)
    ]
    for channel in range(4):
        expected = gabor_by_hand(size, *(float(values[channel]) for values in drawn))
        np.testing.assert_allclose(kernel[:, :, 0, channel], expected, atol=1e-5)


def test_gabor_is_the_same_for_all_inputs_and_differs_between_outputs():
    kernel = gabor_filters.gabor_kernel(jax.random.key(0), (7, 7, 3, 64))
    assert jnp.array_equal(kernel[:, :, 0], kernel[:, :, 2])
    flat = np.asarray(kernel[:, :, 0]).reshape(49, 64).T
    assert len(np.unique(flat.round(5), axis=0)) == 64


def test_gabor_fits_kernel_init_of_flax():
    from flax import linen

    layer = linen.Conv(8, (7, 7), kernel_init=gabor_filters.gabor_kernel)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 9, 9, 3)))
    kernel = jnp.asarray(variables["params"]["kernel"])
    assert kernel.shape == (7, 7, 3, 8)
    assert jnp.array_equal(kernel[:, :, 0], kernel[:, :, 1])


def test_clustered_kernel_fits_kernel_init_of_flax(bank):
    from flax import linen

    init = initializers.clustered_kernel(bank, "layer1_0/conv1")
    layer = linen.Conv(8, (3, 3), kernel_init=init)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 9, 9, 3)))
    slices = np.asarray(kernels.to_slices(jnp.asarray(variables["params"]["kernel"])))
    assert len(np.unique(slices, axis=0)) <= 3


def test_pretrained_takes_everything_of_the_same_shape(params):
    source = jax.tree.map(lambda leaf: leaf + 1, params)
    assert same(initializers.pretrained(source)(jax.random.key(0), params), source)
    head = {"kernel": jnp.zeros((16, 3)), "bias": jnp.zeros(3)}
    made = initializers.pretrained(source)(jax.random.key(0), {**params, "fc": head})
    assert same(made["fc"], head)
    assert same(made["layer1_0"], source["layer1_0"])
    part = initializers.pretrained(source, layers=2)(jax.random.key(0), params)
    assert changed_layers(params, part) == ["conv1", "layer1_0/conv1"]


def test_whole_filters_are_those_of_the_sources_with_their_inputs(params):
    sources = [jax.tree.map(lambda leaf, by=by: by * leaf, params) for by in (2, 3)]
    made = initializers.whole_filters(sources, layers=1)(jax.random.key(0), params)
    assert changed_layers(params, made) == ["conv1"]
    real = np.concatenate([s["conv1"]["kernel"] for s in sources], axis=3).reshape(-1, 16).T
    drawn = np.asarray(made["conv1"]["kernel"]).reshape(-1, 8).T
    nearest = np.abs(drawn[:, None] - real[None]).max(axis=2)
    np.testing.assert_array_equal(nearest.min(axis=1), 0)
    assert len(set(nearest.argmin(axis=1))) > 3  # of 16, and not the first alone


def test_chain_composes_in_order_with_keys_of_their_own(bank, params):
    key = jax.random.key(0)
    made = initializers.chain(
        initializers.gabor(layers=1),
        initializers.clustered(bank, layers=slice(1, None)),
        initializers.scaled(0.35),
    )(key, params)
    keys = jax.random.split(key, 3)
    gabor = initializers.gabor(layers=1)(keys[0], params)
    stem = small.get_kernel(gabor, "conv1") * jnp.float32(0.35)
    np.testing.assert_allclose(small.get_kernel(made, "conv1"), stem, rtol=1e-6)
    assert changed_layers(params, made) == list(small.layer_names(params))


def test_the_recommended_start_changes_the_first_layer_alone(params):
    key = jax.random.key(0)
    made = initializers.recommended()(key, params)
    assert changed_layers(params, made) == ["conv1"]
    assert same(made, initializers.gabor(layers=1)(key, params))


def test_bad_input_gets_a_sentence(bank, params):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="layers=5 is out of range"):
        initializers.gabor(layers=5)(key, params)
    with pytest.raises(ValueError, match="not in the network"):
        initializers.gabor(layers=["conv9"])(key, params)
    first = dataclasses.replace(bank, kernel_sizes=flax.core.FrozenDict({"conv1": (7, 7)}))
    with pytest.raises(ValueError, match="layer1_0/conv1"):
        initializers.clustered(first, layers=2)(key, params)
    small = {**params, "conv1": {"kernel": jnp.zeros((5, 5, 3, 8))}}
    with pytest.raises(ValueError, match="conv1"):
        initializers.clustered(bank, layers=1)(key, small)
    with pytest.raises(ValueError, match="another network"):
        initializers.pretrained({"conv1": params["conv1"]})(key, params)
    with pytest.raises(ValueError, match="conv1"):
        initializers.pretrained(small)(key, params)
    with pytest.raises(ValueError, match=r"conv1 has shape \(5, 5, 3, 8\) in source 0"):
        initializers.whole_filters([small])(key, params)
    with pytest.raises(ValueError, match="at least one trained network"):
        initializers.whole_filters([])
    with pytest.raises(ValueError, match="order of this tree's convolutions is not known"):
        initializers.default()(key, {"embedding": jnp.zeros((3, 3))})


def test_another_process_draws_the_same():
    """Whatever its seed of hashes; with the bank's clusters and Gabor's filters drawn too."""
    program = """
import hashlib, jax, jaxinit, numpy
params = {"conv1": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 8))},
          "layer1_0": {"conv1": {"kernel": jax.random.normal(jax.random.key(1), (3, 3, 4, 8))}}}
bank = jaxinit.banks.fit(jax.random.key(3), [params], clusters=3, representative="member")
init = jaxinit.chain(jaxinit.clustered(bank), jaxinit.gabor(layers=1))
drawn = jax.tree.leaves(init(jax.random.key(4), params))
print(hashlib.sha256(b"".join(numpy.asarray(leaf).tobytes() for leaf in drawn)).hexdigest())
"""
    both = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(both[0].strip()) == 64
    assert both[0] == both[1]
