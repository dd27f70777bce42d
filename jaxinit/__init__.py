"""What should a convolutional network start from? Informed initialisation for JAX and Flax."""

from jaxinit import (
    banks,
    controls,
    diagnostics,
    distances,
    filters,
    initializers,
    kmeans,
    models,
    weights,
)
from jaxinit.banks import FilterBank
from jaxinit.initializers import (
    chain,
    clustered,
    clustered_kernel,
    default,
    gabor,
    gabor_kernel,
    per_layer,
    pretrained,
    recommended,
    scaled,
    unchanged,
    whole_filters,
)
from jaxinit.models.resnet import ResNet18
from jaxinit.types import Initializer, Params, ParamsInitializer
from jaxinit.weights import open_weights, save_weights

__all__ = [
    "FilterBank",
    "Initializer",
    "Params",
    "ParamsInitializer",
    "ResNet18",
    "banks",
    "chain",
    "clustered",
    "clustered_kernel",
    "controls",
    "default",
    "diagnostics",
    "distances",
    "filters",
    "gabor",
    "gabor_kernel",
    "initializers",
    "kmeans",
    "models",
    "open_weights",
    "per_layer",
    "pretrained",
    "recommended",
    "save_weights",
    "scaled",
    "unchanged",
    "weights",
    "whole_filters",
]
