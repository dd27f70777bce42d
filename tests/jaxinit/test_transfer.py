"""From a bank into another network: by name, by depth, and slices of another size."""

import os
from pathlib import Path

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

import jaxinit
from jaxinit import banks, kernels, transfer

KEY = jax.random.key(0)


def make_bank(**sizes):
    """Each layer's two filters hold its number, and that number and a half."""
    filters, numbers = {}, {}
    for number, (name, size) in enumerate(sizes.items(), 1):
        taps = int(np.prod(size))
        values = jnp.asarray([number, number + 0.5], jnp.float32)
        filters[name] = jnp.broadcast_to(values[:, None, None], (2, 1, taps))
        numbers[name] = jnp.asarray([1.0, 3.0])
    return banks.FilterBank(
        filters,
        numbers,
        {name: jnp.zeros(()) for name in sizes},
        flax.core.FrozenDict(sizes),
        banks.Provenance("euclidean", "centroid", 2, 1, (), "0"),
    )


def make_network(*shapes):
    """Convolutions whose names sort backwards."""
    params = {f"{'zyxwvu'[n]}": {"kernel": jnp.zeros(shape)} for n, shape in enumerate(shapes)}
    return params, jaxinit.declare(params, ["zyxwvu"[n] for n in range(len(shapes))])


BANK = make_bank(stem=(7, 7), a=(3, 3), b=(3, 3), c=(3, 3), d=(5, 5))


def numbers_of(params):
    return {name: int(jnp.floor(tree["kernel"].min())) for name, tree in params.items()}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, ["a"]), (2, ["a", "c"]), (3, ["a", "b", "c"]), (5, ["a", "a", "b", "c", "c"])],
)
def test_depth_by_hand(count, expected):
    """round(i·(m − 1)/(n − 1)) with m = 3: for n = 5 that is 0, 0.5, 1, 1.5, 2, halves to even."""
    params, network = make_network(*[(3, 3, 2, 2)] * count)
    pairs = transfer.by_depth(BANK, network)
    assert list(pairs.values()) == expected
    made = jaxinit.clustered(BANK, match="depth")(KEY, params, network=network)
    order = {"a": 2, "b": 3, "c": 4}
    wanted = [order[name] for name in pairs.values() if name]
    assert [numbers_of(made)[name] for name in pairs] == wanted


def test_a_layer_keeps_its_depth_whichever_others_are_chosen():
    _, network = make_network(*[(3, 3, 2, 2)] * 5)
    whole = transfer.by_depth(BANK, network)
    assert transfer.by_depth(BANK, network, [3]) == {"w": whole["w"]}


def test_kernel_sizes_that_the_bank_lacks():
    params, network = make_network((3, 3, 3, 4), (9, 9, 4, 4), (3, 3, 4, 4))
    with pytest.raises(ValueError, match=r"y has a kernel of 9×9, and the bank has none .*keep"):
        jaxinit.clustered(BANK, match="depth")(KEY, params, network=network)
    kept = jaxinit.clustered(BANK, match="depth", missing="keep")
    assert transfer.by_depth(BANK, network, missing="keep") == {"z": "a", "y": None, "x": "c"}
    assert jaxinit.changed(kept, params, network=network) == ("x/kernel", "z/kernel")
    assert not kept(KEY, params, network=network)["y"]["kernel"].any()
    # Relative to all layers y is in the middle, where the third of the bank's five is.
    resampled = jaxinit.clustered(BANK, match="depth", missing="resample")
    assert transfer.by_depth(BANK, network, missing="resample")["y"] == "b"
    made = resampled(KEY, params, network=network)
    values = np.unique(np.asarray(made["y"]["kernel"]).round(4))
    np.testing.assert_allclose(values, [3 / 3, 3.5 / 3], atol=1e-3)  # constants times √(9/81)


def test_by_name_and_by_mapping():
    params, network = make_network((3, 3, 2, 2), (3, 3, 2, 2))
    with pytest.raises(ValueError, match=r"the bank has no layer 'z'.*match=\"depth\""):
        jaxinit.clustered(BANK)(KEY, params, network=network)
    told = jaxinit.clustered(BANK, match={"z": "b", "y": "a"})
    assert numbers_of(told(KEY, params, network=network)) == {"z": 3, "y": 2}
    partial = {"z": "b"}
    with pytest.raises(ValueError, match="match= says nothing of layer 'y'"):
        jaxinit.clustered(BANK, match=partial)(KEY, params, network=network)
    kept = jaxinit.clustered(BANK, match=partial, missing="keep")
    assert jaxinit.changed(kept, params, network=network) == ("z/kernel",)
    for match, said in [({"q": "a"}, "'q' is not in the network"), ({"z": "q"}, "no layer 'q'")]:
        with pytest.raises(ValueError, match=said):
            jaxinit.clustered(BANK, match=match)(KEY, params, network=network)


