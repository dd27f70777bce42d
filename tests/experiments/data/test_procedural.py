"""The embedded data set: determinism, prefixes, and statistics it is meant to have."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.data import procedural

TRAIN, TEST = 10, 5


@pytest.fixture(scope="module")
def made():
    return procedural.generate(0, TRAIN, TEST)


def scaled(images):
    return images.astype(np.float32) / 255


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def features(images):
    """Mean and deviation of each channel, and energy of the lightness in rings and directions."""
    values = scaled(images)
    lightness = values.mean(axis=3)
    spectrum = np.abs(np.fft.fft2(lightness - lightness.mean(axis=(1, 2), keepdims=True)))
    down, right = np.fft.fftfreq(32)[:, None] * 32, np.fft.fftfreq(32)[None, :] * 32
    ring = np.rint(np.hypot(down, right)).astype(int)
    direction = np.floor(np.arctan2(down, right) % np.pi / (np.pi / 4 + 1e-9)).astype(int)
    bands = [(ring >= low) & (ring < high) for low, high in ((1, 2), (2, 4), (4, 8), (8, 16))]
    bands += [(direction == d) & (ring >= 2) & (ring < 8) for d in range(4)]
    energy = [np.log(spectrum[:, band].mean(axis=1)) for band in bands]
    return np.column_stack([values.mean(axis=(1, 2)), values.std(axis=(1, 2)), *energy])


def nearest(means, rows):
    return np.argmin(np.square(means).sum(axis=1) - 2 * rows @ means.T, axis=1)


def class_means(rows):
    return rows.reshape(100, -1, *rows.shape[1:]).mean(axis=1)


def test_shapes_types_and_labels(made):
    train_images, train_labels, test_images, test_labels, superclass = made
    for images, labels, count in (
        (train_images, train_labels, TRAIN),
        (test_images, test_labels, TEST),
    ):
        assert images.shape == (100 * count, 32, 32, 3)
        assert images.dtype == np.uint8
        assert labels.shape == (100 * count,)
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(np.bincount(labels), np.full(100, count))
    np.testing.assert_array_equal(superclass, np.arange(100) // 5)
    assert superclass.dtype == np.int32


def test_same_seed_same_images_in_another_process():
    code = (
        "import hashlib, numpy as np; from experiments.data import procedural; "
        "a = procedural.generate(3, 2, 1); "
        "print(hashlib.sha256(b''.join(x.tobytes() for x in a)).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest(procedural.generate(3, 2, 1))


def test_other_seed_other_images(made):
    other = np.concatenate([procedural._class_images(1, label, 0, 1) for label in range(20)])
    firsts = made[0][::TRAIN][:20]
    assert np.all(np.any(firsts != other, axis=(1, 2, 3)))


def test_fewer_images_are_the_first_of_more(made):
    fewer = procedural.generate(0, 3, 2)
    for images, few, count, kept in ((made[0], fewer[0], TRAIN, 3), (made[2], fewer[2], TEST, 2)):
        whole = images.reshape(100, count, 32, 32, 3)[:, :kept]
        np.testing.assert_array_equal(few.reshape(whole.shape), whole)


def test_prefix_holds_across_blocks():
    # Whole blocks, and a last one that ends early.
    more = procedural._class_images(0, 42, 0, 60)
    np.testing.assert_array_equal(procedural._class_images(0, 42, 0, 55), more[:55])


def test_images_of_a_class_differ_and_splits_share_none(made):
    images = np.concatenate([made[0], made[2]]).reshape(100 * (TRAIN + TEST), -1)
    assert len({row.tobytes() for row in images}) == len(images)


def test_spectrum_falls_as_in_natural_images(made):
    """Amplitude falls as about 1/f (Field 1987); CIFAR-100's as 1/f^1.37, measured like this."""
    lightness = scaled(made[0]).mean(axis=3)
    lightness -= lightness.mean(axis=(1, 2), keepdims=True)
    amplitude = np.sqrt(np.mean(np.square(np.abs(np.fft.fft2(lightness))), axis=0))
    down, right = np.fft.fftfreq(32)[:, None] * 32, np.fft.fftfreq(32)[None, :] * 32
    ring = np.rint(np.hypot(down, right)).astype(int)
    radial = [amplitude[ring == r].mean() for r in range(1, 16)]
    slope = np.polyfit(np.log(np.arange(1, 16)), np.log(radial), 1)[0]
    assert -1.5 < slope < -1.0


