"""What should a convolutional network start from? Informed initialisation for JAX and Flax."""

from jaxinit import (
    alignment,
    banks,
    controls,
    diagnostics,
    distances,
    initializers,
    kernels,
    kmeans,
    layers,
    models,
    symmetry,
    transfer,
    weights,
)
from jaxinit.banks import FilterBank
from jaxinit.checkpoints import open_checkpoint
from jaxinit.initializers import (
    chain,
    changed,
    clustered,
    clustered_kernel,
    default,
    gabor,
    per_layer,
    pretrained,
    recommended,
    scaled,
    unchanged,
    whole_filters,
)
from jaxinit.kernel_init import centred_gabor_kernel, gabor_kernel
from jaxinit.layers import Layer, Network, declare
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
    "banks",
    "centred_gabor_kernel",
    "chain",
    "changed",
    "clustered",
    "clustered_kernel",
    "controls",
    "declare",
    "default",
    "diagnostics",
    "distances",
    "gabor",
    "gabor_kernel",
    "initializers",
    "kernels",
    "kmeans",
    "layers",
    "models",
    "open_checkpoint",
    "open_weights",
    "per_layer",
    "pretrained",
    "recommended",
    "save_weights",
    "scaled",
    "symmetry",
    "trace",
    "transfer",
    "unchanged",
    "weights",
    "whole_filters",
]
