"""Controls: each keeps what it says of another start, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import controls, initializers, kernels, normal_slices
from tests import small

LIVE = {"layer2_0/conv2": (slice(1, 2), slice(1, 3))}
LAST = "layer2_0/conv2"


def test_norms_are_the_references_and_directions_the_initialisers(bank, params):
    key = jax.random.key(0)
    made = controls.at_norms_of(initializers.unchanged(), initializers.clustered(bank))(key, params)
    reference = initializers.clustered(bank)(key, params)
    for name in small.layer_names(params):
        kernel, own = (np.asarray(small.get_kernel(tree, name)) for tree in (made, params))
        wanted = np.linalg.norm(small.get_kernel(reference, name))
        np.testing.assert_allclose(np.linalg.norm(kernel), wanted, rtol=1e-5)
        np.testing.assert_allclose(kernel / wanted, own / np.linalg.norm(own), atol=1e-6)
    np.testing.assert_array_equal(made["fc"]["kernel"], params["fc"]["kernel"])


def test_norms_of_live_taps_and_of_chosen_layers(bank, params):
    twice = initializers.scaled(2.0)

    def lengthened(key, params):
        """Also makes the taps that meet no data ten times as long."""
        kernel = 10 * small.get_kernel(params, LAST)
        own = LIVE[LAST]
        kernel = kernel.at[own].set(2 * small.get_kernel(params, LAST)[own])
        return small.set_kernels(twice(key, params), {LAST: kernel})

    init = controls.at_norms_of(initializers.unchanged(), lengthened, live=LIVE)
    made = init(jax.random.key(0), params)
    for name in small.layer_names(params):
        kernel, own = (np.asarray(small.get_kernel(tree, name)) for tree in (made, params))
        np.testing.assert_allclose(kernel, 2 * own, rtol=1e-5)
    some = controls.at_norms_of(initializers.unchanged(), twice, layers=1)
    made = some(jax.random.key(0), params)
    np.testing.assert_allclose(made["conv1"]["kernel"], 2 * params["conv1"]["kernel"], rtol=1e-5)
    np.testing.assert_array_equal(small.get_kernel(made, LAST), small.get_kernel(params, LAST))


@pytest.mark.parametrize(("dtype", "size"), [(jnp.float16, 100.0), (jnp.bfloat16, 1e25)])
def test_norms_hold_in_half_precision(params, dtype, size):
    """Beyond 256 squares of float16 are infinite; beyond 1.8e19 those of bfloat16."""
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
    larger = initializers.scaled(size)
    for init, reference in ((initializers.unchanged(), larger), (larger, initializers.unchanged())):
        made = controls.at_norms_of(init, reference)(jax.random.key(0), half)
        wanted = reference(jax.random.key(0), half)
        for name in small.layer_names(params):
            norms = [np.linalg.norm(np.asarray(small.get_kernel(tree, name)).astype(np.float64))
                     for tree in (made, wanted)]  # fmt: skip
            assert norms[0] == pytest.approx(norms[1], rel=1e-2)


def test_a_layer_of_zeros_stays_so(params):
    made = controls.at_norms_of(initializers.scaled(0.0), initializers.unchanged())(
        jax.random.key(0), params
    )
    assert not small.get_kernel(made, LAST).any()


def draws(init, params, seed=0):
    """The slices of each layer that a key draws."""
    made = init(jax.random.key(seed), params)
    names = small.layer_names(params)
    return {name: np.asarray(kernels.to_slices(small.get_kernel(made, name))) for name in names}


def test_shuffled_draws_are_those_of_the_bank_with_each_filter_in_another_order(bank, params):
    plain, mixed = initializers.clustered(bank), controls.shuffled(bank)
    own, shuffled = draws(plain, params), draws(mixed, params)
    for name, before in own.items():
        after = shuffled[name]
        np.testing.assert_array_equal(np.sort(before, axis=1), np.sort(after, axis=1))
        pairs = np.unique(np.concatenate([before, after], axis=1), axis=0)
        assert len(pairs) == 3  # each of the clusters' filters has become one other
        taps = before.shape[1]
        orders = {tuple(np.argsort(np.argsort(pair[:taps]))[np.argsort(pair[taps:])].tolist())
                  for pair in pairs}  # fmt: skip
        assert len(orders) == 3  # in an order of its own
    other = draws(mixed, params, seed=1)
    assert {tuple(row) for row in other["conv1"]} != {tuple(row) for row in shuffled["conv1"]}


def test_shuffling_leaves_dead_taps_where_they_are(bank, params):
    rows, columns = LIVE[LAST]
    dead = np.ones((3, 3), bool)
    dead[rows, columns] = False
    changed = []
    for seed in range(6):
        own, mixed = (
            draws(init, params, seed)[LAST].reshape(-1, 3, 3)
            for init in (initializers.clustered(bank), controls.shuffled(bank, live=LIVE))
        )
        np.testing.assert_array_equal(own[:, dead], mixed[:, dead])
        before, after = (np.sort(of[:, ~dead], axis=1) for of in (own, mixed))
        np.testing.assert_array_equal(before, after)
        changed.append((own != mixed).any())
    assert any(changed)


def test_live_taps_are_those_of_the_network_whatever_the_bank_calls_the_layer(bank, params):
    """The bank's layer that fills the last has live taps of its own, which say nothing here."""
    other = "layer1_0/conv1"
    match = {name: other if name == LAST else name for name in small.layer_names(params)}
    live = {**LIVE, other: (slice(0, 1), slice(0, 1))}
    own, mixed = (
        draws(init, params)[LAST].reshape(-1, 3, 3)
        for init in (
            initializers.clustered(bank, [LAST], match=match),
            controls.shuffled(bank, [LAST], live, match=match),
        )
    )
    dead = np.ones((3, 3), bool)
    dead[LIVE[LAST]] = False
    np.testing.assert_array_equal(own[:, dead], mixed[:, dead])
    assert (own != mixed).any()


