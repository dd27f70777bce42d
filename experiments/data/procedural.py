"""The embedded data set: made up from a seed, in the shape of CIFAR-100, so that nothing is needed.

An image is one textured, lobed shape before a cluttered background whose amplitude spectrum falls
as in natural images. A superclass has a pair of colours, a number of lobes, a frequency of texture
and a tint of the background; its five classes vary these a little, and differ in how the texture is
turned against the shape and how elongated the shape is. Mirrored images keep their class. Place,
size, angle, light, clutter and noise vary from image to image. What is learnt from it says nothing
about photographs: all output names it.
"""

import numpy as np
from jaxtyping import Float32, Int32, UInt8

CLASSES, SUPERCLASSES, SIZE = 100, 20, 32
_PER_SUPERCLASS = CLASSES // SUPERCLASSES
_SPECTRUM = 1.4  # amplitude of the background falls as 1 / frequency to this power
_FLOOR = 0.02  # deviation of the sensor's noise
_QUALITIES = 7  # in which the classes of a superclass differ
_CLUTTER = 3  # blobs behind the shape
_BLOCK = 50  # images made at a time, so that they stay in the processor's cache

Images = UInt8[np.ndarray, "n 32 32 3"]
Labels = Int32[np.ndarray, " n"]
TestImages = UInt8[np.ndarray, "m 32 32 3"]
TestLabels = Int32[np.ndarray, " m"]
Canvas = Float32[np.ndarray, "n 3 32 32"]  # channels first: NumPy is slow on short last axes
Plane = Float32[np.ndarray, "n 32 32"]
Column = Float32[np.ndarray, " n"]
Columns = Float32[np.ndarray, "columns n"]  # numbers in [0, 1)
Colour = Float32[np.ndarray, "n 3 1 1"]