def test_channels_are_correlated_as_in_photographs(made):
    """CIFAR-100: 0.86 and 0.88 next to each other, 0.70 red with blue; lightness 87 % of all."""
    pixels = scaled(made[0]).reshape(-1, 3).T
    correlation = np.corrcoef(pixels)
    assert min(correlation[0, 1], correlation[1, 2]) > 0.75
    assert 0.5 < correlation[0, 2] < 0.8
    shares = np.linalg.eigvalsh(np.cov(pixels))
    shares /= shares.sum()
    assert 0.78 < shares[2] < 0.92
    assert shares[1] > 3 * shares[0]  # orange to blue more than green to purple


def test_structure_is_of_lightness_rather_than_of_colour(made):
    """Of the variance within 7×7 patches, 9 % is of colour in CIFAR-100."""
    values = scaled(made[0])[:, 9:16, 9:16]
    values -= values.mean(axis=(1, 2), keepdims=True)
    grey = values.mean(axis=3, keepdims=True)
    colour = np.mean(np.square(values - grey))
    assert 0.04 < colour / np.mean(np.square(values)) < 0.13


def test_edges_are_rare_and_strong(made):
    """Differences of neighbours have heavy tails: a kurtosis of 10 in CIFAR-100, a Gaussian's 3."""
    lightness = scaled(made[0]).mean(axis=3)
    steps = np.diff(lightness, axis=2).ravel()
    assert 7 < np.mean(steps**4) / np.mean(steps**2) ** 2 < 15


def test_the_last_leaf_that_covers_a_point_is_on_top():
    rng = np.random.default_rng(0)
    x, y, turn = rng.uniform(-16, 16, (3, 5, 2))
    long, short = rng.uniform(4, 12, (2, 5, 2))
    columns = [column.astype(np.float32) for column in (x, y, long, short, turn)]
    heap = procedural._heap(procedural._Leaves(*columns, *columns[:3])).reshape(2, 2, 2, 32, 32)
    for image, down, right, row, column in np.ndindex(2, 2, 2, 32, 32):
        top = 0
        for leaf in range(1, 5):
            place = complex(column + 0.5 * right, row + 0.5 * down) - 15.75 * (1 + 1j)
            place = place - complex(x[leaf, image], y[leaf, image])
            place *= np.exp(-1j * turn[leaf, image])
            reach = np.hypot(place.real / long[leaf, image], place.imag / short[leaf, image])
            assert abs(reach - 1) > 1e-5, "too near an edge to test"
            top = leaf if reach < 1 else top
        assert heap[image, down, right, row, column] == top


def test_values_use_the_range_without_being_cut_off(made):
    images = made[0]
    assert abs(scaled(images).mean() - 0.5) < 0.06
    assert 0.15 < scaled(images).std() < 0.3
    assert np.mean((images == 0) | (images == 255)) < 0.08


def test_images_are_coloured(made):
    values = scaled(made[0])
    spread = (values.max(axis=3) - values.min(axis=3)).mean(axis=(1, 2))
    assert np.mean(spread > 0.08) > 0.85  # 0.76 in CIFAR-100
    # Lightness varies more than colour does, as in photographs.
    differences = (values[..., 0] - values[..., 1]).std(axis=(1, 2)).mean()
    assert differences < values.mean(axis=3).std(axis=(1, 2)).mean() * 1.2


def test_classes_of_a_superclass_resemble_one_another(made):
    superclass = made[4]
    rows = features(made[0])
    means = class_means(rows / rows.std(axis=0))
    distance = np.sqrt(np.square(means[:, None] - means[None]).sum(axis=2))
    same = superclass[:, None] == superclass[None, :]
    within = distance[same & ~np.eye(100, dtype=bool)].mean()
    assert within < 0.87 * distance[~same].mean()  # 0.80 in CIFAR-100


def test_confusions_stay_within_the_superclass(made):
    rows, test_rows = features(made[0]), features(made[2])
    deviation = rows.std(axis=0)
    found = nearest(class_means(rows / deviation), test_rows / deviation)
    wrong = found != made[3]
    share = np.mean(found[wrong] // 5 == made[3][wrong] // 5)
    assert share > 3 * 4 / 99  # three times chance


def test_raw_pixels_tell_classes_apart_but_poorly(made):
    train = scaled(made[0]).reshape(len(made[0]), -1)
    found = nearest(class_means(train), scaled(made[2]).reshape(len(made[2]), -1))
    accuracy = np.mean(found == made[3])
    assert 0.02 < accuracy < 0.4


def test_bad_input():
    with pytest.raises(ValueError, match="seed -1 is negative"):
        procedural.generate(-1, 1, 1)
    with pytest.raises(ValueError, match="1 training and 0 test images"):
        procedural.generate(0, 1, 0)
