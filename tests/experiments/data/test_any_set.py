"""From the name of any data set to images, labels, and what is recorded of them."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data import any_set, sets
from experiments.data.decoded import DecodedRows
from experiments.data.sets import Data
from tests.experiments.small import save_folder


@pytest.fixture
def folder(tmp_path):
    return save_folder(tmp_path / "Blüten & more", classes=8, per_class=6, size=12)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def load(name, cache, **options):
    return sets.load(str(name), cache_dir=cache, data_dir=cache, **options)


def arrays(dataset):
    images = dataset.train_images, dataset.test_images
    decoded = [one[np.arange(one.shape[0])] for one in images]
    return [*decoded, dataset.train_labels, dataset.test_labels, dataset.superclass]


def test_what_names_stand_for(tmp_path, folder, monkeypatch):
    def named(name):
        return any_set.named(name, tmp_path)

    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "Päth mnist.npz", images=np.zeros(1))
    (tmp_path / "mnist").mkdir()
    assert named("cifar100") == named("tfds:cifar100") == ("known", "cifar100")
    assert named("mnist") == named("tfds:mnist") == ("tfds", "mnist")
    assert named("./mnist").form == "folder"
    assert named(folder.name).form == "folder"
    monkeypatch.chdir(folder)
    assert (named(".").recorded, named("./..").form) == ("folder-Bluten-more", "folder")
    monkeypatch.chdir(tmp_path)
    names = ("tfds:cifar10_corrupted/fog_1", str(folder), "Päth mnist.npz", "./mnist", "tfds:mnist")
    assert [named(name).recorded for name in names] == [
        "cifar10_corrupted-fog_1", "folder-Bluten-more", "npz-Path-mnist", "folder-mnist", "mnist",
    ]  # fmt: skip


def test_unknown_names(tmp_path):
    (tmp_path / "a.txt").touch()
    for name, words in {
        "nothing": "'nothing' is not known: choose one of procedural, .* or an .npz file",
        str(tmp_path / "nothing"): "there is no .*/nothing: check the path",
        "nothing.npz": "there is no nothing.npz: check the path",
        str(tmp_path / "a.txt"): "is a file, but no .npz file",
    }.items():
        with pytest.raises(UserError, match=words):
            any_set.named(name, tmp_path)


def test_a_folder_as_a_data_set(folder, cache):
    dataset = load(folder, cache)
    assert dataset.train_images.shape == (40, 12, 12, 1)
    assert dataset.test_images.shape == (8, 12, 12, 1)
    assert sorted(dataset.superclass) == list(range(8))
    train = arrays(dataset)[0] / 255
    np.testing.assert_allclose(dataset.mean, train.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, train.std((0, 1, 2)), rtol=1e-12)
    assert sets.describe_data(dataset) == {
        "data_set": "folder-Bluten-more",
        "data_fingerprint": dataset.fingerprint,
        "train_images": 40,
        "test_images": 8,
        "held_out": {"share": 0.2, "seed": 0},
        "image_shape": [12, 12, 1],
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "groups": {"classes": 1, "seed": 0},
    }


def test_the_fingerprint_is_of_all_that_decides_numbers(folder, cache, tmp_path):
    first = load(folder, cache)
    moved = folder.rename(tmp_path / "elsewhere")
    assert load(moved, cache).fingerprint == first.fingerprint
    changed = [
        load(moved, cache, **options).fingerprint
        for options in (
            {"image_size": 6}, {"group_seed": 1}, {"group_classes": 2}, {"split_seed": 1},
            {"train_images_per_class": 2}, {"test_images_per_class": 1, "split_seed": 2},
        )
    ]  # fmt: skip
    image = next(moved.rglob("*.png"))
    Image.new("L", (12, 12)).save(image)
    changed.append(load(moved, cache).fingerprint)
    assert len({first.fingerprint, *changed}) == 8


def test_shapes_count_where_the_bytes_are_the_same(tmp_path, cache):
    images, labels = np.zeros((8, 4, 6, 3), np.uint8), np.arange(8) % 4
    found = set()
    for number, shape in enumerate([(8, 4, 6, 3), (8, 6, 4, 3), (8, 72, 1, 1)]):
        file = tmp_path / f"{number}.npz"
        np.savez(file, images=images.reshape(shape), labels=labels)
        found.add(load(file, cache).fingerprint)
    assert len(found) == 3


def test_a_channel_that_never_changes_is_not_divided_by_zero(tmp_path, cache):
    images = np.full((8, 4, 4, 2), 7, np.uint8)
    images[::2, ..., 0] = 9
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(8) % 4)
    assert load(tmp_path / "a.npz", cache).std[1] == 1


@pytest.mark.parametrize("limit", [None, 3])
def test_streamed_images_are_the_same_data_set(folder, cache, limit, capsys):
    whole = load(folder, cache, train_images_per_class=limit)
    streamed = load(folder, cache, train_images_per_class=limit, stream="always")
    assert isinstance(streamed.train_images, DecodedRows)
    assert isinstance(whole.train_images, np.ndarray)
    for one, other in zip(arrays(whole), arrays(streamed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sets.describe_data(streamed) == sets.describe_data(whole)
    said = f"measuring {len(whole.train_labels) + 8} images, once"
    assert said in capsys.readouterr().err
    again = load(folder, cache, train_images_per_class=limit, stream="always")
    assert said not in capsys.readouterr().err  # what was measured is kept
    assert sets.describe_data(again) == sets.describe_data(whole)


def test_what_would_take_too_much_memory_is_streamed(folder, cache, monkeypatch):
    monkeypatch.setattr(any_set, "IN_MEMORY", 48 * 144 - 1)
    assert isinstance(load(folder, cache).train_images, DecodedRows)
    assert isinstance(load(folder, cache, stream="never").train_images, np.ndarray)
    monkeypatch.setattr(any_set, "IN_MEMORY", 48 * 144)
    assert isinstance(load(folder, cache).train_images, np.ndarray)


def test_decoded_images_are_kept(folder, cache, monkeypatch):
    first = load(folder, cache)
    monkeypatch.setattr(DecodedRows, "__getitem__", None)  # nothing may be decoded now
    for one, other in zip(arrays(load(folder, cache)), arrays(first), strict=True):
        np.testing.assert_array_equal(one, other)


def test_limits_are_at_most_so_many_of_each_class(folder, cache):
    fewer = sorted((folder / "c3").iterdir())
    for file in fewer[3:]:
        file.unlink()
    whole, less = load(folder, cache), load(folder, cache, train_images_per_class=4)
    assert np.bincount(less.train_labels).tolist() == [4, 4, 4, 2, 4, 4, 4, 4]
    rows = [np.flatnonzero(whole.train_labels == label)[:4] for label in range(8)]
    np.testing.assert_array_equal(arrays(less)[0], arrays(whole)[0][np.concatenate(rows)])
    assert less.notes == (
        "1 of 8 classes have fewer than 4 training images (the smallest 2): all of theirs are "
        "taken",
    )
    assert sets.images_per_class(less.train_labels) == "2 to 4"


def test_known_data_sets_may_be_resized_and_grouped_otherwise():
    options: dict[str, Any] = {"train_images_per_class": 1, "test_images_per_class": 1}
    plain = sets.load("procedural", **options)
    other = sets.load("procedural", **options, image_size=16, group_classes=10)
    more = sets.describe_data(other).keys() - sets.describe_data(plain).keys()
    assert more == {"image_size", "groups"}
    np.testing.assert_allclose(
        arrays(other)[0], arrays(plain)[0].reshape(100, 16, 2, 16, 2, 3).mean((2, 4)), atol=1
    )
    assert sets.superclass_count(other) == 10
    assert other.fingerprint != plain.fingerprint


def test_what_is_recorded_of_known_data_sets_is_what_was():
    dataset = sets.load("procedural", train_images_per_class=1, test_images_per_class=1)
    assert list(sets.describe_data(dataset)) == [
        "data_set", "data_fingerprint", "train_images", "test_images",
    ]  # fmt: skip


def test_the_command_describes_a_folder(folder, cache, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(cache))
    Image.new("CMYK", (12, 12)).save(folder / "c3" / "cmyk.jpg")
    (folder / "readme.txt").touch()
    sets.main(["--dataset", str(folder), "--group-classes", "3"])
    said = capsys.readouterr().out
    for words in (
        f"folder-Bluten-more, in {folder}: 8 classes in 2 groups",
        "5 to 6 training and 1 test images a class, 12×12 pixels, 3 channels",
        "  group 1: c",
        "  in no group: 2 classes",
        "left out, as no images of a class: 1 (readme.txt)",
        "48 grey images (c0/00.png, c0/01.png, c0/02.png, …), 1 CMYK image (c3/cmyk.jpg) were",
        "fingerprint ",
    ):
        assert words in said


def test_notes_are_said_once(folder, cache, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(cache))
    (folder / "readme.txt").touch()
    for _ in range(2):
        sets.load_data(Data(dataset=str(folder)))
    assert capsys.readouterr().err.count("folder-Bluten-more: left out, as no images") == 1
