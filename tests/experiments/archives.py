"""Small archives in the official layouts of CIFAR-100 and Tiny ImageNet, made up for the tests."""

import io
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Rows(NamedTuple):
    """What a made-up CIFAR-100 split holds, in its order."""

    images: np.ndarray  # (n, 32, 32, 3)
    coarse: np.ndarray
    fine: np.ndarray


def cifar100_rows(per_class: int, seed: int) -> Rows:
    """Random images in shuffled order; five neighbouring classes share a superclass."""
    rng = np.random.default_rng(seed)
    fine = rng.permutation(np.repeat(np.arange(100), per_class))
    return Rows(rng.integers(0, 256, (len(fine), 32, 32, 3), np.uint8), fine // 5, fine)


def cifar100_files(train: Rows, test: Rows) -> dict[str, bytes]:
    """The files of the official binary archive."""
    files = {
        "fine_label_names.txt": "".join(f"fine{n}\n" for n in range(100)).encode(),
        "coarse_label_names.txt": "".join(f"coarse{n}\n" for n in range(20)).encode(),
    }
    for name, rows in (("train.bin", train), ("test.bin", test)):
        planes = rows.images.transpose(0, 3, 1, 2).reshape(len(rows.fine), -1)
        labels = np.stack([rows.coarse, rows.fine], axis=1).astype(np.uint8)
        files[name] = np.concatenate([labels, planes], axis=1).tobytes()
    return files


def write_tar(path: Path, files: dict[str, bytes], folder: str = "cifar-100-binary/") -> Path:
    """Packs files as a .tar.gz."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


WNIDS = [f"n{7 * number:08d}" for number in range(200)]  # sorted


def tiny_imagenet_pixel(label: int, number: int) -> tuple[int, int, int]:
    """The one colour of a made-up image; grey where `number` is 1."""
    return (label, label, label) if number == 1 else (label, 20 * number, 255 - label)


def write_tiny_imagenet(folder: Path, train_per_class: int = 12) -> Path:
    """Writes the official layout, with one validation image a class, in descending classes."""
    root = folder / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    rows = []
    for label, wnid in enumerate(WNIDS):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        for number in range(train_per_class):
            _write_jpeg(images / f"{wnid}_{number}.JPEG", label, number)
        name = f"val_{199 - label}.JPEG"
        _write_jpeg(root / "val" / "images" / name, label, 2)
        rows.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    (root / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
    (root / "words.txt").write_text("".join(f"{wnid}\tword\n" for wnid in WNIDS))
    return root


def _write_jpeg(path: Path, label: int, number: int) -> None:
    mode, colour = "RGB", tiny_imagenet_pixel(label, number)
    image = Image.new(mode, (64, 64), colour)
    if number == 1:
        image = image.convert("L")
    image.save(path, quality=95, subsampling=0)