def generate(
    seed: int, train_per_class: int, test_per_class: int
) -> tuple[Images, Labels, TestImages, TestLabels, Int32[np.ndarray, " classes"]]:
    """Makes the data set.

    Args:
        seed: Another seed, other classes; not negative.
        train_per_class: Training images of each of the 100 classes.
        test_per_class: Test images of each.

    Returns:
        Training images and labels, test images and labels, and the superclass of each class. Images
        are in the order of their classes; the first n of a class do not depend on how many follow.

    Raises:
        ValueError: A negative seed, or no images of a class.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: give 0 or more")
    if min(train_per_class, test_per_class) < 1:
        raise ValueError(
            f"{train_per_class} training and {test_per_class} test images a class are asked for: "
            "ask for 1 or more of each"
        )
    made = []
    for split, count in enumerate((train_per_class, test_per_class)):
        images = [_class_images(seed, label, split, count) for label in range(CLASSES)]
        labels = np.repeat(np.arange(CLASSES, dtype=np.int32), count)
        made += [np.concatenate(images), labels]
    superclass = np.arange(CLASSES, dtype=np.int32) // _PER_SUPERCLASS
    return made[0], made[1], made[2], made[3], superclass


def _class_images(seed: int, label: int, split: int, count: int) -> Images:
    superclass = label // _PER_SUPERCLASS
    shared = np.random.default_rng([seed, superclass])
    # Python's numbers, as NumPy's would make every array float64.
    family = shared.random(10).tolist()
    # In each quality the five classes are spread evenly from −1 to 1, each time in another order.
    spread = np.tile(np.linspace(-1, 1, _PER_SUPERCLASS), (_QUALITIES, 1))
    member = shared.permuted(spread, axis=1)[:, label % _PER_SUPERCLASS].tolist()
    # Each purpose has a stream of its own, filled row by row: fewer images are the first of more.
    columns, grain = (np.random.default_rng([seed, label, split, purpose]) for purpose in (1, 2))
    blocks = []
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        u = columns.random((size, 21 + 8 * _CLUTTER), np.float32).T
        white = grain.standard_normal((size, 3, SIZE, SIZE), np.float32)
        blocks.append(_paint(u, white, family, member))
    return np.concatenate(blocks)


def _paint(u: Columns, white: Canvas, family: list[float], member: list[float]) -> Images:
    """Paints from back to front, then lights the scene."""
    waves = _waves(white) * _planes(0.04 + 0.12 * u[0])[:, None]
    tint = family[6] + 0.08 * member[0] + 0.3 * (u[1] - 0.5)
    ground = _hue(tint, 0.04 + 0.12 * u[2], 0.25 + 0.3 * family[7] + 0.2 * u[3])
    canvas = np.broadcast_to(ground, white.shape)
    for blob in range(_CLUTTER):
        canvas = _paint_blob(canvas, u[21 + 8 * blob : 29 + 8 * blob])
    # Every surface has some of the noise, the shape the least.
    canvas = _paint_shape(canvas + waves, 0.4 * waves, u[4:18], family, member)
    canvas = _light(canvas, u[18:21]) + _FLOOR * white
    return _to_bytes(canvas)


def _to_bytes(canvas: Canvas) -> Images:
    images = np.rint(255 * np.clip(canvas, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _planes(column: Column) -> Float32[np.ndarray, "n 1 1"]:
    return column[:, None, None]


def _grid() -> tuple[Float32[np.ndarray, "1 32 1"], Float32[np.ndarray, "1 1 32"]]:
    axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    return axis[None, :, None], axis[None, None, :]


def _turned(down: Column, right: Column, angle: Column) -> tuple[Plane, Plane]:
    """Returns coordinates along and across an axis through a point, in pixels from the centre."""
    y, x = _grid()
    dy, dx = y - _planes(down), x - _planes(right)
    cosine, sine = _planes(np.cos(angle)), _planes(np.sin(angle))
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _waves(white: Canvas) -> Canvas:
    """Colours white noise: amplitude 1/f^1.4, mostly shared between channels; deviation 1."""
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
    amplitude = np.maximum(np.hypot(rows, columns), 1 / SIZE) ** -_SPECTRUM
    amplitude[0, 0] = 0
    spectrum = np.fft.rfft2(white) * amplitude.astype(np.float32)
    waves = np.fft.irfft2(spectrum, s=(SIZE, SIZE)).astype(np.float32)
    shared = waves.mean(axis=1, keepdims=True) * 3**0.5
    mixed = shared + 0.25 * waves
    return mixed / mixed.std(axis=(1, 2, 3), keepdims=True)


def _blend(canvas: Canvas | Colour, mask: Plane, colour: Canvas | Colour) -> Canvas:
    return canvas + mask[:, None] * (colour - canvas)


def _sigmoid(x: Plane) -> Plane:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _hue(turn: Column, saturation: Column, lightness: Column) -> Colour:
    """Returns lightness + saturation·cos 2π(turn − channel/3)."""
    thirds = np.arange(3, dtype=np.float32) / 3
    wheel = np.cos(2 * np.pi * (turn[:, None] - thirds))
    return (lightness[:, None] + saturation[:, None] * wheel)[:, :, None, None]


def _paint_blob(canvas: Canvas, u: Columns) -> Canvas:
    """Paints one soft ellipse of any colour at any place."""
    along, across = _turned(36 * (u[0] - 0.5), 36 * (u[1] - 0.5), np.pi * u[2])
    distance = np.sqrt(np.square(along / _planes(1 + 2 * u[3])) + np.square(across))
    mask = 0.9 * _sigmoid(1.5 * (_planes(1.5 + 5 * u[4]) - distance))
    return _blend(canvas, mask, _hue(u[5], 0.25 * u[6], 0.1 + 0.7 * u[7]))


def _paint_shape(
    canvas: Canvas, grain: Canvas, u: Columns, family: list[float], member: list[float]
) -> Canvas:
    """Paints what makes the class: a lobed, shaded shape with a grating of two colours."""
    angle = 2 * np.pi * family[0] + 0.7 * (u[2] - 0.5)
    along, across = _turned(12 * (u[0] - 0.5), 12 * (u[1] - 0.5), angle)
    across = across * _planes(np.copysign(1.25 + 0.35 * member[1], u[12] - 0.5))
    reach = np.sqrt(np.square(along) + np.square(across))
    radius, lobes = _planes(6.5 + 5.5 * u[3]), 2 + int(5 * family[1])
    edge = radius * (1 + 0.3 * np.cos(lobes * np.arctan2(across, along)))
    mask = 0.95 * _sigmoid(2 * (edge - reach))

    turn = _planes(np.pi / 4 * (1 + member[2]) + 0.4 * (u[4] - 0.5))
    frequency = (0.08 + 0.08 * family[3]) * _planes((1 + 0.35 * member[3]) * (0.85 + 0.3 * u[5]))
    ramp = along * np.cos(turn) + across * np.sin(turn)
    share = _sigmoid(3 * np.cos(2 * np.pi * (frequency * ramp + _planes(u[6]))))
    tint = family[4] + 0.15 * member[4] + 0.16 * (u[7] - 0.5)
    other = family[4] + 0.25 + 0.3 * family[5] + 0.15 * member[5] + 0.16 * (u[8] - 0.5)
    saturation = 0.1 + 0.2 * u[9]
    light = 0.38 + 0.2 * family[8] + 0.08 * member[6] + 0.18 * u[10]
    gap = (0.1 + 0.2 * u[11]) * (1 if family[9] < 0.5 else -1)
    first, second = _hue(tint, saturation, light), _hue(other, saturation, light + gap)
    shade = 0.16 * (1 - np.square(reach / radius)) * mask - 0.1
    colour = _blend(first, share, second) + shade[:, None] + grain
    return _blend(canvas, mask, colour)


def _light(canvas: Canvas, u: Columns) -> Canvas:
    """Varies contrast, brightness and the direction that light comes from."""
    nowhere = np.zeros_like(u[0])
    slope, _ = _turned(nowhere, nowhere, 2 * np.pi * u[0])
    gain = _planes(0.7 + 0.6 * u[1]) * (1 + 0.012 * slope)
    return (canvas - 0.45) * gain[:, None] + _planes(0.37 + 0.2 * u[2])[:, None]
