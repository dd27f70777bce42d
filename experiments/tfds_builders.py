"""Builders that prepare CIFAR-100 and Tiny ImageNet for TFDS without TensorFlow.

TFDS reads prepared data without TensorFlow, but its own `cifar100` needs it to prepare: its reader
and its image encoder are TensorFlow's. Here the official archives are read with NumPy and Pillow,
and images are handed over already encoded. The result lies where TFDS's own would,
`<data_dir>/<name>/<version>`, and is read by TFDS as any other.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered
from tensorflow_datasets.image_classification import cifar

Example = tuple[str, dict[str, Any]]

_CIFAR_RECORD = 2 + 3 * 32 * 32  # coarse label, fine label, then red, green and blue rows


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


def _find(folder: Path, name: str) -> Path:
    """Finds a file or folder below the place where an archive was unpacked."""
    found = sorted(Path(folder).rglob(name))
    if not found:
        raise FileNotFoundError(f"there is no {name} in {folder}")
    return found[0]


# TFDS's own builder has the name already; this one only stands in for it while preparing.
with registered.skip_registration():

    class Cifar100(cifar.Cifar100):
        """TFDS's `cifar100`, prepared without TensorFlow from the official binary archive."""

        name = "cifar100"
        archive: Path | None = None  # a local copy of the archive, packed or not

        def _split_generators(self, dl_manager: Any, pipeline: Any = None) -> Any:
            folder = _unpack(dl_manager, self._cifar_info.url, self.archive)
            for key, file in zip(
                self._cifar_info.label_keys, self._cifar_info.label_files, strict=True
            ):
                self.info.features[key].names = _find(folder, file).read_text().split()
            return {
                split: self._generate_examples(f"{split}_", _find(folder, f"{split}.bin"))
                for split in ("train", "test")
            }

        def _generate_examples(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, split_prefix: str, filepath: Path
        ) -> Iterator[Example]:
            data = np.fromfile(filepath, np.uint8)
            if not data.size or data.size % _CIFAR_RECORD:
                raise ValueError(f"{filepath} is damaged: its size is no multiple of a record's")
            for number, record in enumerate(data.reshape(-1, _CIFAR_RECORD)):
                pixels = record[2:].reshape(3, 32, 32).transpose(1, 2, 0)
                # Keys as in TFDS's own builder: the order on disk follows from them.
                yield (
                    f"{split_prefix}{number}",
                    {
                        "id": f"{split_prefix}{number:05d}",
                        "image": _png(Image.fromarray(pixels)),
                        "coarse_label": int(record[0]),
                        "label": int(record[1]),
                    },
                )

    class TinyImagenet(tfds.core.GeneratorBasedBuilder):
        """Tiny ImageNet from the official archive's layout; labels are the sorted wnids."""

        name = "tiny_imagenet"
        VERSION = tfds.core.Version("1.0.0")
        URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        archive: Path | None = None  # a local copy of the archive, packed or not

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description="200 classes of ImageNet at 64×64: 500 training and 50 validation "
                "images each.",
                features=tfds.features.FeaturesDict({
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(64, 64, 3)),
                    "label": tfds.features.ClassLabel(num_classes=200),
                }),
                supervised_keys=("image", "label"),
                homepage="http://cs231n.stanford.edu/",
            )  # fmt: skip

        def _split_generators(self, dl_manager: Any) -> Any:
            folder = _unpack(dl_manager, self.URL, self.archive)
            root = _find(folder, "wnids.txt").parent
            wnids = sorted((root / "wnids.txt").read_text().split())
            self.info.features["label"].names = wnids
            labels = {wnid: label for label, wnid in enumerate(wnids)}
            return {
                "train": self._generate_examples(_training_files(root, labels)),
                "validation": self._generate_examples(_validation_files(root, labels)),
            }

        def _generate_examples(self, files: list[tuple[Path, int]]) -> Iterator[Example]:
            for path, label in files:
                data = path.read_bytes()
                with Image.open(io.BytesIO(data)) as image:
                    if image.mode != "RGB":  # about one in fifty is grey
                        data = _png(image.convert("RGB"))
                yield path.name, {"id": path.stem, "image": data, "label": label}


def _unpack(dl_manager: Any, url: str, archive: Path | None) -> Path:
    if archive is None:
        return Path(dl_manager.download_and_extract(url))
    return archive if archive.is_dir() else Path(dl_manager.extract(archive))


def _training_files(root: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    return [
        (path, label)
        for wnid, label in labels.items()
        for path in sorted((root / "train" / wnid / "images").glob("*.JPEG"))
    ]


def _validation_files(root: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    rows = (root / "val" / "val_annotations.txt").read_text().splitlines()
    pairs = [row.split("\t")[:2] for row in rows if row]
    return [(root / "val" / "images" / name, labels[wnid]) for name, wnid in pairs]


def builder(name: str, data_dir: Path, archive: Path | None = None) -> Any:
    """Returns the builder that prepares a data set.

    Args:
        name: "cifar100" or "tiny_imagenet".
        data_dir: TFDS's data folder.
        archive: The official archive, or the folder it was unpacked in; downloaded where not given.
    """
    kind = {"cifar100": Cifar100, "tiny_imagenet": TinyImagenet}[name]
    made = kind(data_dir=str(data_dir), file_format="array_record")
    made.archive = archive
    return made
