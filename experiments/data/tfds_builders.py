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
from experiments.data import unpacking
from experiments.data.unpacking import Archive
from experiments.records import locks

_SCRATCH = ".unpacked-"
CIFAR100 = Archive.of_tfds(cifar.Cifar100.url_infos)
# The size and the checksum that projects which use it have published.
TINY_IMAGENET = Archive(
    "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    248_100_043,
    "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
)

Example = tuple[str, dict[str, Any]]

_CIFAR_RECORD = 2 + 3 * 32 * 32  # coarse label, fine label, then red, green and blue rows


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


def _find(folder: Path, name: str) -> Path:
    """Finds a file or folder below the place where an archive was unpacked."""
    found = sorted(path for path in Path(folder).rglob(name) if "__MACOSX" not in path.parts)
    if not found:
        raise FileNotFoundError(f"there is no {name} in {folder}")
    return found[0]


def _text(file: Path) -> str:
    """The text of a file, without the mark that some editors begin it with."""
    return file.read_text(encoding="utf-8-sig")


# TFDS's own builder has the name already; this one only stands in for it while preparing.
with registered.skip_registration():

    class Cifar100(cifar.Cifar100):
        """TFDS's `cifar100`, prepared without TensorFlow from the official binary archive."""

        name = "cifar100"
        url_infos = cifar.Cifar100.url_infos  # sizes and checksums of downloads
        archive = CIFAR100
        unpacked: Path | None = None  # the archive's content; downloaded where None
        scratch: Path  # where to unpack it

        # Without the `pipeline` of the parent's signature: TFDS takes that as a wish for Beam.
        def _split_generators(self, dl_manager: Any) -> Any:
            folder = _content(self, dl_manager)
            features: Any = self.info.features
            for key, file in zip(
                self._cifar_info.label_keys, self._cifar_info.label_files, strict=True
            ):
                features[key].names = _text(_find(folder, file)).split()
            return {
                split: self._generate_examples(f"{split}_", _find(folder, f"{split}.bin"))
                for split in ("train", "test")
            }

        def _generate_examples(  # pyrefly: ignore[bad-override-param-name]
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
        url_infos = TINY_IMAGENET.known_to_tfds()
        archive = TINY_IMAGENET
        unpacked: Path | None = None  # the archive's content; downloaded where None
        scratch: Path  # where to unpack it

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
            root = _find(_content(self, dl_manager), "wnids.txt").parent
            wnids = sorted(_text(root / "wnids.txt").split())
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
            names: set[str] = set()
            for path, label in files:
                if path.name in names:  # for which TFDS would need TensorFlow, to say so
                    raise ValueError(f"{path} has the name of another image")
                names.add(path.name)
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


def _check_kind(builder: Any) -> None:
    other = "cifar-100-python"
    folder = builder.unpacked
    if builder.name == "cifar100" and folder is not None:
        names = {folder.resolve().name, *(path.name for path in folder.rglob(f"{other}*"))}
        if any(name.startswith(other) for name in names) and not any(folder.rglob("train.bin")):
            raise UserError(
                f"{folder if builder.scratch != folder else 'the archive'} holds CIFAR-100 for "
                f"Python's pickle: {CIFAR100.name} is needed, from {CIFAR100.url}"
            )


def _content(builder: Any, dl_manager: Any) -> Path:
    """The folder of an archive's content; downloaded, checked by TFDS and unpacked if need be."""
    if builder.unpacked is None:
        # Asked first, as without a network TFDS tries for minutes.
        requests.head(builder.archive.url, timeout=20, allow_redirects=True)
        unpacking.unpack(
            Path(dl_manager.download(builder.archive.url)), builder.scratch, builder.archive
        )
        return builder.scratch
    return builder.unpacked


def _training_files(root: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    return [
        (path, label)
        for wnid, label in labels.items()
        for path in _images(root / "train" / wnid / "images")
    ]


def _images(folder: Path) -> list[Path]:
    """The images of a class, but for the files that macOS puts beside them."""
    files = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    if other := next((path for path in files if path.suffix != ".JPEG"), None):
        raise ValueError(f"{other} does not end in .JPEG, as the official archive's images do")
    if not files:
        raise ValueError(f"there are no images in {folder}")
    return files


def _validation_files(root: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    file, found = root / "val" / "val_annotations.txt", {}
    for number, row in enumerate(_text(file).splitlines(), 1):
        name, _, rest = row.partition("\t")
        wnid = rest.partition("\t")[0]
        if not row:
            continue
        if wnid not in labels or name != Path(name).name:
            raise ValueError(f"line {number} of {file} is no image and its class: {row[:80]!r}")
        if name in found:
            raise ValueError(f"{file} names {name} twice")
        found[name] = (root / "val" / "images" / name, labels[wnid])
    return list(found.values())


def builder(name: str, data_dir: Path) -> Any:
    """Returns the builder that prepares a data set.

    Args:
        name: "cifar100" or "tiny_imagenet".
        data_dir: TFDS's data folder.
    """
    kind = {"cifar100": Cifar100, "tiny_imagenet": TinyImagenet}[name]
    return kind(data_dir=str(data_dir), file_format="array_record")


def prepare(name: str, folder: Path, archive: Path | None = None) -> None:
    """Downloads a data set, or takes a local archive, and prepares it for TFDS.

    What a killed preparation has left in the folder is removed.

    Args:
        name: "cifar100" or "tiny_imagenet".
        folder: TFDS's data folder; of several processes one at a time prepares in it.
        archive: The official archive or the folder it was unpacked in; downloaded where None.

    Raises:
        UserError: No network, a damaged archive or another one, a folder that cannot be written to.
    """
    if archive is not None and not archive.exists():
        raise UserError(f"there is no archive {archive}: give the path of the official archive")
    with locks.held(folder / "preparation"):
        made = builder(name, folder)
        if made.data_path.exists():  # another process has prepared it in the meantime
            return
        for left in (*folder.glob(f"{_SCRATCH}*"), *made.data_path.parent.glob("incomplete.*")):
            shutil.rmtree(left, ignore_errors=True)
        try:
            # Unpacked in the same place, as it is large.
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
                made.unpacked, made.scratch = archive, Path(scratch)
                if archive is not None and archive.is_file():
                    unpacking.unpack(archive, made.scratch, made.archive)
                    made.unpacked = made.scratch
                _check_kind(made)
                made.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
        except UserError:
            raise
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
