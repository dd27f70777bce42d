"""What a data set's images may be: an array, or whatever gives rows of one when asked."""

from typing import Protocol

import numpy as np
from jaxtyping import Int, UInt8


class ImageRows(Protocol):
    """Images that are read when they are asked for; a NumPy array is such.

    They must be picklable, as worker processes read them.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, c)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of unsigned bytes."""
        ...

    def __getitem__(self, rows: Int[np.ndarray, " k"], /) -> UInt8[np.ndarray, "k h w c"]:
        """Reads some images, in this order.

        Raises:
            UserError: A file cannot be read; the sentence names it.
        """
        ...
