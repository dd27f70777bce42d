"""What should a convolutional network start from? Informed initialisation for JAX and Flax."""

from jaxinit import (
    alignment,
    banks,
    controls,
    diagnostics,
    distances,
    filters,
    initializers,
    kmeans,
    torch_weights,
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

# The one place that says it: pyproject.toml reads it from here.
__version__ = "0.1.0"

__all__ = [
    "FilterBank",
    "Initializer",
    "Params",
    "ParamsInitializer",
    "ResNet18",
    "__version__",
    "alignment",
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
    "per_layer",
    "pretrained",
    "recommended",
    "scaled",
    "torch_weights",
    "unchanged",
    "whole_filters",
]
