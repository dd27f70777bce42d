"""Kernels of one layer: functions of a key, a shape and a dtype, as `jax.nn.initializers` has them.

They fit `kernel_init=` of any Flax module; `jaxinit.per_layer` makes of each an initialiser of
whole trees. All but `gabor_kernel` are made by functions of what may be chosen.
"""

from jaxinit.kernel_init.correlated import closed_form_covariance, smooth
from jaxinit.kernel_init.cosine_basis import dct
from jaxinit.kernel_init.gabor_filters import centred_gabor_kernel, colour_gabor, gabor_kernel
from jaxinit.kernel_init.natural_images import natural_whitening
from jaxinit.kernel_init.patch_filters import patch_kmeans, patch_whitening
from jaxinit.kernel_init.scale_space import difference_of_gaussians, gaussian_derivatives
from jaxinit.kernel_init.sparse_taps import dirac, impulse
from jaxinit.kernel_init.standard import (
    delta_orthogonal,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    orthogonal,
    torchvision,
)

__all__ = [
    "centred_gabor_kernel",
    "closed_form_covariance",
    "colour_gabor",
    "dct",
    "delta_orthogonal",
    "difference_of_gaussians",
    "dirac",
    "gabor_kernel",
    "gaussian_derivatives",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "impulse",
    "lecun_normal",
    "lecun_uniform",
    "natural_whitening",
    "orthogonal",
    "patch_kmeans",
    "patch_whitening",
    "smooth",
    "torchvision",
]
