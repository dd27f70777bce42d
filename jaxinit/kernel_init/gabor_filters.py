"""Gabor filters: oriented waves under a Gaussian envelope, as first layers learn them.

exp(−½(x'²/σ² + y'²γ²/σ²))·cos(2πx'/λ + ψ) with x' = x·cos θ + y·sin θ and
y' = −x·sin θ + y·cos θ (paper, "Gabor initialisation"). One filter an output channel, for all input
channels the same, or weighted by a colour.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, kernels, relative_norms
from jaxinit.kernel_init import colour_directions
from jaxinit.signatures import Initializer, PRNGKey

_PUBLISHED_SIZE = 7  # of the kernel that the paper's ranges are for


def gabor_kernel(
    key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "h w i o"]:
    """Makes a kernel of Gabor filters as the paper does.

    σ ∈ U(1.5, 2.5), θ ∈ U(0, π), λ ∈ U(2, 13), ψ ∈ U(0, 2π), γ ∈ U(0.9, 1.1), the same for every
    size, on linspace(−size // 2, size // 2, size) along each axis: steps of size/(size − 1), for 7
    taps from −4 to 3, half a unit off centre; even sizes are centred, and one tap is at −1.

    Not rescaled: the norm is c·√o times the default start's on average, whatever the number of
    input channels, with c = 1.04 for 3×3, 1.37 for 5×5, 1.52 for 7×7 and 1.63 for 11×11. That is
    twelve times at 7×7 with 64 outputs, four times at 3×3 with 16, 23 times at 3×3 with 512.
    `centred_gabor_kernel` is centred, fits every size and has the norm that it is told.

    Args:
        key: Every output channel draws its five numbers independently.
        shape: (h, w, i, o).
        dtype: Of the result.

    Raises:
        ValueError: The shape has not four sides, or looks like PyTorch's (o, i, h, w); the dtype
            is not of floating point.
    """
    checks.kernel(key, shape, dtype)
    kernels.check_channels_last(shape)
    grids = [
        # −size // 2 is (−size) // 2 in the authors' Python: −4 for 7, as their values have it.
        jnp.linspace(-size // 2, size // 2, size, dtype=jnp.float32)
        for size in shape[:2]
    ]
    slices = _draw(key, shape[3], grids, 1.0)
    return jnp.broadcast_to(slices[:, :, None], tuple(shape)).astype(dtype)


def centred_gabor_kernel(relative_norm: float = 12.0) -> Initializer:
    """Makes kernels of Gabor filters that are centred and have a given norm; for `kernel_init=`.

    Ranges are those of `gabor_kernel`, times √(h·w)/7 for σ and for the upper end of λ, which is
    2.5 or more. The lower end of λ is 2 for every size, beyond which a wave cannot be told from a
    slower one; larger kernels so have finer waves, too.

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
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape)
        drawn = jnp.broadcast_to(_centred(key, shape)[:, :, None], tuple(shape))
        return relative_norms.at_relative_norm(drawn, relative_norm).astype(dtype)

    return init


def colour_gabor(
    relative_norm: float = 12.0, grey: float = 0.5, opponent: float = 0.25
) -> Initializer:
    """Makes kernels of centred Gabor filters in random colours; for `kernel_init=`.

    Patterns of taps are drawn as by `centred_gabor_kernel`. Each is multiplied with a unit vector
    over the input channels: equal weights for the share `grey` of the filters, random ones that sum
    to zero for the share `opponent`, any random ones for the rest. Shares are counts, rounded, and
    which filter has which is random. Half of the filters are grey unless told otherwise, as in the
    first layer of Krizhevsky, Sutskever and Hinton (2012, figure 3), where 48 of 96 filters are
    largely without colour. With one input channel all are grey, as `centred_gabor_kernel`'s.

    Args:
        relative_norm: Of the whole kernel, as a multiple of what He's initialisation with fan-out
            has on average: ‖w‖² = relative_norm² · 2·i.
        grey: Share of the filters with equal weights for all input channels.
        opponent: Share of those with random weights that sum to zero.

    Raises:
        ValueError: Shares below 0 or above 1 together; when called, a shape that has not four
            sides, or looks like PyTorch's (o, i, h, w).

    Example:
        >>> kernel = colour_gabor(grey=0.0, opponent=1.0)(jax.random.key(0), (7, 7, 3, 8))
        >>> bool(jnp.allclose(jnp.sum(kernel, axis=2), 0, atol=1e-5))
        True
    """
    colour_directions.check_shares(grey, opponent)

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "h w i o"]:
        checks.kernel(key, shape, dtype)
        kernels.check_channels_last(shape)
        pattern_key, colour_key = jax.random.split(key)
        patterns = _centred(pattern_key, shape)
        colours = colour_directions.draw(colour_key, shape[2], shape[3], grey, opponent)
        drawn = patterns[:, :, None] * colours[None, None]
        return relative_norms.at_relative_norm(drawn, relative_norm).astype(dtype)

    return init


def _centred(key: PRNGKey, shape: Sequence[int]) -> Float[Array, "h w o"]:
    height, width, _, outputs = shape
    grids = [jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2 for size in (height, width)]
    return _draw(key, outputs, grids, (height * width) ** 0.5 / _PUBLISHED_SIZE)


def _draw(
    key: PRNGKey, outputs: int, grids: Sequence[Float[Array, " _"]], scale: float
) -> Float[Array, "h w o"]:
    sigma_key, theta_key, wavelength_key, phase_key, aspect_key = jax.random.split(key, 5)

    def draw(own_key: PRNGKey, low: float, high: float) -> Array:
        return jax.random.uniform(own_key, (1, 1, outputs), jnp.float32, low, high)

    sigma, theta = draw(sigma_key, 1.5 * scale, 2.5 * scale), draw(theta_key, 0.0, jnp.pi)
    wavelength = draw(wavelength_key, 2.0, max(13.0 * scale, 2.5))
    phase = draw(phase_key, 0.0, 2 * jnp.pi)
    aspect = draw(aspect_key, 0.9, 1.1)
    y, x = grids[0][:, None, None], grids[1][None, :, None]
    along = x * jnp.cos(theta) + y * jnp.sin(theta)
    across = -x * jnp.sin(theta) + y * jnp.cos(theta)
    envelope = jnp.exp(-0.5 * (along**2 + across**2 * aspect**2) / sigma**2)
    return envelope * jnp.cos(2 * jnp.pi * along / wavelength + phase)