@pytest.mark.parametrize("control", [jaxinit.controls.shuffled, jaxinit.controls.gaussian])
def test_controls_know_the_same_ways(control):
    params, network = make_network((3, 3, 8, 8), (9, 9, 2, 2))
    init = control(BANK, match="depth", missing="keep")
    assert jaxinit.changed(init, params, network=network) == ("z/kernel",)
    made = init(KEY, params, network=network)["z"]["kernel"]
    assert float(made.mean()) == pytest.approx(2.375, abs=0.1)  # (2 + 3·2.5)/4


@pytest.mark.parametrize("before", range(1, 8))
@pytest.mark.parametrize("after", range(1, 8))
def test_resampling_is_by_the_cosine_transform_of_scipy(before, after):
    slices = np.random.default_rng(0).standard_normal((4, before * 3)).astype(np.float32)
    ours = transfer.resample(jnp.asarray(slices), (before, 3), (after, 5))
    taps = slices.reshape(4, before, 3).astype(np.float64)
    spectrum = np.asarray(scipy.fft.dctn(taps, axes=(1, 2), norm="ortho"))[:, :after]
    theirs = np.asarray(scipy.fft.idctn(spectrum, s=(after, 5), axes=(1, 2), norm="ortho"))
    np.testing.assert_allclose(ours, theirs.reshape(4, -1), atol=1e-5)


