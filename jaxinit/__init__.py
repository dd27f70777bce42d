"""What should a convolutional network start from? Informed initialisation for JAX and Flax."""

from jaxinit import (
    alignment,
    banks,
    catalogue,
    controls,
    diagnostics,
    distances,
    initializers,
    inspection,
    kernel_init,
    kernels,
    kmeans,
    layers,
    models,
    symmetry,
    transfer,
    weights,
)
from jaxinit.banks import FilterBank
from jaxinit.catalogue import start
from jaxinit.checkpoints import open_checkpoint
from jaxinit.declaring import declare
from jaxinit.initializers import (
    at_relative_norm,
    bootstrap,
    chain,
    changed,
    closed_form,
    clustered,
    clustered_kernel,
    covariance,
    default,
    for_step_size,
    gabor,
    lsuv,
    mix,
    only,
    per_layer,
    pretrained,
    recommended,
    scaled,
    unchanged,
    weight_selection,
    whole_filters,
)
from jaxinit.inspection import examine
from jaxinit.kernel_init import centred_gabor_kernel, gabor_kernel
from jaxinit.layers import Layer, Network
from jaxinit.models.resnet import ResNet18
from jaxinit.signatures import Initializer, Params, ParamsInitializer
from jaxinit.tracing import trace
from jaxinit.weights import open_weights, save_weights

# The one place that says it: pyproject.toml reads it from here.
__version__ = "0.1.0"

__all__ = [
    "FilterBank",
    "Initializer",
    "Layer",
    "Network",
    "Params",
    "ParamsInitializer",
    "ResNet18",
    "__version__",
    "alignment",
    "at_relative_norm",
    "banks",
    "bootstrap",
    "catalogue",
    "centred_gabor_kernel",
    "chain",
    "changed",
    "closed_form",
    "clustered",
    "clustered_kernel",
    "controls",
    "covariance",
    "declare",
    "default",
    "diagnostics",
    "distances",
    "examine",
    "for_step_size",
    "gabor",
    "gabor_kernel",
    "initializers",
    "inspection",
    "kernel_init",
    "kernels",
    "kmeans",
    "layers",
    "lsuv",
    "mix",
    "models",
    "only",
    "open_checkpoint",
    "open_weights",
    "per_layer",
    "pretrained",
    "recommended",
    "save_weights",
    "scaled",
    "start",
    "symmetry",
    "trace",
    "transfer",
    "unchanged",
    "weight_selection",
    "weights",
    "whole_filters",
]
