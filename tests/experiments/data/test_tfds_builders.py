import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import requests
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data import stored, tfds_builders
from tests.experiments import archives

tfds = stored.quiet_tfds()
ROWS = archives.cifar100_rows(2, 0), archives.cifar100_rows(1, 1)


@pytest.fixture(scope="module")
def cifar100_archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "cifar-100-binary.tar.gz"
    return archives.write_tar(path, archives.cifar100_files(*ROWS))


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory):
    return archives.write_tiny_imagenet(tmp_path_factory.mktemp("tiny"))


def check_cifar100(folder):
    """Reads with TFDS's own builder and compares with what the archive was made of."""
    builder = tfds.builder("cifar100", data_dir=str(folder), file_format="array_record")
    assert builder.info.features["label"].int2str(7) == "fine7"
    assert builder.info.features["coarse_label"].int2str(7) == "coarse7"
    for name, rows in zip(("train", "test"), ROWS, strict=True):
        split = stored.read_split(builder, name)
        np.testing.assert_array_equal(split.images, rows.images)
        np.testing.assert_array_equal(split.labels, rows.fine)
        np.testing.assert_array_equal(split.coarse, rows.coarse)
        stored.check_ids(split.ids, name)


def test_cifar100_is_read_by_tfdss_own_builder(cifar100_archive, tmp_path):
    tfds_builders.prepare("cifar100", tmp_path, cifar100_archive)
    check_cifar100(tmp_path)
    assert (tmp_path / "cifar100" / "3.0.2" / "dataset_info.json").exists()
    assert not list(tmp_path.glob(".unpacked-*"))


def test_cifar100_from_an_unpacked_folder(cifar100_archive, tmp_path):
    shutil.unpack_archive(cifar100_archive, tmp_path / "there", filter="data")
    tfds_builders.prepare("cifar100", tmp_path, tmp_path / "there")
    check_cifar100(tmp_path)


def test_cifar100_downloaded(cifar100_archive, tmp_path, monkeypatch):
    asked = []

    def download(self, url):
        asked.append(url)
        return cifar100_archive

    monkeypatch.setattr(requests, "head", lambda url, **options: asked.append(url))
    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    tfds_builders.prepare("cifar100", tmp_path)
    check_cifar100(tmp_path)
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar100", "downloads"]


def test_what_a_killed_preparation_left_is_removed(cifar100_archive, tmp_path):
    left = [tmp_path / ".unpacked-abc", tmp_path / "cifar100" / "incomplete.ABC_3.0.2"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").touch()
    tfds_builders.prepare("cifar100", tmp_path, cifar100_archive)
    check_cifar100(tmp_path)
    assert [path for path in left if path.exists()] == []


def test_what_another_process_has_prepared_is_left_as_it_is(tmp_path):
    (tmp_path / "cifar100" / "3.0.2").mkdir(parents=True)
    (tmp_path / "archive").mkdir()
    tfds_builders.prepare("cifar100", tmp_path, tmp_path / "archive")  # which is empty


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_the_archive_of_pickles_is_told_apart(form, tmp_path):
    files = {name: b"" for name in ("meta", "train", "test")}  # noqa: C420
    archive = archives.write_tar(tmp_path / "a.tar.gz", files, "cifar-100-python/")
    if form == "folder":
        shutil.unpack_archive(archive, tmp_path / "there", filter="data")
        archive = tmp_path / "there" / "cifar-100-python"
    with pytest.raises(UserError, match=r"pickle: cifar-100-binary\.tar\.gz is needed, from http"):
        tfds_builders.prepare("cifar100", tmp_path / "data", archive)


def test_cifar100_checksum_is_known():
    assert tfds_builders.Cifar100.url_infos is not None
    (info,) = tfds_builders.Cifar100.url_infos.values()
    assert info.checksum == tfds_builders.CIFAR100.sha256
    assert info.checksum.startswith("58a81ae192c23a4b")


def test_tiny_imagenets_checksum_is_what_tfds_compares_with():
    assert tfds_builders.TinyImagenet.url_infos is not None
    ((url, info),) = tfds_builders.TinyImagenet.url_infos.items()
    assert url == "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
    assert (info.size, info.checksum[:8]) == (248_100_043, "6198c8ae")


def test_cifar100_has_tfdss_own_name_version_and_features(tmp_path):
    own = tfds.builder("cifar100", data_dir=str(tmp_path), file_format="array_record")
    ours = tfds_builders.builder("cifar100", tmp_path)
    assert ours.data_dir == own.data_dir
    assert ours.info.full_name == own.info.full_name == "cifar100/3.0.2"
    assert json.dumps(ours.info.features.to_json()) == json.dumps(own.info.features.to_json())


def without(name):
    return {k: v for k, v in archives.cifar100_files(*ROWS).items() if k != name}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (without("test.bin"), "there is no test.bin in"),
        (without("fine_label_names.txt"), "there is no fine_label_names.txt in"),
        (without("train.bin") | {"train.bin": bytes(3073)}, "is no multiple of a record's"),
        (
            without("train.bin") | {"train.bin": b"\x00\xff" + bytes(3072)},
            "labels that CIFAR-100 has not",
        ),
        (without("test.bin") | {"../../outside": b""}, "outside the destination"),
    ],
)
def test_archives_that_are_not_cifar100(files, match, tmp_path):
    archive = archives.write_tar(tmp_path / "a.tar.gz", files)
    with pytest.raises(UserError, match=match) as caught:
        tfds_builders.prepare("cifar100", tmp_path / "data", archive)
    assert str(caught.value).endswith("check that it is the official archive")
    assert not list((tmp_path / "data").glob("cifar100/3.0.2"))
    assert not list((tmp_path / "data").glob(".unpacked-*"))


