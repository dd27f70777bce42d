"""Kernels of one layer: functions of a key, a shape and a dtype, as `jax.nn.initializers` has them.

They fit `kernel_init=` of any Flax module; `jaxinit.per_layer` makes of each an initialiser of
whole trees.
"""

from jaxinit.kernel_init.gabor_filters import centred_gabor_kernel, gabor_kernel
from jaxinit.kernel_init.patch_filters import patch_kmeans, patch_whitening

__all__ = ["centred_gabor_kernel", "gabor_kernel", "patch_kmeans", "patch_whitening"]
