"""Gabor filters: oriented waves under a Gaussian envelope, as first layers learn them.

exp(−½(x'²/σ² + y'²γ²/σ²))·cos(2πx'/λ + ψ) with x' = x·cos θ + y·sin θ and
y' = −x·sin θ + y·cos θ (paper, "Gabor initialisation"). One filter an output channel, the same for
all input channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import kernels, relative_norms
from jaxinit.signatures import Initializer, PRNGKey

_PUBLISHED_SIZE = 7  # of the kernel that the paper's ranges are for


def gabor_kernel(
    key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "h w i o"]:
    """Makes a kernel of Gabor filters as the paper does.

    σ ∈ U(1.5, 2.5), θ ∈ U(0, π), λ ∈ U(2, 13), ψ ∈ U(0, 2π), γ ∈ U(0.9, 1.1), all in pixels
    whatever the size, on linspace(−size // 2, size // 2, size): for 7 taps from −4 to 3, half a
    pixel off centre. Not rescaled: twelve times the norm of the default start at 7×7 with 64
    outputs, four times at 3×3 with 16. `centred_gabor_kernel` is centred, fits every size and has
    the norm that it is told.

    Args:
        key: Every output channel draws its five numbers independently.
        shape: (h, w, i, o).
        dtype: Of the result.

    Raises:
        ValueError: The shape has not four sides, or looks like PyTorch's (o, i, h, w).
    """
    kernels.check_channels_last(shape)
    grids = [
        # −size // 2 is (−size) // 2 in the authors' Python: −4 for 7, as their values have it.
        jnp.linspace(-size // 2, size // 2, size, dtype=jnp.float32)
        for size in shape[:2]
    ]
    return _draw(key, tuple(shape), grids, 1.0).astype(dtype)


def centred_gabor_kernel(relative_norm: float = 12.0) -> Initializer:
    """Makes kernels of Gabor filters that are centred and have a given norm; for `kernel_init=`.

    Ranges are those of `gabor_kernel`, times √(h·w)/7 for σ and λ (λ is never below 2, beyond
    which a wave cannot be told from a slower one), so that filters of every size look alike.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.

    Example:
        >>> kernel = centred_gabor_kernel(3.0)(jax.random.key(0), (3, 3, 2, 8))
        >>> round(float(jnp.sum(kernel**2)), 3)
        36.0
    """

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "h w i o"]:
        kernels.check_channels_last(shape)
        height, width = shape[:2]
        grids = [jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width)]
        drawn = _draw(key, tuple(shape), grids, (height * width) ** 0.5 / _PUBLISHED_SIZE)
        return relative_norms.at_relative_norm(drawn, relative_norm).astype(dtype)

    return init


def _draw(
    key: PRNGKey, shape: tuple[int, ...], grids: Sequence[Float[Array, " n"]], scale: float
) -> Float[Array, "h w i o"]:
    sigma_key, theta_key, wavelength_key, phase_key, aspect_key = jax.random.split(key, 5)

    def draw(own_key: PRNGKey, low: float, high: float) -> Array:
        return jax.random.uniform(own_key, (1, 1, shape[3]), jnp.float32, low, high)

    sigma, theta = draw(sigma_key, 1.5 * scale, 2.5 * scale), draw(theta_key, 0.0, jnp.pi)
    wavelength = draw(wavelength_key, 2.0, max(13.0 * scale, 2.5))
    phase = draw(phase_key, 0.0, 2 * jnp.pi)
    aspect = draw(aspect_key, 0.9, 1.1)
    y, x = grids[0][:, None, None], grids[1][None, :, None]
    along = x * jnp.cos(theta) + y * jnp.sin(theta)
    across = -x * jnp.sin(theta) + y * jnp.cos(theta)
    envelope = jnp.exp(-0.5 * (along**2 + across**2 * aspect**2) / sigma**2)
    slices = envelope * jnp.cos(2 * jnp.pi * along / wavelength + phase)
    return jnp.broadcast_to(slices[:, :, None, :], shape)
