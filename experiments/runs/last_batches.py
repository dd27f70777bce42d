"""Says beforehand where the last batch of an epoch is so small that batch norm can blow up."""

from collections.abc import Iterable

from experiments.cli.progress import say
from experiments.data.tasks import Task

_SMALL = 2  # images, of which a variance says nothing


def tell(tasks: Iterable[Task], batch_size: int) -> None:
    """Says so in one line, of the first such task.

    Args:
        tasks: To be trained.
        batch_size: Images a step.
    """
    for images in (len(task.train_index) for task in tasks):
        left = images % batch_size
        if 0 < left <= _SMALL:
            say(
                f"--batch-size {batch_size} leaves {left} of {images} images to the last step of "
                "an epoch, which batch norm can make too large: better choose another"
            )
            return
