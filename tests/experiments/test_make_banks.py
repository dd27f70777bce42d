"""Banks are made of the filters that their cards speak of, from made-up weights."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from experiments import make_banks
from experiments.cli.errors import UserError
from experiments.data.sets import Data
from experiments.records import store
from experiments.runs.sources import Sources
from experiments.training.hyperparameters import Training
from jaxinit import banks
from jaxinit.models import registry, torch


def numbered(blocks):
    """A ResNet of the CIFAR form whose blocks are numbered."""
    names = ["conv1", *(f"layer{stage}_{b}" for stage in (1, 2, 3) for b in range(blocks)), "fc"]
    return {name: f"{name} of {blocks}" for name in names}


def test_blocks_of_deeper_networks_stand_for_those_of_the_same_relative_depth():
    assert len(make_banks._as_resnet20(numbered(3))) == 1
    assert len(make_banks._as_resnet20(numbered(5))) == 2
    pooled = make_banks._as_resnet20(numbered(9))
    assert len(pooled) == 4
    for stage in (1, 2, 3):
        for place, wanted in ((0, {0}), (1, {1, 2, 3, 4}), (2, {5, 6, 7, 8})):
            own = [tree[f"layer{stage}_{place}"] for tree in pooled]
            assert sorted(set(own)) == [f"layer{stage}_{block} of 9" for block in sorted(wanted)]


@pytest.fixture
def weights(tmp_path):
    """Made-up weights under the names of the published ones."""
    images = jnp.zeros((1, 32, 32, 3))
    for name in make_banks._RESNET20:
        network = registry.get(name.removeprefix("cifar10-")).make(classes=10)
        shapes = jax.eval_shape(lambda x, own=network: own.init(jax.random.key(0), x, train=False),
                                images)  # fmt: skip
        rng = np.random.default_rng(len(name))
        tree = jax.tree.map(lambda s, rng=rng: rng.standard_normal(s.shape, np.float32), shapes)
        jaxinit.save_weights(tmp_path / f"{name}.npz", torch.to_torch(tree))
    rng = np.random.default_rng(1)
    arrays = {
        "conv1.weight": rng.standard_normal((8, 3, 7, 7)).astype(np.float16),
        "layer1.0.conv1.weight": rng.standard_normal((8, 8, 3, 3)).astype(np.float16),
        "layer3.1.conv2.weight": rng.standard_normal((8, 8, 3, 3)).astype(np.float16),
    }
    arrays["conv1.weight"][0] = 0  # a dead filter
    jaxinit.save_weights(tmp_path / f"{make_banks._RESNET18}.npz", arrays)
    return tmp_path


@pytest.mark.parametrize("name", ["cifar10-resnets", "imagenet-resnet18"])
def test_a_bank_of_published_weights_is_written_beside_its_card(
    name, weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(make_banks, "_MANY", 2)
    made = tmp_path / "made"
    make_banks.main([name, "--weights-dir", str(weights), "--destination", str(made)])
    bank = banks.load(made / f"{name}.npz")
    assert f"{name}: " in capsys.readouterr().out
    assert (made / f"{name}.json").exists()
    if name == "cifar10-resnets":
        assert len(bank.kernel_sizes) == 19
        # Every slice of 1, 2 and 4 blocks; of the three networks where a stage begins.
        assert float(bank.sizes["layer2_1/conv1"].sum()) == 7 * 32 * 32
        assert float(bank.sizes["layer2_0/conv1"].sum()) == 3 * 16 * 32
    else:
        assert list(bank.kernel_sizes) == ["conv1", "layer1_0/conv1", "layer3_1/conv2"]
        assert bank.provenance.normalized
        assert float(bank.sizes["conv1"].sum()) == 7 * 3


def test_weights_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(UserError, match="--weights-dir FOLDER"):
        make_banks.write(make_banks.MakeBanks(bank="cifar10-resnets"))
    asked = make_banks.MakeBanks(bank="imagenet-resnet18", weights_dir=str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        make_banks.write(asked)


@pytest.mark.usefixtures("small_networks")
def test_a_bank_of_source_models_tells_how_well_they_did(tmp_path, monkeypatch):
    few = Data(dataset="procedural", train_images_per_class=2, test_images_per_class=1)
    monkeypatch.setattr(make_banks, "_DATA", few)
    monkeypatch.setattr(make_banks, "_TRAINING", Training(batch_size=20, network="custom"))
    monkeypatch.setattr(make_banks, "_SOURCES", Sources(sources=1, source_epochs=1))
    made, models = tmp_path / "made", tmp_path / "models"
    name = "cifar100-resnet18-euclidean"
    make_banks.main([name, "--destination", str(made), "--models-dir", str(models)])
    provenance = banks.load(made / f"{name}.npz").provenance
    assert (provenance.models, provenance.clusters) == (1, 3)
    assert provenance.sources[0].endswith("/pair-0-9")
    (folder,) = models.iterdir()
    (record,) = store.read_all(folder)
    # Of another model in the folder, which the bank is not made of, the card does not speak.
    curves = {name: [100.0] for name in record.curves}
    store.write(dataclasses.replace(record, task="pair-1-2", curves=curves), folder)
    asked = make_banks.MakeBanks(name, destination=str(made), models_dir=str(models))
    _, card = make_banks.write(asked)
    accuracy = record.curves["val_acc_top1"][-1]
    said = json.loads(card.read_text())["accuracy"]
    assert said.startswith(f"{accuracy:.1f} % on average, {accuracy:.1f} to {accuracy:.1f} %")
