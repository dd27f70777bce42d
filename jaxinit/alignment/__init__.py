"""Permutation symmetry: networks that compute the same, and bringing several into one order.

Hidden channels have no order: permuting those that a layer makes, and those that the next layers
read, changes nothing. Where the symmetry lies is data (`Symmetry`): for each array the name of the
permutation that acts on each of its axes; `jaxinit.symmetry` finds it for any network. `match`
finds, for several trained networks, permutations that make them alike (Ainsworth, Hayase and
Srinivasa, "Git Re-Basin", 2023); `group_filters` is the paper's own greedy grouping of whole
filters, layer by layer.
"""

from jaxinit.alignment.grouping import Groups, align_layers, group_filters
from jaxinit.alignment.matching import activations, match, match_activations
from jaxinit.alignment.permutations import Permutations, average, join, permute, resnet18, sizes
from jaxinit.signatures import Symmetry

__all__ = [
    "Groups",
    "Permutations",
    "Symmetry",
    "activations",
    "align_layers",
    "average",
    "group_filters",
    "join",
    "match",
    "match_activations",
    "permute",
    "resnet18",
    "sizes",
]
