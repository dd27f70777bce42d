"""The embedded data set: dead leaves with an object among them, made up in the shape of CIFAR-100.

An image is a heap of leaves, each in front of those before: ellipses of one colour whose radii r
are as many as 1/r³, so that it has the edges, the occlusion and the scale invariance of photographs
(Lee, Mumford, Huang, "Occlusion models for natural images", 2001); networks learn from such images
what they need for photographs (Baradad et al., "Learning to see by looking at noise", 2021). Leaves
have a grain of amplitude 1/f^1.3. Colours differ most in lightness, less from blue to orange and
least from green to purple, as in natural scenes (Ruderman, Cronin, Chiao 1998). A few leaves with
stripes are the object.

Classes differ in outline, tones and colour of the object, in direction, width and contrast of its
stripes, and in colour, direction, width and size of the leaves behind it; the five of a superclass
are variations of one. Place, size, tilt, light, contrast and all other leaves differ from image to
image, and mirrored images keep their class. No photograph went into it: all output names it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, UInt8

CLASSES, SUPERCLASSES, SIZE = 100, 20, 32
_PER_SUPERCLASS = CLASSES // SUPERCLASSES
_BEHIND, _PARTS, _FRONT = 15, 4, 2  # leaves behind the object, of it, and in front of it
_OBJECT = slice(_BEHIND, _BEHIND + _PARTS)
_SMALLEST, _LARGEST = 3.0, 20.0  # radii of the leaves behind, in pixels
_SPECTRUM = 1.3  # amplitude of the grain falls as 1 / frequency to this power
_GRAIN = 0.05  # its deviation
_STRIPES = 0.24  # amplitude of the stripes, on average
_SUB = 2  # a pixel is the mean of so many points squared
_BLOCK = 20  # images made at a time, so that they stay in the processor's cache

Images = UInt8[np.ndarray, "n 32 32 3"]
Labels = Int32[np.ndarray, " n"]
TestImages = UInt8[np.ndarray, "m 32 32 3"]
TestLabels = Int32[np.ndarray, " m"]
Plane = Float32[np.ndarray, "n 32 32"]
Column = Float32[np.ndarray, " n"]
Columns = Float32[np.ndarray, "columns n"]  # numbers in [0, 1)
PerLeaf = Float32[np.ndarray, "leaves n"]
Heap = UInt8[np.ndarray, "n points"]  # which leaf is on top

# What an image has once: numbers in [0, 1).
_SCENE = (
    *("side", "tilt", "size", "right", "down", "stripe_turn", "wavelength", "phase", "contrast"),
    *("polarity", "ground_light", "ground_orange", "ground_purple", "light", "orange", "purple"),
)
Scene = dict[str, Column]


class _Kind(NamedTuple):
    """What the images of a class have in common. Colours are (lightness, orange, purple)."""

    ground: tuple[float, float, float]  # mean colour of the leaves behind
    turn: float  # of these, in radians
    width: float  # of these, by their length
    scale: float  # of these
    parts: Float32[np.ndarray, "6 parts 1"]  # right, down, long, short, turn, lightness of each
    colour: tuple[float, float, float]  # of the object
    stripe_turn: float
    wavelength: float  # of the stripes, in pixels
    contrast: float  # of the stripes


class _Leaves(NamedTuple):
    """Ellipses and their colours; or, before that, numbers in [0, 1) for each."""

    right: PerLeaf  # of the centre, in pixels from the image's
    down: PerLeaf
    long: PerLeaf  # half axes
    short: PerLeaf
    turn: PerLeaf
    light: PerLeaf
    orange: PerLeaf
    purple: PerLeaf


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
    kind = _kind(seed, label)
    # Each purpose has a stream of its own, filled row by row: fewer images are the first of more.
    columns, grain = (np.random.default_rng([seed, label, split, purpose]) for purpose in (1, 2))
    scene, leaves = len(_SCENE), len(_Leaves._fields)
    blocks = []
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        u = columns.random((size, scene + leaves * (_BEHIND + _FRONT)), np.float32).T
        white = grain.standard_normal((size, SIZE, SIZE), np.float32)
        drawn = _Leaves(*u[scene:].reshape(leaves, _BEHIND + _FRONT, size))
        blocks.append(_paint(dict(zip(_SCENE, u, strict=False)), drawn, _waves(white), kind))
    return np.concatenate(blocks)


def _kind(seed: int, label: int) -> _Kind:
    """Draws a class: what its superclass shares, and its own variation."""
    superclass, member = divmod(label, _PER_SUPERCLASS)
    shared = np.random.default_rng([seed, superclass, 0, 3])
    own = np.random.default_rng([seed, label, 0, 4])

    def varied(low: float, high: float, by: float, size: int | None = None):
        return shared.uniform(low, high, size) + by * own.normal(size=size)

    # In these the five classes are spread evenly from −1 to 1, each time in another order.
    spread = np.tile(np.linspace(-1, 1, _PER_SUPERCLASS), (3, 1))
    first, second, third = shared.permuted(spread, axis=1)[:, member].tolist()
    toward, distance = varied(0, np.pi, 0.5, _PARTS), varied(2, 7, 0, _PARTS)
    place = distance * np.stack([np.cos(toward), np.sin(toward)])
    long = np.clip(varied(4.5, 8, 1.2, _PARTS), 3, 10)
    short = long * np.clip(varied(0.4, 1, 0.2, _PARTS), 0.3, 1)
    turn, tone = varied(0, np.pi, 0.5, _PARTS), 0.3 * varied(-1, 1, 0, _PARTS)
    parts = np.stack([*(place - place.mean(axis=1, keepdims=True)), long, short, turn, tone])
    hues = 0.9 * shared.normal(size=4) + 0.5 * own.normal(size=4)
    thickness = np.clip(shared.uniform(0.2, 0.8) + 0.35 * second, 0, 1)
    return _Kind(
        ground=(0.5 + float(varied(-0.14, 0.14, 0.1)), *(1.2 * hues[:2]).tolist()),
        turn=np.pi / 4 * (1 + third),
        width=float(np.clip(varied(0.3, 1, 0.2), 0.25, 1)),
        scale=float(np.clip(varied(0.75, 1.6, 0.15), 0.7, 2)),
        parts=parts[:, :, None].astype(np.float32),
        colour=(0.5, *(1.1 * hues[2:]).tolist()),
        stripe_turn=np.pi / 4 * (1 + first),
        wavelength=float(3 * (8 / 3) ** thickness),
        contrast=_STRIPES * float(np.clip(varied(0.4, 1.6, 0.2), 0.2, 2)),
    )


def _paint(scene: Scene, drawn: _Leaves, waves: Plane, kind: _Kind) -> Images:
    """Heaps up the leaves, and paints each point with the leaf on top."""
    side = np.copysign(np.float32(1), scene["side"] - 0.5)
    tilt = 0.4 * (scene["tilt"] - 0.5)
    around, thing = _around(scene, drawn, side, kind), _object(scene, side, tilt, kind)
    leaves = _Leaves(*map(_between, around, thing))
    striped = np.zeros_like(leaves.light)
    striped[_OBJECT] = kind.contrast * (0.6 + 0.8 * scene["contrast"])
    seen = _seen(np.stack([*_rgb(leaves), striped]), _heap(leaves))
    canvas = seen[:3] + seen[3] * _stripes(scene, side, tilt, waves, kind) + _GRAIN * waves
    images = np.rint(255 * np.clip(canvas, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(images.transpose(1, 2, 3, 0))


def _between(around: PerLeaf, thing: PerLeaf) -> PerLeaf:
    parts = np.broadcast_to(thing, (_PARTS, around.shape[1]))
    return np.concatenate([around[:_BEHIND], parts, around[_BEHIND:]])


def _even(u: Columns) -> Columns:
    """Uniform numbers of mean 0 and deviation 1."""
    return 12**0.5 * (u - 0.5)


def _around(scene: Scene, drawn: _Leaves, side: Column, kind: _Kind) -> _Leaves:
    """The leaves behind the object, of which the first is everywhere, and the few in front."""
    light, orange, purple = kind.ground
    # As many of radius r as 1/r³ between the smallest and the largest.
    long = kind.scale * _SMALLEST / np.sqrt(1 - (1 - (_SMALLEST / _LARGEST) ** 2) * drawn.long)
    long[0], long[_BEHIND:] = 1000, np.minimum(long[_BEHIND:], 4)
    return _Leaves(
        right=(SIZE + 4) * (drawn.right - 0.5),
        down=(SIZE + 4) * (drawn.down - 0.5),
        long=long,
        short=long * kind.width * (0.7 + 0.3 * drawn.short),
        turn=side * (kind.turn + drawn.turn - 0.5),
        light=light + 0.08 * _even(scene["ground_light"]) + 0.17 * _even(drawn.light),
        orange=orange + 0.3 * _even(scene["ground_orange"]) + 0.4 * _even(drawn.orange),
        purple=purple + 0.3 * _even(scene["ground_purple"]) + 0.4 * _even(drawn.purple),
    )


def _object(scene: Scene, side: Column, tilt: Column, kind: _Kind) -> _Leaves:
    """The parts of the object, all turned and sized alike."""
    right, down, long, short, turn, tone = kind.parts
    light, orange, purple = kind.colour
    size, cosine, sine = 0.8 + 0.5 * scene["size"], np.cos(tilt), np.sin(tilt)
    return _Leaves(
        right=side * size * (cosine * right - sine * down) + 3 * (scene["right"] - 0.5),
        down=size * (sine * right + cosine * down) + 3 * (scene["down"] - 0.5),
        long=size * long,
        short=size * short,
        turn=side * (turn + tilt),
        light=light
        + 0.16 * _even(scene["light"])
        + tone * np.copysign(np.float32(1), scene["polarity"] - 0.5),
        orange=orange + 0.4 * _even(scene["orange"]),
        purple=purple + 0.4 * _even(scene["purple"]),
    )


def _rgb(leaves: _Leaves) -> Float32[np.ndarray, "3 leaves n"]:
    """Mixes the colours: less colour where it is very dark or very light."""
    light = np.clip(leaves.light, 0.04, 0.96)
    room = 4 * light * (1 - light)
    orange, purple = 0.115 * room * leaves.orange, 0.052 * room * leaves.purple
    return np.stack([light + orange + purple / 2, light - purple, light - orange + purple / 2])


def _monomials() -> Float32[np.ndarray, "6 points"]:
    """Returns x², xy, y², x, y and 1 at the points of each pixel, all first points first."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2 + ((np.arange(_SUB) + 0.5) / _SUB - 0.5)[:, None]
    y, x = axis[:, None, :, None], axis[None, :, None, :]
    rows = np.broadcast_arrays(x * x, x * y, y * y, x, y, 1.0)
    return np.stack([row.ravel() for row in rows]).astype(np.float32)


