"""What training asks of a data set's images: rows of them, as bytes."""

from typing import Any, Protocol

import numpy as np


class ImageRows(Protocol):
    """Images of one size, some rows at a time; a `np.ndarray` of bytes is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Images, height, width, channels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of unsigned bytes."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """The images of these rows (an array of integers): uint8, as many, h × w × c."""
        ...
