"""Filter banks: the filters of many models, clustered layer by layer, and new ones drawn from them.

The paper's single-filter clustering.
"""

from jaxinit.banks.bank_file import load, save
from jaxinit.banks.filter_bank import FilterBank, Provenance, check_layer, draw
from jaxinit.banks.fitting import fit, listed
from jaxinit.banks.shipped import Card, available, named
from jaxinit.distances import REPRESENTATIVES, Representative

__all__ = [
    "REPRESENTATIVES",
    "Card",
    "FilterBank",
    "Provenance",
    "Representative",
    "available",
    "check_layer",
    "draw",
    "fit",
    "listed",
    "load",
    "named",
    "save",
]
