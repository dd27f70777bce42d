"""What is found of trees and banks, against NumPy in float64 and what is drawn from them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxinit
from jaxinit import banks, diagnostics, inspection, relative_norms
from tests import small

LAST = "layer2_0/conv2"
KEY = jax.random.key(0)


def row_of(found, name):
    return next(row for row in found.rows if row.name == name)


@pytest.fixture(scope="module")
def found(params):
    return inspection.examine(params)


def test_there_is_a_row_for_each_layer_in_the_order_of_calls(params, found):
    assert tuple(row.name for row in found.rows) == small.layer_names(params)
    assert found.rows[0].shape == (7, 7, 3, 8)
    assert [row.taps for row in found.rows] == [49, 9, 9, 9]
    assert all(row.live_taps is None and row.angle is None for row in found.rows)
    assert [row.name for row in inspection.examine(params, layers="layer2*/conv?").rows] == [
        "layer2_0/conv1",
        "layer2_0/conv2",
    ]


def test_norms_are_relative_to_those_of_jax_he_normal_by_fan_out(params, found):
    he = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    for row in found.rows:
        drawn = he(KEY, (*row.shape[:-1], 4000), jnp.float32)
        default = np.linalg.norm(np.asarray(drawn, np.float64))
        own = np.linalg.norm(np.asarray(small.get_kernel(params, row.name), np.float64))
        assert row.relative_norm == pytest.approx(own / default, rel=0.02)
        assert row.effective_step == pytest.approx((default / own) ** 2, rel=0.04)


def test_a_step_turns_a_scale_invariant_layer_by_the_effective_step():
    """The gradient of a loss that sees w/‖w‖ alone, at two norms, after one step of SGD."""
    rng = np.random.default_rng(0)
    target = jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)

    def loss(w):
        return jnp.sum(w * target) / jnp.linalg.norm(w.ravel())

    def turned(w):
        stepped = w - 1e-3 * jax.grad(loss)(w)
        one, other = ({"conv1": {"kernel": own}} for own in (w, stepped))
        return float(diagnostics.kernel_angles(one, other)["conv1"])

    default = relative_norms.at_relative_norm(kernel, 1.0)
    row = inspection.examine({"conv1": {"kernel": kernel}}).rows[0]
    assert turned(kernel) / turned(default) == pytest.approx(row.effective_step, rel=0.01)


def test_live_taps_alone_are_measured(params):
    live = {LAST: (slice(1, 2), slice(1, 3))}
    rows = inspection.examine(params, live=live)
    row = row_of(rows, LAST)
    kernel = np.asarray(small.get_kernel(params, LAST), np.float64)[1:2, 1:3]
    assert (row.live_taps, row.taps) == (2, 9)
    default = np.sqrt(2 * 16 * 2 / 9)
    assert row.relative_norm == pytest.approx(np.linalg.norm(kernel) / default, rel=1e-5)
    slices = kernel.reshape(2, -1).T
    variances = np.linalg.eigvalsh(np.cov(slices.T))
    ratios = variances / variances.sum()
    assert row.variance_entropy == pytest.approx(-np.sum(ratios * np.log10(ratios)), abs=1e-5)
    assert row.random_entropy is None
    assert row_of(rows, "conv1").live_taps == 49


def test_a_traced_network_says_which_taps_are_live():
    net = linen.Conv(4, (3, 3), padding="SAME")
    x = jnp.zeros((1, 1, 8, 3))
    params = net.init(KEY, x)["params"]
    network = jaxinit.trace(lambda params, x: net.apply({"params": params}, x), params, x)
    (row,) = inspection.examine(params, network=network).rows
    assert (row.live_taps, row.taps) == (3, 9)
    (row,) = inspection.examine(params, network=network, live={}).rows
    assert (row.live_taps, row.taps) == (9, 9)


def test_angles_are_those_of_the_diagnostics(params):
    other = jax.tree.map(lambda leaf: leaf[::-1] + 0.5, params)
    angles = diagnostics.kernel_angles(other, params)
    found = inspection.examine(params, reference=other)
    assert {row.name: row.angle for row in found.rows} == {n: float(a) for n, a in angles.items()}


def test_layers_of_other_layouts_ranks_and_precisions():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 2, 3, 3)).astype(np.float16)
    params = {"a": kernel, "b": kernel.transpose(2, 3, 1, 0).astype(jnp.bfloat16)}
    oihw = jaxinit.declare(params, ["a"], layout="OIHW")
    hwio = jaxinit.declare(params, ["b"])
    (one,) = inspection.examine(params, network=oihw).rows
    (other,) = inspection.examine(params, network=hwio).rows
    assert one.shape == other.shape == (3, 3, 2, 6)
    expected = np.linalg.norm(kernel.astype(np.float64)) / 2
    assert one.relative_norm == pytest.approx(expected, rel=1e-5)
    assert other.relative_norm == pytest.approx(expected, rel=1e-2)
    params = {"line": np.ones((5, 2, 3), np.float32), "dot": np.ones((1, 2, 3), np.float32)}
    network = jaxinit.declare(params, ["line", "dot"], layout="WIO")
    found = inspection.examine(params, network=network, layers=["line", "dot"])
    assert [row.taps for row in found.rows] == [5, 1]
    assert found.samples["line"].shape[1:] == (1, 5)


def test_zeros_have_numbers():
    (row,) = inspection.examine({"conv1": {"kernel": jnp.zeros((3, 3, 2, 4))}}).rows
    assert (row.relative_norm, row.effective_step, row.sparsity) == (0, np.inf, 1)


def test_a_bank_has_the_numbers_that_are_drawn_from_it(params, bank):
    network = jaxinit.layers.of(params)
    found = inspection.examine(bank, network=network)
    for row in found.rows:
        shape = (*row.shape[:-2], 100, 100)
        drawn = {"conv1": {"kernel": banks.draw(KEY, bank, row.name, shape)}}
        (own,) = inspection.examine(drawn).rows
        assert row.slice_norm == pytest.approx(own.slice_norm, rel=0.02)
        assert row.variance_entropy == pytest.approx(own.variance_entropy, abs=0.01)
        norm = row.slice_norm * np.sqrt(row.shape[-2] * row.shape[-1])
        assert row.relative_norm == pytest.approx(norm / np.sqrt(2 * row.shape[-2]))


def test_of_a_bank_alone_no_relative_norm_is_known(bank):
    found = inspection.examine(bank, layers=2)
    assert [row.shape for row in found.rows] == [(7, 7), (3, 3)]
    assert all(row.relative_norm is row.effective_step is None for row in found.rows)
    assert found.rows[1].random_entropy == pytest.approx(0.9513, abs=1e-4)


def test_a_bank_shows_its_largest_clusters_first(bank):
    name = "layer1_0/conv1"
    shown = inspection.examine(bank).samples[name]
    np.testing.assert_array_equal(shown.reshape(3, 9), np.asarray(bank.filters[name])[::-1, 0])


def test_samples_are_slices_of_the_kernel(params, found):
    kernel = np.asarray(small.get_kernel(params, LAST))
    slices = {own.tobytes() for own in kernel.transpose(3, 2, 0, 1).reshape(-1, 3, 3).copy()}
    assert all(own.tobytes() in slices for own in found.samples[LAST])
    np.testing.assert_array_equal(found.filters[5], small.get_kernel(params, "conv1")[..., 5])


def cut(params):
    return {**params, "conv1": {"kernel": params["conv1"]["kernel"][..., :4]}}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p, b: inspection.examine(b, reference=p), "give reference= with a tree"),
        (lambda p, b: inspection.examine(p, reference=b), "not a bank"),
        (lambda p, b: inspection.examine(p, reference=cut(p)), r"\(7, 7, 3, 8\), but \(7, 7, 3, 4"),
        (lambda p, b: inspection.examine(p, reference={}), "no layer conv1: give"),
        (lambda p, b: inspection.examine({"own": p}), "network=jaxinit.trace"),
        (lambda p, b: inspection.examine(p, layers="conv9"), "conv9"),
        (lambda p, b: inspection.examine(b, layers="conv9"), "conv9"),
        (lambda p, b: inspection.examine(jax.tree.map(lambda a: a.astype(int), p)), "int32"),
        (lambda p, b: jax.jit(inspection.examine)(p), "outside of it"),
        (
            lambda p, b: inspection.examine(b, network=jaxinit.declare(p, ["fc"], layout="IO")),
            "must have",
        ),
    ],
)
def test_what_cannot_be_examined_is_said_in_a_sentence(params, bank, call, said):
    with pytest.raises(ValueError, match=said):
        call(params, bank)


def test_a_network_without_the_banks_layers_is_refused(params, bank):
    network = jaxinit.declare({"other": params["conv1"]}, ["other"])
    with pytest.raises(ValueError, match="none of the bank's layers"):
        inspection.examine(bank, network=network)


def test_a_bank_of_several_members_counts_them_alike(bank):
    doubled = dataclasses.replace(
        bank, filters={name: jnp.repeat(own, 2, axis=1) for name, own in bank.filters.items()}
    )
    for one, other in zip(
        inspection.examine(bank).rows, inspection.examine(doubled).rows, strict=True
    ):
        assert one.slice_norm == pytest.approx(other.slice_norm)
        assert one.variance_entropy == pytest.approx(other.variance_entropy, abs=3e-6)
