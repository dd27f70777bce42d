"""Looking at a start: one table and one figure for any tree of parameters or filter bank.

Such as::

    print(jaxinit.inspection.examine(params, network=network))

From a shell, `python -m jaxinit.inspection FILE` does the same for files.
"""

from jaxinit.inspection.examining import examine
from jaxinit.inspection.layer_rows import Inspection, LayerRow
from jaxinit.inspection.slice_statistics import random_entropy, sparsity, variance_entropy

__all__ = [
    "Inspection",
    "LayerRow",
    "examine",
    "random_entropy",
    "sparsity",
    "variance_entropy",
]