def test_gaussian_has_the_mean_and_covariance_of_what_the_bank_draws(bank):
    params = {"conv1": {"kernel": jnp.zeros((7, 7, 128, 256))}}
    made = jax.jit(controls.gaussian(bank))(jax.random.key(1), params)
    slices = np.asarray(kernels.to_slices(made["conv1"]["kernel"]))
    own = np.asarray(bank.filters["conv1"])[:, 0]
    share = np.asarray(bank.sizes["conv1"]) / 6
    mean = share @ own
    covariance = (own - mean).T @ np.diag(share) @ (own - mean)
    error = 5 / np.sqrt(len(slices))
    np.testing.assert_allclose(slices.mean(axis=0), mean, atol=error * np.sqrt(covariance.max()))
    found = np.cov(slices.T)
    np.testing.assert_allclose(found, covariance, atol=2 * error * covariance.max())
    # Not the three filters themselves.
    nearest = np.linalg.norm(slices[:50, None] - own[None], axis=2).min(axis=1)
    assert (nearest > 0.1).all()


def test_members_of_a_cluster_count_alike():
    candidates = jnp.asarray([[[1.0], [3.0]], [[5.0], [5.0]]])
    slices, share = controls._candidates(candidates, jnp.asarray([1.0, 1.0]))
    mean, root = normal_slices.moments(slices, share)
    np.testing.assert_allclose(mean, [3.5])  # a quarter of 1, a quarter of 3, half of 5
    variance = (2.5**2 + 0.5**2) / 4 + 1.5**2 / 2
    np.testing.assert_allclose(root.T @ root, [[variance]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["norms", "shuffled", "gaussian"])
def test_pure_functions_of_the_key(kind, bank, params):
    made = {
        "norms": controls.at_norms_of(
            initializers.gabor(), initializers.clustered(bank), live=LIVE
        ),
        "shuffled": controls.shuffled(bank, live=LIVE),
        "gaussian": controls.gaussian(bank),
    }[kind]
    keys = jax.random.split(jax.random.key(5), 2)
    both = jax.jit(jax.vmap(made, in_axes=(0, None)))(keys, params)
    eager = [made(key, params) for key in keys]
    for name in small.layer_names(params):
        for i in range(2):
            one, own = small.get_kernel(both, name)[i], small.get_kernel(eager[i], name)
            np.testing.assert_allclose(one, own, rtol=1e-5, atol=1e-5)
        first, second = (small.get_kernel(tree, name) for tree in eager)
        assert not np.allclose(first, second)


def test_bad_input_gets_a_sentence(bank, params):
    other = {"layer9_0": {"conv1": {"kernel": jnp.zeros((3, 3, 2, 2))}}}
    with pytest.raises(ValueError, match="the bank has no layer 'layer9_0/conv1'"):
        controls.gaussian(bank)(jax.random.key(0), other)
    other = {"conv1": {"kernel": jnp.zeros((3, 3, 2, 2))}}
    with pytest.raises(ValueError, match="the bank has layer 'conv1', whose slices are 7×7"):
        controls.gaussian(bank)(jax.random.key(0), other)
    with pytest.raises(ValueError, match="'conv9' is not in the network"):
        controls.shuffled(bank, ["conv9"])(jax.random.key(0), params)
