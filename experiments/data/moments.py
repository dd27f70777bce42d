"""Mean and standard deviation of each channel, exactly: sums of integers, divided once."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from experiments.data.image_rows import ImageRows

_BLOCK = 2**23  # bytes of images that are looked at at a time
_VALUES = np.arange(256, dtype=np.int64)

PerChannel = Float64[np.ndarray, " c"]


def blocks(images: ImageRows) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
    """All images in their order, some at a time."""
    count, *shape = images.shape
    size = max(1, _BLOCK // math.prod(shape))
    for start in range(0, count, size):
        yield images[np.arange(start, min(start + size, count))]


class Histogram:
    """How often each byte occurs in each channel of the images added.

    Args:
        channels: How many.
    """

    def __init__(self, channels: int) -> None:
        self._counts: Int64[np.ndarray, "c 256"] = np.zeros((channels, 256), np.int64)

    def add(self, images: UInt8[np.ndarray, "b h w c"]) -> None:
        """Counts the bytes of some images."""
        for channel, counts in enumerate(self._counts):
            counts += np.bincount(images[..., channel].ravel(), minlength=256)

    def moments(self) -> tuple[PerChannel, PerChannel]:
        """Mean and standard deviation of each channel, of values in [0, 1], rounded once."""
        count = int(self._counts[0].sum())
        sums = [int(own @ _VALUES) for own in self._counts]
        squares = [int(own @ _VALUES**2) for own in self._counts]
        mean = [total / (255 * count) for total in sums]
        std = [
            math.sqrt((count * square - total**2) / count**2) / 255
            for total, square in zip(sums, squares, strict=True)
        ]
        return np.array(mean), np.array(std)


def channel_moments(images: ImageRows) -> tuple[PerChannel, PerChannel]:
    """Mean and standard deviation of each channel, of values in [0, 1]."""
    histogram = Histogram(images.shape[-1])
    for block in blocks(images):
        histogram.add(block)
    return histogram.moments()