@pytest.mark.parametrize("after", [3, 4, 5, 7])
def test_what_is_centred_stays_centred(after):
    across = np.exp(-((np.arange(5) - 2.0) ** 2) / 2)
    slices = jnp.asarray(np.outer(across, across).reshape(1, 25), jnp.float32)
    made = np.asarray(transfer.resample(slices, (5, 5), (after, after))).reshape(after, after)
    np.testing.assert_allclose(made, made[::-1], atol=1e-6)
    np.testing.assert_allclose(made, made[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(made.max(), made[(after - 1) // 2, (after - 1) // 2], rtol=1e-5)


def test_resampling_up_and_back_is_nothing_and_keeps_norms():
    slices = jax.random.normal(KEY, (10, 9))
    up = transfer.resample(slices, (3, 3), (7, 5))
    np.testing.assert_allclose(
        jnp.linalg.norm(up, axis=1), jnp.linalg.norm(slices, axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(transfer.resample(up, (7, 5), (3, 3)), slices, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("b", {3}), (0, {2}), (-1, {4}), (0.0, {2}), (0.5, {3}), (1.0, {4}), (None, {2, 3, 4})],
)
def test_kernel_init_by_name_depth_or_all(layer, expected):
    kernel = jaxinit.clustered_kernel(BANK, layer)(KEY, (3, 3, 16, 16))
    assert set(np.floor(np.unique(kernel)).astype(int)) == expected


def test_kernel_init_of_what_is_not_there():
    for layer, said in [(3, "out of range"), (1.5, "out of range"), ("q", "has no layer 'q'")]:
        with pytest.raises(ValueError, match=said):
            jaxinit.clustered_kernel(BANK, layer)(KEY, (3, 3, 4, 4))
    with pytest.raises(ValueError, match="no layer whose slices are 9×9: it has 3×3, 5×5, 7×7"):
        jaxinit.clustered_kernel(BANK)(KEY, (9, 9, 4, 4))
    with pytest.raises(ValueError, match="as PyTorch and Equinox have it"):
        jaxinit.clustered_kernel(BANK)(KEY, (16, 4, 3, 3))


def test_a_bank_that_was_normalised_says_so(tmp_path):
    """γ/σ of a folded batch norm scales each output channel; dead ones are left out."""
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((8, 4, 3, 3)).astype(np.float32)
    folded = whole * np.exp(rng.standard_normal((8, 1, 1, 1))).astype(np.float32)
    folded[3] *= 1e-6
    network = jaxinit.declare({"conv.weight": folded}, ["conv.weight"], layout="OIHW")
    bank = banks.fit(
        KEY, {"conv.weight": folded}, clusters=28, network=network, normalize=True,
        representative="member", members_per_cluster=1,
    )  # fmt: skip
    wanted = whole / np.linalg.norm(whole.reshape(8, -1), axis=1).reshape(8, 1, 1, 1)
    wanted = np.delete(wanted * np.sqrt(2 * 4 / 8), 3, axis=0).reshape(28, 9)
    found = np.asarray(bank.filters["conv.weight"]).reshape(28, 9)
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(wanted, axis=0), rtol=1e-4)
    assert float(bank.sizes["conv.weight"].sum()) == 28
    assert bank.provenance.normalized
    banks.save(bank, tmp_path / "bank.npz")
    assert banks.load(tmp_path / "bank.npz").provenance == bank.provenance
    with pytest.raises(ValueError, match="filters that are not dead, too few for 29"):
        banks.fit(KEY, {"conv.weight": folded}, clusters=29, network=network, normalize=True)


def test_models_may_come_from_a_generator_or_be_one_tree():
    trees = [
        {"conv1": {"kernel": jax.random.normal(jax.random.key(n), (3, 3, 2, 4))}} for n in (0, 1)
    ]
    both = banks.fit(KEY, trees, clusters=3)
    jax.tree.map(np.testing.assert_array_equal, banks.fit(KEY, iter(trees), clusters=3), both)
    jax.tree.map(
        np.testing.assert_array_equal,
        banks.fit(KEY, trees[0], clusters=3),
        banks.fit(KEY, trees[:1], clusters=3),
    )
    with pytest.raises(ValueError, match=r"cannot run under jax\.jit"):
        jax.jit(lambda tree: banks.fit(KEY, tree, clusters=3))(trees[0])


def test_what_is_drawn_is_near_the_bank_whatever_the_layout():
    model = {"w": jax.random.normal(KEY, (8, 4, 3, 3))}
    network = jaxinit.declare(model, ["w"], layout="OIHW")
    bank = banks.fit(KEY, model, clusters=3, representative="member", network=network)
    made = jaxinit.clustered(bank)(KEY, model, network=network)
    rows = {row.tobytes() for row in np.asarray(model["w"]).reshape(-1, 9)}
    assert {row.tobytes() for row in np.asarray(made["w"]).reshape(-1, 9)} <= rows
    assert len(kernels.leaves(made)) == 1


def test_published_weights_fill_another_network():
    """13 convolutions of an ImageNet ResNet-18, batch norm folded in, where they are at hand."""
    folder = os.environ.get("JAXINIT_WEIGHTS_DIR")
    if not folder:
        pytest.skip("JAXINIT_WEIGHTS_DIR names no folder of weights")
    state = jaxinit.open_weights(Path(folder) / "imagenet-resnet18-13-convolutions.npz")
    source = jaxinit.declare(state, [n for n, a in state.items() if a.ndim == 4], layout="OIHW")
    assert source["conv1.weight"].shape == (7, 7, 3, 64)
    bank = banks.fit(KEY, state, clusters=5, network=source, normalize=True)
    dead = 64 - float(bank.sizes["conv1.weight"].sum()) / 3
    assert 0 < dead < 16
    params = jaxinit.ResNet18(classes=10).init(KEY, jnp.zeros((1, 32, 32, 3)), train=False)[
        "params"
    ]
    made = jaxinit.clustered(bank, match="depth")(KEY, params)
    own, default = (jaxinit.diagnostics.kernel_norms(tree) for tree in (made, params))
    assert all(0.4 < float(own[name] / default[name]) < 1.2 for name in own)


@pytest.mark.parametrize(
    ("side", "last"), [(32, "layer4_1/conv2"), (64, "layer3_1/conv2"), (224, "layer3_1/conv2")]
)
def test_filters_of_dead_taps_fill_no_layer_whose_maps_are_larger(side, last):
    """The bank's stage 4 has seen maps of one pixel: its filters are zero but at the centre."""
    bank = banks.named("cifar100-resnet18")
    resnet = jaxinit.ResNet18(10)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params = jax.eval_shape(lambda x: resnet.init(KEY, x, train=False)["params"], x)
    network = jaxinit.trace(
        lambda p, x: resnet.apply({"params": p}, x, train=True, mutable=["batch_stats"])[0],
        params,
        x,
    )
    found = transfer.by_depth(bank, network)
    assert found["layer4_1/conv2"] == last
    same = {name: own for name, own in found.items() if not name.startswith("layer4")}
    assert all(name == own for name, own in same.items())
    used = {n: np.any(np.asarray(bank.filters[own]), (0, 1)) for n, own in found.items() if own}
    assert len(used) == len(found)
    lacking = [n for n, taps in used.items() if not taps.all() and not network[n].dead_taps]
    assert not lacking


def test_filters_of_dead_taps_are_not_brought_to_another_size():
    bank = banks.named("cifar100-resnet18")
    params = {f"c{n}": jnp.zeros((5, 5, 3, 3)) for n in range(4)}

    def apply(params, x):
        for kernel in params.values():
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x

    network = jaxinit.trace(apply, params, jnp.zeros((1, 32, 32, 3)))
    found = transfer.by_depth(bank, network, missing="resample")
    assert found["c0"] == "conv1"
    assert found["c3"] == "layer3_1/conv2"
    made = jaxinit.clustered(bank, match="depth", missing="resample")(KEY, params, network=network)
    assert np.linalg.matrix_rank(np.asarray(made["c3"]).reshape(25, 9), tol=1e-4) > 1


def test_of_a_traced_bank_no_taps_are_known_and_depth_alone_decides():
    params, network = make_network(*[(3, 3, 2, 2)] * 3)
    made = jax.jit(
        lambda bank: jaxinit.clustered(bank, match="depth")(KEY, params, network=network)
    )(BANK)
    assert numbers_of(made) == {"z": 2, "y": 3, "x": 4}
