"""Image files of every kind, against Pillow and NumPy."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments.data import image_files

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 9, 4), np.uint8)


def saved(image, ending="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, ending, **options)
    return buffer.getvalue()


def turned(image, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    return saved(image, "png", exif=exif)


def test_colour_and_grey_are_as_they_were_saved(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(path)
    np.testing.assert_array_equal(image_files.decode(path, 3), COLOUR)
    grey = saved(Image.fromarray(GREY))
    np.testing.assert_array_equal(image_files.decode(grey, 1)[:, :, 0], GREY)
    np.testing.assert_array_equal(image_files.decode(grey, 3), np.stack([GREY] * 3, 2))
    assert image_files.header(grey) == ((6, 9), "L", True, False, ())


def test_transparency_is_kept_in_four_channels_and_laid_over_white_in_three():
    data = saved(Image.fromarray(ALPHA))
    np.testing.assert_array_equal(image_files.decode(data, 4), ALPHA)
    share = ALPHA[..., 3:] / 255
    over_white = ALPHA[..., :3] * share + 255 * (1 - share)
    np.testing.assert_allclose(image_files.decode(data, 3), over_white, atol=1)
    assert image_files.header(data).transparent


def test_a_colour_that_stands_for_transparency_is_laid_over_white():
    data = saved(Image.fromarray(np.zeros((2, 2), np.uint8)), transparency=0)
    assert image_files.header(data).transparent
    np.testing.assert_array_equal(image_files.decode(data, 1), np.full((2, 2, 1), 255))


def test_a_palette_is_replaced_by_its_colours():
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    data = saved(image)
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])[GREY % 4]
    np.testing.assert_array_equal(image_files.decode(data, 3), expected)
    assert image_files.header(data).odd == ("palette",)


def test_cmyk_is_as_pillow_has_it():
    image = Image.fromarray(ALPHA, "RGBA").convert("RGB").convert("CMYK")
    data = saved(image, "jpeg", quality=100, subsampling=0)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image_files.decode(data, 3), expected)
    assert image_files.header(data).odd == ("CMYK",)


def test_of_16_bits_the_upper_eight_are_taken():
    deep = RNG.integers(0, 2**16, (6, 9), np.uint16)
    for ending in ("png", "tiff"):
        data = saved(Image.fromarray(deep), ending)
        np.testing.assert_array_equal(image_files.decode(data, 1)[:, :, 0], deep // 256)
        assert image_files.header(data).odd == ("16-bit",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    expected = {
        1: COLOUR, 2: COLOUR[:, ::-1], 3: COLOUR[::-1, ::-1], 4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2), 6: np.rot90(COLOUR, -1),
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(COLOUR, 1),
    }[orientation]  # fmt: skip
    data = turned(Image.fromarray(COLOUR), orientation)
    np.testing.assert_array_equal(image_files.decode(data, 3), expected)
    header = image_files.header(data)
    assert header.size == expected.shape[:2]
    assert header.odd == (() if orientation == 1 else ("rotated",))


def test_black_and_white_and_the_first_of_several_frames():
    bits = Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(
        image_files.decode(saved(bits), 1)[:, :, 0], np.where(GREY > 127, 255, 0)
    )
    assert image_files.header(saved(bits)).odd == ("black-and-white",)
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    data = saved(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert "animated" in image_files.header(data).odd
    np.testing.assert_array_equal(image_files.decode(data, 3), np.full((4, 4, 3), 10))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is no image that Pillow knows"),
        (b"no image", "it is no image that Pillow knows"),
        (saved(Image.fromarray(np.zeros((4, 4), np.float32)), "tiff"), "32 bits"),
    ],
)
def test_what_is_refused_by_its_header(data, words):
    with pytest.raises(ValueError, match=words):
        image_files.header(data)


def test_what_is_cut_off_is_refused():
    for ending in ("png", "jpeg"):
        noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
        data = saved(Image.fromarray(noise), ending)
        with pytest.raises(ValueError, match="truncated"):
            image_files.decode(data[: len(data) // 2], 3)


# Sizes


def test_smaller_is_the_mean_of_areas_of_the_middle_square():
    image = RNG.integers(0, 256, (12, 17, 2), np.uint8)
    square = image[:, 2:14]  # five columns are too many: two go before, three after
    means = square.reshape(4, 3, 4, 3, 2).mean((1, 3))
    np.testing.assert_allclose(image_files.resized(image, 4), means, atol=1)


def test_resizing_is_pillows():
    for side, how in ((5, Image.Resampling.BOX), (30, Image.Resampling.BICUBIC)):
        square = RNG.integers(0, 256, (12, 12, 3), np.uint8)
        expected = np.asarray(Image.fromarray(square).resize((side, side), how))
        np.testing.assert_array_equal(image_files.resized(square, side), expected)
    tall = RNG.integers(0, 256, (12, 7, 1), np.uint8)
    np.testing.assert_array_equal(image_files.resized(tall, 7), tall[2:9])
