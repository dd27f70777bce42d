"""Fits the banks that ship with the library, and writes each beside its card.

    python -m experiments.make_banks cifar100-resnet18 --data-dir FOLDER
    python -m experiments.make_banks cifar10-resnets --weights-dir FOLDER

Source models that are missing are trained; published weights are read from `.npz` files.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

import jaxinit
from experiments.cli import processes
from experiments.cli.errors import UserError, exit_status
from experiments.cli.options import PathText, Settings, one_of, parse_one
from experiments.data import sets, tasks
from experiments.data.sets import Data
from experiments.records import files, store
from experiments.runs import protocol
from experiments.runs.sources import SourceModels, Sources
from experiments.study.bank_cache import MEMBERS
from experiments.training import networks
from experiments.training.hyperparameters import Training
from jaxinit import banks, layers
from jaxinit.banks import bank_file
from jaxinit.layers import Network
from jaxinit.models import torch

_SEED = 0
_MANY = 64  # clusters of a layer where each is one averaged filter
_RESNET20 = "cifar10-resnet20", "cifar10-resnet32", "cifar10-resnet56"
_RESNET18 = "imagenet-resnet18-13-convolutions"


class Fitted(NamedTuple):
    """A bank, the network whose layers it has, and how well its sources did."""

    bank: banks.FilterBank
    network: Network
    accuracy: str


def _cifar100(asked: "MakeBanks", **options: Any) -> Fitted:
    dataset = sets.load_data(dataclasses.replace(_DATA, data_dir=asked.data_dir))
    wanted = dataclasses.replace(_SOURCES, models_dir=asked.models_dir)
    models = SourceModels(dataset, _TRAINING, wanted)
    sources = models.load()
    form = networks.make_network(
        tasks.pair_task(dataset, protocol.source_pairs(1)[0]).classes, _TRAINING
    )
    network = networks.trace(form, dataset.train_images.shape[1:])
    bank = banks.fit(
        jax.random.key(_SEED),
        [source.stored_params() for source in sources],
        clusters=3,
        live=network.live_taps(),
        network=network,
        sources=models.names(),
        **options,
    )
    own = {name.rpartition("/")[2] for name in models.names()}
    records = [record for record in store.read_all(models.folder) if record.task in own]
    last = np.array([record.curves["val_acc_top1"][-1] for record in records], np.float64)
    return Fitted(
        bank,
        network,
        f"{last.mean():.1f} % on average, {last.min():.1f} to {last.max():.1f} %, on the "
        "validation images of ten classes each",
    )


def _cifar10(asked: "MakeBanks") -> Fitted:
    """The blocks of three depths, pooled into the layers of the shallowest.

    The first block of a stage, which alone sees the stage's input, stays the first; block b > 0 of
    n stands for block ⌈(b / (n − 1))·2⌉ of three.
    """
    trees = [torch.from_torch(_weights(asked, name))["params"] for name in _RESNET20]
    network = layers.of(trees[0])
    first = tuple(n for n in network.names if "_0/" in n or "/" not in n)
    rest = tuple(name for name in network.names if name not in first)
    pooled = [model for tree in trees for model in _as_resnet20(tree)]
    options: dict[str, Any] = {"clusters": _MANY, "network": network, "sources": _RESNET20}
    shallow = banks.fit(jax.random.key(_SEED), trees, layers=first, **options)
    deep = banks.fit(jax.random.key(_SEED), pooled, layers=rest, **options)
    merged: dict[str, Any] = {
        field: {
            name: getattr(shallow if name in first else deep, field)[name] for name in network.names
        }
        for field in ("filters", "sizes", "inertia", "kernel_sizes")
    }
    sizes = type(shallow.kernel_sizes)(merged.pop("kernel_sizes"))
    bank = dataclasses.replace(shallow, kernel_sizes=sizes, **merged)
    return Fitted(
        bank, network, "91.8, 92.8 and 93.6 % on the test images, as recorded with the weights"
    )


def _as_resnet20(tree: Any) -> list[Any]:
    """The trees of ResNet-20 that the blocks of a deeper one make."""
    blocks = sum(name.startswith("layer1_") for name in tree)
    each = (blocks - 1) // 2
    return [
        {
            name: tree[name if name.endswith("_0") or "_" not in name else _deeper(name, each, own)]
            for name in ("conv1", *(f"layer{s}_{b}" for s in (1, 2, 3) for b in (0, 1, 2)))
        }
        for own in range(each)
    ]


def _deeper(name: str, each: int, own: int) -> str:
    stage, block = name.split("_")
    return f"{stage}_{1 + (int(block) - 1) * each + own}"


def _imagenet(asked: "MakeBanks") -> Fitted:
    tree: dict[str, Any] = {}
    for name, array in _weights(asked, _RESNET18).items():
        parts = name.removesuffix(".weight").replace(".", "_", name.count(".") - 2).split(".")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node["kernel"] = array.transpose((2, 3, 1, 0))
    network = layers.of(tree)
    bank = banks.fit(
        jax.random.key(_SEED),
        tree,
        clusters=_MANY,
        network=network,
        normalize=True,
        sources=[_RESNET18],
    )
    return Fitted(bank, network, "69.8 % on ImageNet's validation images, as torchvision says")


def _weights(asked: "MakeBanks", name: str) -> dict[str, Any]:
    if asked.weights_dir is None:
        raise UserError(f"say where {name}.npz is: --weights-dir FOLDER")
    try:
        return jaxinit.open_weights(Path(asked.weights_dir) / f"{name}.npz")
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error


# What source models are of, and what cards say of them.
_DATA = Data(dataset="cifar100")
_TRAINING = Training()
_SOURCES = Sources(sources=45, source_epochs=15, source_schedule="published")
_OURS = {
    "networks": "45 ResNet-18s for images of 32×32, one for each pair of the superclasses 0 to 9, "
    "trained with SGD for 15 epochs at the published learning rates (results/cifar100-all-sources)",
    "data": "CIFAR-100 (Krizhevsky 2009): 10 of its 100 classes a network, 500 images a class",
    "licence": "Apache-2.0, as the library",
    "attribution": "The method is that of Ulm, Bayer, Diaz-Bone and Jüni, Learning an Informed CNN "
    "Initialization for Image Classification, ETH Zürich, 2023",
}
_DEAD = (
    "Taps that only ever meet padding at 32×32 are zero: five of nine in the first layer of stage "
    "4, all but the centre in its others, so on larger images start that stage otherwise. Evaluate "
    "on none of the superclasses 0 to 9."
)
_TEXTS: dict[str, dict[str, str]] = {
    "cifar100-resnet18": {
        **_OURS,
        "title": "Fourier clusters of small ResNet-18s",
        "method": f"3 Fourier clusters a layer, each drawn as one of {MEMBERS} of its members",
        "remarks": _DEAD,
    },
    "cifar100-resnet18-euclidean": {
        **_OURS,
        "title": "Euclidean clusters of small ResNet-18s, as in the paper",
        "method": "3 Euclidean clusters a layer, each drawn as its centroid",
        "remarks": "Centroids are short: see norms, and at_norms_of. " + _DEAD,
    },
    "cifar10-resnets": {
        "title": "clusters of three ResNets for CIFAR-10",
        "networks": "ResNet-20, -32 and -56 in their CIFAR form, from "
        "akamaster/pytorch_resnet_cifar10 on GitHub; the blocks of the deeper ones are pooled into "
        "those of ResNet-20",
        "data": "CIFAR-10 (Krizhevsky 2009)",
        "method": f"{_MANY} Euclidean clusters a layer, each drawn as its centroid",
        "licence": "The networks are under BSD-2-Clause; the clusters under Apache-2.0, as the "
        "library",
        "attribution": "© 2018 Yerlan Idelbayev, for the networks",
        "remarks": "All layers are 3×3. Evaluate on other data than CIFAR-10, or say so.",
    },
    "imagenet-resnet18": {
        "title": "clusters of an ImageNet ResNet-18 without its last stage",
        "networks": "torchvision's ResNet-18 (IMAGENET1K_V1), the stem and the twelve 3×3 "
        "convolutions of stages 1 to 3, in the copy of shiyegao/CudaResnet18 on GitHub",
        "data": "ImageNet (ILSVRC 2012), 1,000 classes",
        "method": f"{_MANY} Euclidean clusters a layer, each drawn as its centroid",
        "licence": "torchvision is under BSD-3-Clause, the copy's repository names no licence; the "
        "clusters are under Apache-2.0, as the library",
        "attribution": "the torchvision contributors, for the network",
        "remarks": "Batch norm was folded into the weights, so every output channel's filter was "
        "brought to the default's norm, and dead filters were left out, before clustering: norms "
        "are not those of the network. There is no stage "
        "4: fill that by match='depth'. ImageNet's classes overlap with those of most sets of "
        "photographs: as a start for these it is a ceiling, not a fair competitor.",
    },
}

_FITS: dict[str, Callable[["MakeBanks"], Fitted]] = {
    "cifar100-resnet18": lambda asked: _cifar100(
        asked, distance="fourier", representative="member", members_per_cluster=MEMBERS
    ),
    "cifar100-resnet18-euclidean": _cifar100,
    "cifar10-resnets": _cifar10,
    "imagenet-resnet18": _imagenet,
}


@dataclasses.dataclass(frozen=True)
class MakeBanks(Settings):
    """Which bank, of what, and where it goes."""

    # the bank to make
    bank: tyro.conf.Positional[Annotated[str, one_of(tuple(_FITS))]]
    # folder of published weights, for banks of networks that were trained elsewhere
    weights_dir: PathText | None = None
    # folder of the bank and its card
    destination: PathText = "jaxinit/banks/data"
    # folder of the prepared data sets, for source models (TFDS's own setting where not given)
    data_dir: PathText | None = None
    # folder of the source models' checkpoints
    models_dir: PathText = Sources.models_dir


def write(asked: MakeBanks) -> list[Path]:
    """Fits a bank, and writes it and its card.

    Raises:
        UserError: Weights that are missing or damaged, or a folder that cannot be written to.
    """
    fitted = _FITS[asked.bank](asked)
    folder = Path(asked.destination)
    path = folder / f"{asked.bank}.npz"
    with files.writing_to(path):
        folder.mkdir(parents=True, exist_ok=True)
        banks.save(fitted.bank, path)
    where = "--weights-dir" if asked.weights_dir is not None else "--data-dir"
    card = banks.Card(
        name=asked.bank,
        accuracy=fitted.accuracy,
        command=f"python -m experiments.make_banks {asked.bank} {where} FOLDER",
        norms={
            row.name: round(row.relative_norm or 0, 3)
            for row in jaxinit.examine(fitted.bank, network=fitted.network).rows
        },
        size=path.stat().st_size,
        checksum=bank_file.read(path)[1],
        **_TEXTS[asked.bank],
    )
    print(card)
    text = json.dumps(dataclasses.asdict(card), indent=1, ensure_ascii=False) + "\n"
    with files.writing_to(path):
        return [path, files.write_text(text, path.with_suffix(".json"))]


def main(argv: Sequence[str] | None = None) -> None:
    """Makes a bank, and says what was written."""
    with exit_status():
        asked = parse_one(
            MakeBanks, argv, program="python -m experiments.make_banks", about=__doc__
        )
        processes.setup_jax()
        for path in write(asked):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
