"""What a reader of files or arrays found: two parts, their classes, and what is to be said."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from experiments.cli.errors import UserError
from experiments.data import decoded, held_out
from experiments.data.decoded import DecodedRows, Encoded


class Part(NamedTuple):
    """Images, decoded or not, and the class of each."""

    images: np.ndarray | DecodedRows
    labels: Int32[np.ndarray, " n"]

    def only(self, rows: Any) -> "Part":
        """Some of the rows."""
        images = self.images
        kept = images.only(rows) if isinstance(images, DecodedRows) else images[rows]
        return Part(kept, self.labels[rows])


class Splits(NamedTuple):
    """A data set before any of it is left out."""

    title: str  # for figures and sentences
    train: Part
    test: Part
    classes: tuple[str, ...]  # names, in the order of the labels
    recorded: dict[str, Any]  # what was decided on the way, beside the content
    notes: tuple[str, ...]  # lines to be said


class Labelled(NamedTuple):
    """Encoded images, and the class of each."""

    encoded: Encoded
    labels: Int32[np.ndarray, " n"]


def of_encoded(
    title: str,
    train: Labelled,
    test: Labelled | None,
    classes: tuple[str, ...],
    *,
    split_seed: int,
    side: int | None,
    channels: int | None = None,
    notes: tuple[str, ...] = (),
) -> Splits:
    """Surveys encoded images, and holds a part out where there are none to test on.

    Args:
        title: For figures and sentences.
        train: All images, where `test` is None.
        test: Those to test on.
        classes: Their names.
        split_seed: Of the part that is held out.
        side: To which the images are resized; as they are where None.
        channels: How many the data set says it has, if it does.
        notes: Lines to be said already.

    Raises:
        UserError: An image that cannot be used, images that differ in size, or a class of which
            nothing can be held out.
    """
    headers = dict(decoded.survey(part.encoded for part in (train, test) if part))
    common = decoded.common(headers, side, title, channels)
    said = (*notes, *decoded.conversions(headers, common.channels))

    def part(of: Labelled) -> Part:
        return Part(DecodedRows(of.encoded, np.arange(len(of.labels)), common), of.labels)

    if test is not None:
        return Splits(title, part(train), part(test), classes, {}, said)
    kept, held = held_out.split(train.labels, split_seed, classes, title)
    whole, recorded = part(train), held_out.described(split_seed)
    return Splits(title, whole.only(kept), whole.only(held), classes, recorded, said)


def check_classes(
    title: str,
    train: Int32[np.ndarray, " n"],
    test: Int32[np.ndarray, " m"],
    classes: tuple[str, ...],
) -> None:
    """Makes sure that there are two classes or more, and that each has images in both parts.

    Raises:
        UserError: There are not.
    """
    if len(classes) < 2:
        raise UserError(f"{title} has one class, {''.join(classes)}: two or more are needed")
    for labels, what in ((train, "training"), (test, "test")):
        counts = np.bincount(labels, minlength=len(classes))
        if (lacking := np.flatnonzero(counts == 0)).size:
            raise UserError(
                f"class {classes[lacking[0]]} of {title} has no {what} images: give it some, or "
                "take it out of the data set"
            )
