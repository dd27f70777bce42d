"""Initialisers as pure functions, the paper's among them, and how they compose.

Two kinds: an `Initializer` makes one kernel, `(key, shape, dtype) → array`, and fits
`kernel_init=` of any Flax module; a `ParamsInitializer` maps a tree of parameters to another,
`(key, params, network=network) → params`, so it knows which layer it fills. All can be jitted, and
vmapped over keys; `functools.partial(init, network=network)` is a function of key and params alone.
"""

from jaxinit.initializers.composition import (
    Chain,
    chain,
    changed,
    fill_layers,
    mix,
    only,
    per_layer,
    run,
    scaled,
    unchanged,
)
from jaxinit.initializers.data_dependent import lsuv
from jaxinit.initializers.defaults import default
from jaxinit.initializers.from_banks import clustered, clustered_kernel, from_bank
from jaxinit.initializers.from_formula import closed_form, gabor
from jaxinit.initializers.from_larger import weight_selection
from jaxinit.initializers.from_networks import bootstrap, covariance, pretrained, whole_filters
from jaxinit.initializers.norm_targets import at_relative_norm, for_step_size
from jaxinit.initializers.recommending import recommended

__all__ = [
    "Chain",
    "at_relative_norm",
    "bootstrap",
    "chain",
    "changed",
    "closed_form",
    "clustered",
    "clustered_kernel",
    "covariance",
    "default",
    "fill_layers",
    "for_step_size",
    "from_bank",
    "gabor",
    "lsuv",
    "mix",
    "only",
    "per_layer",
    "pretrained",
    "recommended",
    "run",
    "scaled",
    "unchanged",
    "weight_selection",
    "whole_filters",
]
