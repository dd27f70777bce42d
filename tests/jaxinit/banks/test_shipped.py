"""The banks that ship are what their cards say, and fill networks."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import banks
from jaxinit import layers as network_layers
from jaxinit.banks import bank_file, shipped
from jaxinit.models import registry
from tests import small

NAMES = sorted(banks.available())
# The networks whose layers the banks have, and the size of the images that these saw.
NETWORKS = {
    "cifar100-resnet18": ("resnet18", (32, 32)),
    "cifar100-resnet18-euclidean": ("resnet18", (32, 32)),
    "cifar10-resnets": ("resnet20", (32, 32)),
    "imagenet-resnet18": ("resnet18", (64, 64)),
}


def test_there_are_banks_of_our_own_and_of_public_networks():
    assert set(NAMES) == set(NETWORKS)


def test_all_of_them_are_small():
    assert sum(card.size for card in banks.available().values()) < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_everything_about_its_file(name):
    card = banks.available()[name]
    path = Path(str(shipped._folder())) / f"{name}.npz"
    assert card.name == name
    assert card.size == path.stat().st_size
    assert card.checksum == bank_file.read(path)[1]
    for field in dataclasses.fields(card):
        assert getattr(card, field.name)
        assert field.name in ("name", "title") or f"  {field.name}: " in str(card)
    assert max(map(len, str(card).split("\n"))) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_the_norms_that_layers_are_drawn_with(name):
    """Measured on kernels drawn for the sources' own network."""
    bank, card = banks.named(name), banks.available()[name]
    network = small.trace(registry.get(NETWORKS[name][0]).make(classes=10), NETWORKS[name][1])
    assert list(card.norms) == list(bank.kernel_sizes) == [
        own for own in network.names if own in card.norms
    ]  # fmt: skip
    for layer in [*card.norms][:2] + [*card.norms][-1:]:
        kernel = np.asarray(banks.draw(jax.random.key(0), bank, layer, network[layer].shape))
        met = network_layers.live_part(kernel, network[layer], network.live_taps())
        share = met[..., 0, 0].size / kernel[..., 0, 0].size
        drawn = np.sqrt((met**2).sum() / (2 * kernel.shape[2] * share))
        assert drawn == pytest.approx(card.norms[layer], rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_that_ships_fills_another_network(name):
    bank = banks.named(name)
    params = {
        "stem": {"kernel": jnp.zeros((3, 3, 1, 8))},
        "deep": {"kernel": jnp.zeros((3, 3, 8, 16))},
    }
    network = jaxinit.declare(params, ["stem", "deep"])
    made = jaxinit.clustered(bank, match="depth")(jax.random.key(0), params, network=network)
    for layer in ("stem", "deep"):
        assert np.any(made[layer]["kernel"])
        assert np.isfinite(made[layer]["kernel"]).all()


def test_a_name_that_is_not_known_is_told_the_others():
    with pytest.raises(ValueError, match=r"bank 'resnet18' is not known: choose one of ci"):
        banks.named("resnet18")


def test_a_file_that_is_not_the_cards_is_refused(tmp_path, monkeypatch):
    """Another bank under its name is as wrong as a damaged one."""
    source = Path(str(shipped._folder()))
    one, other = "cifar10-resnets", "imagenet-resnet18"
    shutil.copy(source / f"{one}.json", tmp_path)
    shutil.copy(source / f"{other}.npz", tmp_path / f"{one}.npz")
    monkeypatch.setattr(shipped, "_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="not the one that its card speaks of"):
        banks.named(one)
    content = bytearray((source / f"{one}.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / f"{one}.npz").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        banks.named(one)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_files_that_can_be_read_without_the_library(name):
    text = (Path(str(shipped._folder())) / f"{name}.json").read_text(encoding="utf-8")
    assert json.loads(text)["name"] == name
    assert text.count("\n") > 10


def test_a_card_cannot_be_changed_for_others():
    norms = banks.available()[NAMES[0]].norms
    assert isinstance(norms, dict)
    norms["conv1"] = 0.0
    assert banks.available()[NAMES[0]].norms["conv1"] > 0