_POINTS = _monomials()


def _heap(leaves: _Leaves) -> Heap:
    """Finds the leaf on top at every point: the last whose quadratic form is below 1 there."""
    x, y, cosine, sine = leaves.right, leaves.down, np.cos(leaves.turn), np.sin(leaves.turn)
    along, across = leaves.long**-2, leaves.short**-2
    xx, yy = cosine**2 * along + sine**2 * across, sine**2 * along + cosine**2 * across
    xy = 2 * cosine * sine * (along - across)
    linear = (-2 * xx * x - xy * y, -2 * yy * y - xy * x)
    constant = xx * x * x + xy * x * y + yy * y * y
    count = x.shape[1]
    # Always as large, since sums may be rounded otherwise in products of another size.
    forms = np.zeros((len(x), _BLOCK, len(_POINTS)), np.float32)
    forms[:, :count] = np.stack([xx, xy, yy, *linear, constant], axis=-1)
    top = np.zeros((_BLOCK, _POINTS.shape[1]), np.uint8)
    for number in range(1, len(forms)):
        covered = (forms[number] @ _POINTS < 1).view(np.uint8)
        covered *= np.uint8(number)
        np.maximum(top, covered, out=top)
    return top[:count]


def _seen(
    table: Float32[np.ndarray, "values leaves n"], top: Heap
) -> Float32[np.ndarray, "values n 32 32"]:
    """Looks up what each point's leaf has, and takes the mean over each pixel."""
    count, leaves, n = table.shape
    place = top + leaves * np.arange(n, dtype=np.intp)[:, None]
    rows = np.ascontiguousarray(table.transpose(0, 2, 1)).reshape(count, -1)
    points = (row[place].reshape(n, _SUB**2, SIZE, SIZE) for row in rows)
    return np.stack([values.mean(axis=1) for values in points])


