"""Builders that prepare CIFAR-100 and Tiny ImageNet for TFDS without TensorFlow.

TFDS reads prepared data without TensorFlow, but its own `cifar100` needs it to prepare: its reader
and its image encoder are TensorFlow's. Here the official archives are read with NumPy and Pillow,
and images are handed over already encoded. The result lies where TFDS's own would,
`<data_dir>/<name>/<version>`, and is read by TFDS as any other.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered
from tensorflow_datasets.image_classification import cifar

from experiments.cli.errors import UserError, first_line

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
        url_infos = cifar.Cifar100.url_infos  # sizes and checksums of downloads
        unpacked: Path | None = None  # the archive's content; downloaded where None

        # Without the `pipeline` of the parent's signature: TFDS takes that as a wish for Beam.
        def _split_generators(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, dl_manager: Any
        ) -> Any:
            folder = self.unpacked or _download(dl_manager, self._cifar_info.url)
            features: Any = self.info.features
            for key, file in zip(
                self._cifar_info.label_keys, self._cifar_info.label_files, strict=True
            ):
                features[key].names = _find(folder, file).read_text().split()
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
            records = data.reshape(-1, _CIFAR_RECORD)
            if records[:, 0].max() >= 20 or records[:, 1].max() >= 100:
                raise ValueError(f"{filepath} is damaged: it has labels that CIFAR-100 has not")
            for number, record in enumerate(records):
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
        unpacked: Path | None = None  # the archive's content; downloaded where None

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
            folder = self.unpacked or _download(dl_manager, self.URL)
            root = _find(folder, "wnids.txt").parent
            wnids = sorted((root / "wnids.txt").read_text().split())
            if len(set(wnids)) != 200:
                raise ValueError(f"{root / 'wnids.txt'} names {len(set(wnids))} classes, not 200")
            features: Any = self.info.features
            features["label"].names = wnids
            labels = {wnid: label for label, wnid in enumerate(wnids)}
            return {
                "train": self._generate_examples(_training_files(root, labels)),
                "validation": self._generate_examples(_validation_files(root, labels)),
            }

        def _generate_examples(self, files: list[tuple[Path, int]]) -> Iterator[Example]:
            for path, label in files:
                example = {"id": _padded(path.stem), "image": _encoded(path), "label": label}
                yield path.name, example


def _encoded(path: Path) -> bytes:
    """Returns a JPEG file as it is, or as PNG where it is grey, as about one in fifty are."""
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            colour = image.convert("RGB")  # decodes it, so that damage is found here
    except OSError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if colour.size != (64, 64):
        raise ValueError(f"{path} is {colour.size[0]}×{colour.size[1]}, not 64×64")
    return data if image.mode == "RGB" else _png(colour)


def _padded(stem: str) -> str:
    """Pads an image's number, so that the ids sort as the numbers do: `val_00012`."""
    name, _, number = stem.rpartition("_")
    return f"{name}_{int(number):05d}"


def _download(dl_manager: Any, url: str) -> Path:
    # Asked first, as without a network TFDS tries for minutes.
    requests.head(url, timeout=20, allow_redirects=True)
    return Path(dl_manager.download_and_extract(url))


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


def builder(name: str, data_dir: Path, unpacked: Path | None = None) -> Any:
    """Returns the builder that prepares a data set.

    Args:
        name: "cifar100" or "tiny_imagenet".
        data_dir: TFDS's data folder.
        unpacked: The folder that the official archive was unpacked in; downloaded where None.
    """
    kind = {"cifar100": Cifar100, "tiny_imagenet": TinyImagenet}[name]
    made = kind(data_dir=str(data_dir), file_format="array_record")
    made.unpacked = unpacked
    return made


def prepare(name: str, folder: Path, archive: Path | None = None) -> None:
    """Downloads a data set, or takes a local archive, and prepares it for TFDS.

    Args:
        name: "cifar100" or "tiny_imagenet".
        folder: TFDS's data folder.
        archive: The official archive or the folder it was unpacked in; downloaded where None.

    Raises:
        UserError: No network, a damaged archive, a folder that cannot be written to.
    """
    if archive is not None and not archive.exists():
        raise UserError(f"there is no archive {archive}: give the path of the official archive")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Unpacked in the same place, as it is large.
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=folder) as scratch:
            unpacked = archive
            if archive is not None and archive.is_file():
                shutil.unpack_archive(archive, scratch, **_safely(archive))
                unpacked = Path(scratch)
            builder(name, folder, unpacked).download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except Exception as error:  # TFDS raises whatever its parts raise
        source, remedy = (
            ("the network", "download the archive elsewhere and give it as --archive")
            if archive is None
            else (str(archive), "check that it is the official archive")
        )
        raise UserError(
            f"{name} could not be prepared in {folder} from {source} "
            f"({first_line(error)}): check that the folder can be written to, and "
            f"{remedy}"
        ) from error


def _safely(archive: Path) -> dict[str, Any]:
    """Has tar archives unpacked without links or paths that lead elsewhere; zip files have none."""
    return {} if archive.suffix == ".zip" else {"filter": "data"}
