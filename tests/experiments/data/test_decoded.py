"""Images that are decoded when they are asked for."""

import pickle

import numpy as np
import pytest
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data import decoded
from experiments.data.decoded import Common, DecodedRows
from experiments.data.folders import Files
from experiments.data.image_files import Header


@pytest.fixture
def saved(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    files = Files(tmp_path, tuple(f"{number}.png" for number in range(6)))
    return DecodedRows(files, np.array([5, 3, 1, 0]), Common(5, 4, 3, None)), pixels


def test_rows_are_those_asked_for(saved):
    images, pixels = saved
    assert (images.shape, images.dtype, len(images)) == ((4, 5, 4, 3), np.uint8, 4)
    own = pixels[[5, 3, 1, 0]]
    for rows in (np.array([2, 0, 2]), np.array([], int), np.arange(4), slice(1, 3)):
        np.testing.assert_array_equal(images[rows], own[rows])
    np.testing.assert_array_equal(images.only(np.array([3, 1]))[np.arange(2)], own[[3, 1]])


def test_they_pickle(saved):
    images, pixels = saved
    again = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(again[np.array([0])], pixels[[5]])
    assert again.state() == images.state()


def test_their_state_changes_with_files_and_rows(saved, tmp_path):
    images, _ = saved
    states = {images.state(), images.only(np.array([0])).state()}
    Image.new("RGB", (4, 5)).save(tmp_path / "2.png")
    assert len(states | {images.state()}) == 3


def test_an_image_that_is_no_longer_as_it_was(saved, tmp_path):
    images, _ = saved
    Image.new("RGB", (9, 9)).save(tmp_path / "3.png")
    with pytest.raises(UserError, match=r"3.png cannot be used \(it is 9×9 once decoded\)"):
        images[np.array([1])]
    (tmp_path / "3.png").unlink()
    with pytest.raises(UserError, match=r"3.png cannot be used \(.*No such file"):
        images[np.array([1])]


def test_what_is_converted_depends_on_the_channels_of_the_set():
    colour, clear = (Header((4, 4), m, False, m == "RGBA", ()) for m in ("RGB", "RGBA"))
    headers = {"a": colour, "b": clear, "c": Header((4, 4), "L", True, False, ("16-bit",))}
    said = {n: "".join(decoded.conversions(headers, n)) for n in (1, 3, 4)}
    grey = "1 16-bit image (c), 1 grey image (c)"
    assert said == {
        1: "2 colour images (a, b), 1 transparent image (b), 1 16-bit image (c) were converted",
        3: f"1 transparent image (b), {grey} were converted",
        4: f"{grey} were converted",
    }
    assert decoded.conversions({"a": colour}, 1) == ["1 colour image (a) was converted"]
    assert decoded.conversions({"a": colour}, 3) == []
