"""The usual starts: independent taps by variance, and orthogonal matrices.

All but `torchvision` are those of `jax.nn.initializers`, number for number, under names that stand
beside the library's own. A kernel is (spatial …, in, out); fan-in is taps·in, fan-out taps·out.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import checks, flat_draws
from jaxinit.kernel_init import working_precision
from jaxinit.models import modules
from jaxinit.signatures import Initializer, PRNGKey


def he_normal() -> Initializer:
    """Truncated normal taps of variance 2/fan_in (He et al. 2015, equation 10).

    Example:
        >>> he_normal()(jax.random.key(0), (3, 3, 2, 8)).shape
        (3, 3, 2, 8)
    """
    return flat_draws.variance_scaling(2.0, "fan_in", "truncated_normal")


def he_uniform() -> Initializer:
    """Uniform taps of variance 2/fan_in, in ±√(6/fan_in) (He et al. 2015, equation 10)."""
    return flat_draws.variance_scaling(2.0, "fan_in", "uniform")


def lecun_normal() -> Initializer:
    """Truncated normal taps of variance 1/fan_in (LeCun et al. 1998, "Efficient BackProp", 4.6).

    The default of Flax's layers.
    """
    return flat_draws.variance_scaling(1.0, "fan_in", "truncated_normal")


def lecun_uniform() -> Initializer:
    """Uniform taps of variance 1/fan_in, in ±√(3/fan_in) (LeCun et al. 1998, section 4.6)."""
    return flat_draws.variance_scaling(1.0, "fan_in", "uniform")


def glorot_normal() -> Initializer:
    """Truncated normal taps of variance 2/(fan_in + fan_out) (Glorot and Bengio 2010, eq. 12)."""
    return flat_draws.variance_scaling(1.0, "fan_avg", "truncated_normal")


def glorot_uniform() -> Initializer:
    """Uniform taps in ±√(6/(fan_in + fan_out)) (Glorot and Bengio 2010, equation 16)."""
    return flat_draws.variance_scaling(1.0, "fan_avg", "uniform")


def torchvision() -> Initializer:
    """Normal taps of variance 2/fan_out, not truncated: how torchvision's ResNets start.

    He et al. 2015, equation 14; in PyTorch `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
    The default start of `jaxinit.default`, whose norm `relative_norm` counts in.
    """
    return modules.he_normal_fan_out


def orthogonal(scale: float = 1.0) -> Initializer:
    """Orthogonal kernels: as a matrix (taps·in) × out its shorter side is orthonormal, times scale.

    Uniform among these (Saxe, McClelland and Ganguli 2014). In half precision it is computed in
    float32.

    Args:
        scale: Every singular value of the matrix.

    Raises:
        ValueError: The shape has fewer than two sides (when called).
    """
    checks.numbers(scale=scale)
    return _widened(jax.nn.initializers.orthogonal(scale))


def delta_orthogonal(scale: float = 1.0, groups: int = 1) -> Initializer:
    """Kernels that are an orthogonal matrix at the middle tap and zero elsewhere.

    A convolution that keeps the norm of its input (Xiao et al. 2018, "Dynamical isometry and a
    mean field theory of CNNs"). The middle tap is number (size − 1) // 2 along each
    axis, the one at which "SAME" padding puts the output, for even sizes too. In half precision it
    is computed in float32.

    Args:
        scale: Every singular value of the matrix in × out.
        groups: Of the convolution; the kernel's input channels are those of one group, each of
            which has a matrix of its own.

    Raises:
        ValueError: `groups` is below 1 or, when called, does not divide the output channels; the
            kernel is not of 1 to 3 spatial axes, or has more input than output channels.

    Example:
        >>> kernel = delta_orthogonal()(jax.random.key(0), (3, 3, 2, 8))
        >>> bool(jnp.allclose(kernel[1, 1] @ kernel[1, 1].T, jnp.eye(2), atol=1e-5))
        True
    """
    checks.numbers(scale=scale)
    checks.whole(groups=groups)
    if groups < 1:
        raise ValueError(f"groups={groups} must be 1 or more")
    made = _widened(jax.nn.initializers.delta_orthogonal(scale))

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        checks.kernel(key, shape, dtype)
        if not 3 <= len(shape) <= 5:
            raise ValueError(
                f"delta_orthogonal cannot make a kernel of shape {tuple(shape)}: it needs 1 to 3 "
                "spatial axes, then input and output channels"
            )
        if shape[-1] % groups:
            raise ValueError(
                f"a kernel of {shape[-1]} output channels cannot be split into {groups} groups: "
                "give the convolution's feature groups as groups="
            )
        own = (*shape[:-1], shape[-1] // groups)
        if own[-2] > own[-1]:
            raise ValueError(
                f"delta_orthogonal cannot make a kernel of {own[-2]} input and {own[-1]} "
                "output channels: an input keeps its norm only in as many channels or more, so "
                "choose layers that have them, or orthogonal()"
            )
        if groups == 1:
            return made(key, own, dtype)
        keys = jax.random.split(key, groups)
        return jnp.concatenate([made(one, own, dtype) for one in keys], axis=-1)

    return init


def _widened(initializer: Initializer) -> Initializer:
    """Computes in float32 what has no half precision, as QR."""

    def init(
        key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        checks.kernel(key, shape, dtype)
        if len(shape) < 2:
            raise ValueError(
                f"a kernel of shape {tuple(shape)} is no matrix: it needs input and output channels"
            )
        return initializer(key, tuple(shape), working_precision.of(dtype)).astype(dtype)

    return init