def test_archives_that_are_damaged_or_missing(cifar100_archive, tmp_path):
    half = tmp_path / "cifar-100-binary.tar.gz"
    half.write_bytes(cifar100_archive.read_bytes()[:50_000])
    with pytest.raises(UserError, match=r"could not be prepared in .* from .*binary\.tar\.gz"):
        tfds_builders.prepare("cifar100", tmp_path, half)
    with pytest.raises(UserError, match=r"there is no archive .*nothing\.zip: give the path"):
        tfds_builders.prepare("cifar100", tmp_path, tmp_path / "nothing.zip")


def test_folder_that_cannot_be_made(cifar100_archive, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to the output folder"):
        tfds_builders.prepare("cifar100", tmp_path / "file", cifar100_archive)


def zipped(root, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in root.rglob("*"):
            archive.write(file, file.relative_to(root.parent))
    return path


def touched(root, copy):
    """A copy with what Finder leaves in it, and a mark that Windows' editors put first."""
    shutil.copytree(root, copy)
    (copy / "wnids.txt").write_bytes(b"\xef\xbb\xbf" + (root / "wnids.txt").read_bytes())
    images = copy / "train" / archives.WNIDS[0] / "images"
    for name in ("._n00000000_0.JPEG", ".DS_Store"):
        (images / name).write_bytes(b"Mac OS X")
    return copy


@pytest.mark.parametrize("form", ["folder", "parent", "zip", "by macOS"])
def test_tiny_imagenet_from_the_official_layout(tiny_root, tmp_path, form):
    archive = {
        "folder": lambda: tiny_root,
        "parent": lambda: tiny_root.parent,
        "by macOS": lambda: touched(tiny_root, tmp_path / "copy"),
        "zip": lambda: zipped(tiny_root, tmp_path / "tiny-imagenet-200.zip"),
    }[form]()
    tfds_builders.prepare("tiny_imagenet", tmp_path, archive)
    builder = tfds.builder_from_directory(str(tmp_path / "tiny_imagenet" / "1.0.0"))
    assert builder.info.features["label"].names == archives.WNIDS
    train = stored.read_split(builder, "train")
    # By class, then by the number in the file's name: 2 comes before 10.
    assert train.labels.tolist() == np.repeat(np.arange(200), 12).tolist()
    assert train.ids[1:4] == [f"{archives.WNIDS[0]}_{n:05d}" for n in (1, 2, 3)]
    for row in (0, 10, 12 * 199 + 2):
        expected = archives.tiny_imagenet_pixel(*divmod(row, 12))
        assert np.abs(train.images[row].astype(int) - expected).max() <= 3  # JPEG's loss
    grey = train.images[12 * 150 + 1]
    assert np.abs(grey.astype(int) - 150).max() <= 1
    test = stored.read_split(builder, "validation")
    assert test.labels.tolist() == list(range(199, -1, -1))
    assert test.ids[0] == "val_00000"


def replace(root, name, content):
    """Copies the data set with another content of one file, or without it."""
    (root / name).unlink(missing_ok=True)
    if content is not None:
        (root / name).write_bytes(content)


def jpeg(size):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format="jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("wnids.txt", None, "there is no wnids.txt"),
        ("wnids.txt", b"n00000000", "names 1 classes, not 200"),
        ("wnids.txt", b"\xff\xfe", "codec can't decode"),
        ("val/val_annotations.txt", b"val_3.JPEG\n", "line 1 of .* is no image and its class"),
        ("val/val_annotations.txt", b"../a.JPEG\tn00000000\t\n", "line 1 of .* is no image"),
        ("val/val_annotations.txt", b"a.JPEG\tn00000000\t\n" * 2, "names a.JPEG twice"),
        ("train/n00000007/images/n00000007_3.jpg", b"", "n00000007_3.jpg does not end in .JPEG"),
        ("train/n00000007/images/n00000000_3.JPEG", b"", "has the name of another image"),
        ("val/images/val_3.JPEG", None, "val_3.JPEG"),
        ("val/images/val_3.JPEG", b"no image", "val_3.JPEG is damaged: "),
        ("val/images/val_3.JPEG", jpeg((64, 64))[:300], "val_3.JPEG is damaged: "),
        ("val/images/val_3.JPEG", jpeg((65, 64)), "is 65×64, not 64×64"),
    ],
)
def test_folders_that_are_not_tiny_imagenet(tiny_root, tmp_path, name, content, match):
    root = tmp_path / "copy"
    shutil.copytree(tiny_root, root)
    replace(root, name, content)
    with pytest.raises(UserError, match=match):
        tfds_builders.prepare("tiny_imagenet", tmp_path / "data", root)
