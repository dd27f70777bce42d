"""Which layers are found in files of each kind, and the command that prints them."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

import jaxinit
from jaxinit import banks, inspection
from jaxinit.inspection import __main__ as command
from jaxinit.inspection import opening
from jaxinit.models import registry, torch
from tests import small


def kernel(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def weights(folder, arrays, name="some.npz"):
    jaxinit.save_weights(folder / name, arrays)
    return folder / name


def found_in(path, layout=None):
    start, network = opening.opened(path, layout)
    return inspection.examine(start, network=network)


def checkpoint(folder, tree):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "saved", tree)
    return folder / "saved"


def test_a_bank_is_known_by_what_is_in_it(tmp_path, bank):
    banks.save(bank, tmp_path / "bank.npz")
    start, network = opening.opened(tmp_path / "bank.npz")
    assert network is None
    jax.tree.map(np.testing.assert_array_equal, start, bank)


@pytest.mark.parametrize("name", ["resnet20", "vgg11"])
def test_a_state_dict_of_a_registered_network_has_the_order_of_its_calls(tmp_path, name):
    module = registry.get(name).make(classes=7)
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda key: module.init(key, images, train=False), jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda own: rng.normal(size=own.shape).astype(np.float32), shapes)
    state = torch.to_torch(variables, name)
    start, network = opening.opened(weights(tmp_path, dict(sorted(state.items(), reverse=True))))
    assert network is not None
    assert network.names == small.trace(module, (32, 32)).names
    assert all(layer.live is None for layer in network.layers)
    found = inspection.examine(start, network=network, layers=1)
    norm = np.linalg.norm(variables["params"]["conv1"]["kernel"]) / np.sqrt(2 * 3)
    assert found.rows[0].relative_norm == pytest.approx(norm, rel=1e-5)


def test_other_state_dicts_are_read_in_the_order_and_layout_of_pytorch(tmp_path):
    arrays = {
        "stem.weight": kernel(8, 3, 5, 5),
        "a.weight": kernel(4, 8, 3, 3).astype(np.float16),
        "fc.weight": kernel(4, 4),
        "bn.weight": kernel(4),
        "counts": np.ones((1, 1, 3, 3), np.int32),
    }
    rows = found_in(weights(tmp_path, arrays)).rows
    assert [(row.name, row.shape) for row in rows] == [("stem", (5, 5, 3, 8)), ("a", (3, 3, 8, 4))]


def test_kernels_that_are_called_so_have_their_channels_last(tmp_path):
    arrays = {"conv_2/kernel": kernel(3, 3, 2, 4), "conv_1/w": kernel(3, 3, 4, 4)}
    rows = found_in(weights(tmp_path, arrays)).rows
    assert [(row.name, row.shape) for row in rows] == [
        ("conv_2", (3, 3, 2, 4)),
        ("conv_1", (3, 3, 4, 4)),
    ]


def test_a_layout_that_is_given_counts(tmp_path):
    path = weights(tmp_path, {"a.weight": kernel(3, 3, 5, 6), "a.kernel": kernel(3, 3, 6, 5)})
    assert found_in(path, "HWIO").rows[0].shape == (3, 3, 5, 6)
    assert found_in(path, "OIHW").rows[0].shape == (5, 6, 3, 3)
    assert [row.name for row in found_in(path, "HWIO").rows] == ["a.weight", "a.kernel"]


def test_a_checkpoint_of_a_tree_with_our_names_has_their_order(tmp_path, params):
    path = checkpoint(tmp_path, {"params": params, "step": jnp.zeros(3)})
    rows, expected = found_in(path).rows, inspection.examine(params).rows
    assert rows == expected


def test_a_checkpoint_of_any_tree_has_its_own_order(tmp_path):
    tree = {"b": {"kernel": {"value": kernel(3, 3, 2, 4)}}, "a": [{"kernel": kernel(5, 5, 2, 2)}]}
    rows = found_in(checkpoint(tmp_path, tree)).rows
    assert [(row.name, row.shape) for row in rows] == [("a/0", (5, 5, 2, 2)), ("b", (3, 3, 2, 4))]


@pytest.fixture(scope="module")
def files(tmp_path_factory, bank):
    folder = tmp_path_factory.mktemp("files")
    banks.save(bank, folder / "bank.npz")
    weights(folder, {"a.weight": kernel(8, 3, 3, 3), "b.weight": kernel(4, 8, 3, 3)}, "one.npz")
    weights(folder, {"a.weight": -kernel(8, 3, 3, 3), "b.weight": kernel(4, 8, 3, 3)}, "two.npz")
    weights(folder, {"a.weight": kernel(8, 3, 3, 3)}, "few.npz")
    weights(folder, {"fc.weight": kernel(8, 3)}, "linear.npz")
    weights(folder, {"mix.weight": kernel(8, 3, 1, 1)}, "taps.npz")
    weights(folder, {"a/kernel": kernel(64, 3, 7, 7)}, "turned.npz")
    (folder / "damaged.npz").write_bytes((folder / "one.npz").read_bytes()[:300])
    (folder / "weights.pt").write_bytes(flax.serialization.msgpack_serialize({"a": 1}))
    (folder / "empty").mkdir()
    return folder


def test_the_command_prints_the_table_and_draws_the_figure(files, capsys, tmp_path):
    pictures = tmp_path / "out.png"
    asked = [str(files / "one.npz"), "--reference", str(files / "two.npz"), "--figure"]
    assert command.main([*asked, str(pictures)]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[1].split()[0] == "a"
    assert [line.split()[4] for line in lines[1:3]] == ["180.0°", "0.0°"]
    assert not said.err
    assert pictures.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.npz"], "does not exist"),
        (["damaged.npz"], "is damaged"),
        (["weights.pt"], "is a pickle"),
        (["empty"], "no Orbax checkpoint"),
        (["linear.npz"], "holds no kernels"),
        (["taps.npz"], "no convolution with more than one tap"),
        (["turned.npz"], "say --layout OIHW"),
        (["one.npz", "--reference", "none.npz"], "does not exist"),
        (["one.npz", "--reference", "few.npz"], "the reference has no layer b"),
        (["one.npz", "--reference", "bank.npz"], "not a bank"),
        (["bank.npz", "--reference", "one.npz"], "a bank has no kernels to turn"),
        (["one.npz", "--figure", "none/a.png"], "cannot be written"),
        (["one.npz", "--figure", "a.what"], "what"),
        (["one.npz", "--layout", "IOHW"], "invalid choice"),
        (["one.npz", "--verbose"], "unrecognized"),
        ([], "required: FILE"),
    ],
)
def test_bad_input_gets_one_sentence(files, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(files)
    try:
        status = command.main(arguments)
    except SystemExit as left:
        status = left.code
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_bank_that_ships_is_opened_by_its_name():
    opened, network = opening.opened("cifar10-resnets")
    assert isinstance(opened, banks.FilterBank)
    assert list(opened.kernel_sizes) == list(banks.available()["cifar10-resnets"].norms)
    assert network is None
