"""Groups of whole filters."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import alignment
from jaxinit.alignment import grouping
from tests.jaxinit.alignment.two_networks import shuffled
from tests.small import get_kernel, layer_names


def grouped_by_hand(kernels: np.ndarray) -> np.ndarray:
    """The description, in loops: groups of (model, filter), one of each model in each group."""
    models, *_, outputs = kernels.shape
    vectors = kernels.transpose(0, 4, 3, 1, 2).reshape(models, outputs, -1)
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    left = [set(range(outputs)) for _ in range(models)]
    members = np.zeros((models, outputs), int)
    for group in range(outputs):
        chosen = [unit[0, group]]
        members[0, group] = group
        for model in range(1, models):
            costs = {
                f: sum(
                    np.linalg.norm(np.fft.fft(unit[model, f]).real - np.fft.fft(c).real)
                    for c in chosen
                )
                for f in left[model]
            }
            best = min(costs, key=lambda f: costs[f])
            left[model].remove(best)
            members[model, group] = best
            chosen.append(unit[model, best])
    return members


def test_groups_are_those_of_the_description():
    kernels = np.random.default_rng(0).standard_normal((4, 3, 3, 2, 10)).astype(np.float32)
    groups = alignment.group_filters(jnp.asarray(kernels))
    members = grouped_by_hand(kernels)
    np.testing.assert_array_equal(groups.members, members)
    for group in range(10):
        mean = np.mean([kernels[m, ..., members[m, group]] for m in range(4)], axis=0)
        np.testing.assert_allclose(groups.means[..., group], mean, atol=1e-6)


@pytest.mark.parametrize("optimal", [False, True])
@pytest.mark.parametrize("apart", [3e-4, 1e-5])
def test_filters_that_are_almost_one_are_told_apart(optimal, apart):
    """Distances beside scikit-learn's in float64, and the order that was taken away."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    one = rng.standard_normal((3, 3, 4, 1)) + apart * rng.standard_normal((3, 3, 4, 16))
    order = rng.permutation(16)
    kernels = np.stack([one, one[..., order]]).astype(np.float32)
    groups = alignment.group_filters(jnp.asarray(kernels), optimal=optimal)
    np.testing.assert_array_equal(groups.members[1], np.argsort(order))
    flat = kernels.astype(np.float64).transpose(0, 4, 3, 1, 2).reshape(2, 16, -1)
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    wanted = metrics.pairwise_distances(*np.fft.fft(flat).real)
    found = grouping._between(jnp.asarray(kernels))[0, 1]
    np.testing.assert_allclose(found, wanted, rtol=0.1, atol=3e-6)


def test_filters_of_half_precision_are_grouped_as_those_of_single():
    kernels = np.random.default_rng(2).standard_normal((3, 3, 3, 4, 6)).astype(np.float16)
    large = alignment.group_filters(jnp.asarray(1000 * kernels))  # whose squares float16 lacks
    np.testing.assert_array_equal(
        large.members, alignment.group_filters(jnp.asarray(kernels, jnp.float32)).members
    )


def test_optimal_groups_are_as_near_as_any():
    kernels = np.random.default_rng(1).standard_normal((2, 3, 3, 2, 5)).astype(np.float32)
    between = np.asarray(grouping._between(jnp.asarray(kernels)))[1, 0]

    def total(members):
        return sum(between[f, g] for g, f in enumerate(members))

    best = min(total(order) for order in itertools.permutations(range(5)))
    optimal, greedy = (
        alignment.group_filters(jnp.asarray(kernels), optimal=o).members[1].tolist()
        for o in (True, False)
    )
    assert total(optimal) == pytest.approx(best)
    assert total(greedy) > best  # here greed does not pay


@pytest.mark.parametrize("optimal", [False, True])
def test_layers_are_grouped_in_turn(networks, optimal):
    """Copies of one network in other orders come back, layer after layer."""
    _, variables = networks[False]
    symmetry = alignment.resnet18(residual_first_stage=False)
    copies = [
        alignment.permute(variables, symmetry, shuffled(symmetry, variables, seed))
        for seed in (1, 2)
    ]
    aligned, means = alignment.align_layers([variables, *copies], symmetry, 4, optimal=optimal)
    assert tuple(means) == layer_names(variables["params"])[:4]
    for name, mean in means.items():
        kernel = get_kernel(variables["params"], name)
        np.testing.assert_allclose(mean, kernel, atol=1e-6)
        for network in aligned:
            np.testing.assert_array_equal(get_kernel(network["params"], name), kernel)
    # What reads the last of them follows; further on nothing is in order yet.
    names = layer_names(variables["params"])
    for name, same in ((names[4], True), (names[6], False)):
        kernels = [get_kernel(v["params"], name) for v in (variables, aligned[1])]
        ours, theirs = (np.sort(np.asarray(k), axis=3) for k in kernels)
        assert np.array_equal(ours, theirs) == same


def test_bad_input_gets_a_sentence(networks):
    _, variables = networks[True]
    symmetry = alignment.resnet18()
    with pytest.raises(ValueError, match="shares its channels with a residual stream"):
        alignment.align_layers([variables], symmetry, 2)
    with pytest.raises(ValueError, match="at least one network"):
        alignment.align_layers([], symmetry, 2)
    with pytest.raises(ValueError, match="keep their order: leave it out"):
        alignment.align_layers([variables], {}, 2)