def _stripes(scene: Scene, side: Column, tilt: Column, waves: Plane, kind: _Kind) -> Plane:
    """Stripes from −1 to 1, with edges that the grain bends."""
    turn = side * (kind.stripe_turn + tilt + 0.2 * (scene["stripe_turn"] - 0.5))
    pace = 2 * np.pi / (kind.wavelength * (0.85 + 0.3 * scene["wavelength"]))
    across, along, start = (
        column[:, None, None]
        for column in (pace * np.cos(turn), pace * np.sin(turn), 2 * np.pi * scene["phase"])
    )
    axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    ramp = across * axis + (along * axis[:, None] + start)
    return np.clip(1.5 * np.cos(ramp) + 0.9 * waves, -1, 1)


def _waves(white: Plane) -> Plane:
    """Colours white noise: amplitude 1/f^1.3, mean 0, deviation 1."""
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
    amplitude = np.maximum(np.hypot(rows, columns), 1 / SIZE) ** -_SPECTRUM
    amplitude[0, 0] = 0
    spectrum = np.fft.rfft2(white) * amplitude.astype(np.float32)
    waves = np.fft.irfft2(spectrum, s=(SIZE, SIZE)).astype(np.float32)
    return waves / waves.std(axis=(1, 2), keepdims=True)
