"""Folders of images in both layouts, and what else lies in them."""

import numpy as np
import pytest
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data import folders, held_out

RNG = np.random.default_rng(0)


def save(path, shape=(6, 6, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def read(folder, split_seed=0, side=None, **options):
    return folders.read(folder, "set", split_seed=split_seed, side=side, **options)


def decoded(images):
    return images[np.arange(len(images))]


def test_a_folder_a_class(tmp_path):
    pixels = [save(tmp_path / name / f"{n}.png") for name in "ba" for n in range(5)]
    found = read(tmp_path, split_seed=1)
    labels = np.repeat(np.arange(2, dtype=np.int32), 5)
    ordered = np.stack([*pixels[5:], *pixels[:5]])  # by the names of the classes
    kept, held = held_out.split(labels, 1, ("a", "b"), "set")
    np.testing.assert_array_equal(decoded(found.train.images), ordered[kept])
    np.testing.assert_array_equal(decoded(found.test.images), ordered[held])
    np.testing.assert_array_equal(found.test.labels, labels[held])
    assert (found.classes, found.notes) == (("a", "b"), ())
    assert found.recorded == {"held_out": {"share": 0.2, "seed": 1}}


@pytest.mark.parametrize("test", ["test", "val", "validation", "Valid"])
def test_train_and_test(tmp_path, test):
    for name in "ab":
        save(tmp_path / "Train" / name / "images" / "0.PNG", (6, 6))
        save(tmp_path / test / name / "1.png", (6, 6))
    found = read(tmp_path)
    assert found.train.images.shape == (2, 6, 6, 1)
    assert found.test.labels.tolist() == [0, 1]
    assert found.recorded == {}
    assert found.notes == (f"the test images are those in {test}",)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        for n in range(2):
            save(tmp_path / name / f"{n}.png")
    assert read(tmp_path).classes == ("bus", "train")


def test_test_images_without_classes_are_passed_over(tmp_path):
    for part in ("train", "val"):
        for name in "ab":
            save(tmp_path / part / name / "0.png")
    save(tmp_path / "test" / "images" / "0.png")
    assert read(tmp_path).notes == ("the test images are those in val",)


def test_what_is_no_image_is_left_out_and_said(tmp_path):
    for name in "ab":
        for n in range(2):
            save(tmp_path / name / f"{n}.png")
    for name in ("a/._0.JPEG", "a/Thumbs.db", "b/.hidden/x.png", "labels.csv", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    found = read(tmp_path)
    assert found.classes == ("a", "b")
    assert found.notes == (
        "left out, as no images of a class: 6 (.DS_Store, labels.csv, a/._0.JPEG, …)",
    )


def test_conversions_are_counted_by_name(tmp_path):
    for n in range(3):
        save(tmp_path / "a" / f"{n}.jpg")
        save(tmp_path / "b" / f"{n}.jpg")
    for n in range(4):
        save(tmp_path / "a" / f"grey{n}.png", (6, 6))
    Image.new("CMYK", (6, 6)).save(tmp_path / "b" / "c.jpg")
    found = read(tmp_path)
    assert found.train.images.shape[1:] == (6, 6, 3)
    assert found.notes == (
        "4 grey images (a/grey0.png, a/grey1.png, a/grey2.png, …), 1 CMYK image (b/c.jpg) "
        "were converted",
    )


def test_images_of_other_sizes_need_one_to_be_said(tmp_path):
    save(tmp_path / "a" / "0.png")
    for name in ("a/1.png", "b/0.png", "b/1.png"):
        save(tmp_path / name, (8, 10, 3))
    with pytest.raises(UserError, match=r"differ in size \(a/0.png is 6×6, a/1.png is 8×10\): say"):
        read(tmp_path)
    assert read(tmp_path, side=4).train.images.shape == (2, 4, 4, 3)


def test_channels_are_those_of_all_images(tmp_path):
    for name in "ab":
        for n in range(2):
            save(tmp_path / name / f"{n}.png", (6, 6, 4))
    found = read(tmp_path)
    assert (found.train.images.shape[-1], found.notes) == (4, ())
    save(tmp_path / "a" / "2.png")
    found = read(tmp_path)
    assert found.train.images.shape[-1] == 3
    assert found.notes[0].startswith("4 transparent images (a/0.png, a/1.png, b/0.png, …) were")


def spoilt(path, content):
    path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        save(tmp_path / name)
    spoilt(tmp_path / "b" / "0.png", content)
    with pytest.raises(UserError, match=r"b/0.png cannot be used \(it is no image .*: mend it or"):
        read(tmp_path)


def test_a_damaged_image_is_named_when_it_is_decoded(tmp_path):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        save(tmp_path / name, (64, 64, 3))
        content = (tmp_path / name).read_bytes()
        spoilt(tmp_path / name, content[: len(content) // 2])
    found = read(tmp_path)
    with pytest.raises(UserError, match=r"[ab]/[01].png cannot be used \(.*truncated.*\): mend"):
        decoded(found.train.images)


def test_folders_that_are_no_data_sets(tmp_path):
    def refused(folder, words):
        with pytest.raises(UserError, match=words):
            read(tmp_path / folder)

    (tmp_path / "nothing").mkdir()
    refused("nothing", r"has no folders with images in them: lay images out as FOLDER/class/\*")
    save(tmp_path / "flat" / "0.png")
    refused("flat", "has no folders with images")
    for n in range(3):
        save(tmp_path / "solo" / "a" / f"{n}.png")
    refused("solo", "set has one class, a: two or more are needed")
    for name in ("a/0.png", "b/0.png", "b/1.png"):
        save(tmp_path / "one" / name)
    refused("one", "class a of set has 1 image")
    for part, names in {"train": "ab", "test": "ac"}.items():
        for name in names:
            save(tmp_path / "strange" / part / name / "0.png")
            save(tmp_path / "lacking" / part / name.replace("c", "a") / "0.png")
    refused("strange", "has the class c, which the training images have not")
    refused("lacking", "class b of set has no test images")
