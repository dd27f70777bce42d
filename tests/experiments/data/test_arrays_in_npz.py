"""Arrays in `.npz` files, as others write them and as they should not."""

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import arrays_in_npz, held_out, image_files

RNG = np.random.default_rng(0)


def images(count, *shape):
    return RNG.integers(0, 256, (count, *shape), np.uint8)


def read(file, split_seed=0, side=None, **options):
    return arrays_in_npz.read(file, "set", split_seed=split_seed, side=side, **options)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    return save


def test_as_medmnist_has_them(save):
    """Grey images without an axis of channels, labels in a column, a part called val."""
    train, test, val = images(8, 6, 6), images(4, 6, 6), images(4, 6, 6)
    labels = np.arange(8)[:, None] % 4
    others = {"val_images": val, "val_labels": labels[:4]}
    others |= {"test_images": test, "test_labels": labels[:4]}
    found = read(save(train_images=train, train_labels=labels, **others))
    np.testing.assert_array_equal(found.train.images, train[..., None])
    np.testing.assert_array_equal(found.test.images, test[..., None])
    assert found.train.labels.tolist() == [0, 1, 2, 3] * 2
    assert found.train.labels.dtype == np.int32
    assert found.classes == ("0", "1", "2", "3")
    assert found.recorded == {}


def test_as_keras_has_them_with_labels_of_any_numbers(save):
    x, y = images(6, 5, 4, 3), np.array([7, -1, 7, 3, 3, -1], np.int8)
    found = read(save(x_train=x, y_train=y, x_test=x[:3], y_test=np.array([3, 7, -1])))
    assert found.classes == ("-1", "3", "7")
    assert found.train.labels.tolist() == [2, 0, 2, 1, 1, 0]
    assert found.test.labels.tolist() == [1, 2, 0]


def test_a_part_is_held_out_where_there_is_none(save):
    x, y = images(20, 4, 4, 4), np.array(list("ba") * 10)
    found = read(save(images=x, labels=y), split_seed=3)
    labels = np.array([1, 0] * 10, np.int32)
    kept, held = held_out.split(labels, 3, ("a", "b"), "set")
    np.testing.assert_array_equal(found.train.images, x[kept])
    np.testing.assert_array_equal(found.test.images, x[held])
    np.testing.assert_array_equal(found.test.labels, labels[held])
    assert found.recorded == {"held_out": {"share": 0.2, "seed": 3}}


def test_resized(save):
    x, y = images(8, 9, 6, 2), np.arange(8) % 2
    found = read(save(x_train=x, y_train=y, x_test=x, y_test=y), side=3)
    expected = np.stack([image_files.resized(image, 3) for image in x])
    np.testing.assert_array_equal(found.train.images, expected)


TWO = np.arange(4) % 2
GOOD = {"images": images(4, 4, 4, 3), "labels": TWO}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": TWO}, "has the arrays a: name them train_images"),
        (GOOD | {"images": RNG.random((4, 4, 4, 3))}, "is float64: give bytes"),
        (GOOD | {"images": images(4, 48)}, "has the shape 4×48: give n × height"),
        (GOOD | {"images": images(0, 4, 4, 3)}, "has the shape 0×4×4×3"),
        (GOOD | {"images": images(4, 3, 8, 8)}, "with channels before height and width"),
        (GOOD | {"labels": np.zeros((4, 14), int)}, "has the shape 4×14 and images holds 4"),
        (GOOD | {"labels": TWO[:3]}, "has the shape 3 and images holds 4 images"),
        (GOOD | {"labels": TWO / 2}, "is float64: give integers or texts"),
        (GOOD | {"labels": np.array([{}] * 4)}, "Object arrays cannot be loaded"),
        (GOOD | {"labels": TWO * 0}, "set has one class, 0: two or more are needed"),
        (GOOD | {"labels": np.arange(4)}, "class 0 of set has 1 image"),
        (GOOD | {"test_images": images(2, 4, 4, 3), "test_labels": TWO[:2] + 1},
         "names the class 2, which labels does not"),
        (GOOD | {"test_images": images(2, 4, 5, 3), "test_labels": TWO[:2]},
         "images of 4×4×3 in images and of 4×5×3 in test_images"),
        (GOOD | {"test_images": images(1, 4, 4, 3), "test_labels": TWO[:1]},
         "class 1 of set has no test images"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_of_images(save, arrays, words):
    with pytest.raises(UserError, match=words):
        read(save(**arrays))


def test_what_is_no_npz_file(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    (tmp_path / "empty.npz").touch()
    for name in ("one", "empty"):
        with pytest.raises(UserError, match=rf"{name}\.npz is no \.npz file"):
            read(tmp_path / f"{name}.npz")


def test_a_damaged_file(save):
    file = save(**GOOD)
    content = bytearray(file.read_bytes())
    content[200:260] = bytes(60)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz cannot be read \("):
        read(file)
