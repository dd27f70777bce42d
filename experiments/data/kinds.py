"""Which data sets there are, and what each has to be.

To add one that TFDS knows, add it to `KINDS`; one that TFDS does not know, or that cannot be
prepared without TensorFlow, needs a builder in `tfds_builders` too. Loading, checks, the command
line and the cache follow.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """What a data set has to be."""

    title: str  # for figures
    tfds_name: str  # also the folder
    version: str
    test_split: str
    classes: int
    train_per_class: int | None  # any number, the same of each class, where None
    test_per_class: int
    mean: tuple[float, float, float]  # of each channel, of values in [0, 1]
    std: tuple[float, float, float]
    tolerance: float  # how far the data's own mean and std may be from these
    in_tfds: bool = False  # whether TFDS has a builder of this name
    numbered: bool = False  # whether the ids count from 0 without a gap, as train_00000
    coarse: bool = False  # whether it says the superclasses; else five neighbouring classes are one
    halved: str | None = None  # the data set whose images these are at half the size, if any


_CIFAR_MOMENTS = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
_IMAGENET_MOMENTS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Copies of Tiny ImageNet with fewer training images are in use, so their number is left open. Its
# normalisation is that of ImageNet, whose images are larger: their std is smaller by 0.05.
_TINY = ("tiny_imagenet", "1.0.0", "validation", 200, None, 50, *_IMAGENET_MOMENTS, 0.1)
KINDS = {
    "cifar100": Kind(
        *("CIFAR-100", "cifar100", "3.0.2", "test", 100, 500, 100, *_CIFAR_MOMENTS, 0.01),
        in_tfds=True,
        numbered=True,
        coarse=True,
    ),
    "tiny_imagenet": Kind("Tiny ImageNet", *_TINY),
    "tiny_imagenet32": Kind("Tiny ImageNet at 32×32", *_TINY, halved="tiny_imagenet"),
}


def original(name: str) -> str:
    """The data set whose classes and photographs these are: Tiny ImageNet at either size."""
    return KINDS[name].tfds_name if name in KINDS else name
