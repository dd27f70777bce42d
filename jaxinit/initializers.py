"""The paper's initialisers, as pure functions, and how they compose.

Two kinds: an `Initializer` makes one kernel, `(key, shape, dtype) → array`, and fits
`kernel_init=` of any Flax module; a `ParamsInitializer` maps a params tree to another,
`(key, params) → params`, so it knows which layer it fills. All can be jitted, and vmapped over
keys.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxinit import banks, filters
from jaxinit.filters import Layers
from jaxinit.models import layers
from jaxinit.types import Initializer, Params, ParamsInitializer, PRNGKey


def chain(*initializers: ParamsInitializer) -> ParamsInitializer:
    """Applies initialisers one after the other; later ones see what earlier ones made.

    Args:
        *initializers: Each gets a key of its own.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> init = chain(gabor(layers=1), scaled(0.5))
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> init(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """

    def init(key: PRNGKey, params: Params) -> Params:
        for step_key, initializer in zip(
            jax.random.split(key, len(initializers)), initializers, strict=True
        ):
            params = initializer(step_key, params)
        return params

    return init


def per_layer(initializer: Initializer, layers: Layers = None) -> ParamsInitializer:
    """Bridges the two kinds: fills the kernels of some layers with an `Initializer`.

    Args:
        initializer: Makes one kernel; each layer gets a key of its own.
        layers: Which convolutions (see `filters.select_layers`); None means all.
    """
    return fill_layers(
        lambda key, name, kernel: initializer(key, kernel.shape, kernel.dtype), layers
    )


def fill_layers(
    make: Callable[[PRNGKey, str, Array], Array], layers: Layers = None
) -> ParamsInitializer:
    """Replaces the kernels of some layers by what a function makes of them.

    Args:
        make: Maps a key of the layer's own, its name and its kernel to another kernel.
        layers: Which convolutions (see `filters.select_layers`); None means all.
    """

    def init(key: PRNGKey, params: Params) -> Params:
        everything = filters.layer_names(params)
        kernels: dict[str, Array] = {}
        for name in filters.select_layers(params, layers):
            # The key depends on the layer's place in the network, not on which others are chosen.
            layer_key = jax.random.fold_in(key, everything.index(name))
            kernels[name] = make(layer_key, name, filters.get_kernel(params, name))
        return filters.set_kernels(params, kernels)

    return init


def unchanged() -> ParamsInitializer:
    """Leaves everything as it is: random initialisation, where the network drew its own."""

    def init(key: PRNGKey, params: Params) -> Params:
        del key
        return params

    return init


def default() -> ParamsInitializer:
    """Draws every parameter anew as torchvision's ResNet does.

    Convolutions, shortcuts included: He-normal with fan-out, N(0, 2 / (k²·c_out)). Linear layers:
    uniform ±1/√fan_in for kernel and bias. Batch norm: scale 1, bias 0; biases of convolutions: 0.
    """

    def init(key: PRNGKey, params: Params) -> Params:
        return _default_subtree(key, params)

    return init


def _default_subtree(key: PRNGKey, tree: Params) -> Params:
    fresh: dict[str, Array | Params] = {}
    for number, name in enumerate(sorted(tree)):
        leaf_key, value = jax.random.fold_in(key, number), tree[name]
        if isinstance(value, Mapping):
            fresh[name] = _default_subtree(leaf_key, value)
        elif name == "kernel" and value.ndim == 4:
            fresh[name] = layers.he_normal_fan_out(leaf_key, value.shape, value.dtype)
        elif "kernel" in tree and tree["kernel"].ndim == 2 and name in ("kernel", "bias"):
            uniform = layers.uniform_fan_in(tree["kernel"].shape[0])
            fresh[name] = uniform(leaf_key, value.shape, value.dtype)
        elif name == "scale":
            fresh[name] = jnp.ones_like(value)
        elif name == "bias":
            fresh[name] = jnp.zeros_like(value)
        else:
            raise ValueError(
                f"parameter {name!r} of shape {value.shape} has no default: known are kernels of "
                "convolutions and linear layers, biases and batch-norm scales"
            )
    return fresh


def pretrained(source: Params, layers: Layers = None) -> ParamsInitializer:
    """Starts from a trained network as it is.

    Args:
        source: Parameters of the trained network. With `layers=None` every leaf is taken, except a
            last linear layer (called "fc") for another number of classes, which keeps its start.
        layers: Only these convolutions' kernels are taken.

    Raises:
        ValueError: The source lacks a parameter or has another shape there (when applied).
    """
    if layers is not None:
        return fill_layers(lambda key, name, kernel: _same_shape(source, name, kernel), layers)

    def init(key: PRNGKey, params: Params) -> Params:
        del key
        if jax.tree.structure(dict(params)) != jax.tree.structure(dict(source)):
            raise ValueError(
                "the pretrained parameters are of another network: their names differ; load a "
                "checkpoint of the same architecture"
            )

        def take(path: tuple, target: Array, value: Array) -> Array:
            if target.shape == value.shape:
                return jnp.asarray(value, target.dtype)
            if path[0].key == "fc":
                return target
            raise ValueError(
                f"pretrained {jax.tree_util.keystr(path)} has shape {value.shape}, the network "
                f"needs {target.shape}; load a checkpoint of the same architecture"
            )

        return jax.tree_util.tree_map_with_path(take, dict(params), dict(source))

    return init


def _same_shape(source: Params, name: str, kernel: Array) -> Array:
    value = filters.get_kernel(source, name)
    if value.shape != kernel.shape:
        raise ValueError(
            f"pretrained layer {name} has shape {value.shape}, the network needs {kernel.shape}; "
            "load a checkpoint of the same architecture"
        )
    return jnp.asarray(value, kernel.dtype)


def whole_filters(sources: Sequence[Params], layers: Layers = None) -> ParamsInitializer:
    """Draws each output channel's filter whole, with all its input channels, from trained networks.

    Input channels mean the same in all networks only in the first layer, where colours are; deeper,
    a filter meets other inputs than it was trained with, unless the networks are aligned first
    (`jaxinit.alignment`).

    Args:
        sources: Parameters of trained networks. Any that NumPy makes arrays of do.
        layers: Which convolutions (see `filters.select_layers`); None means all.

    Raises:
        ValueError: There are no sources, or one has another shape than the network but for the
            output channels (when applied).

    Example:
        >>> source = {"conv1": {"kernel": jnp.ones((3, 3, 2, 5))}}
        >>> params = {"conv1": {"kernel": jnp.zeros((3, 3, 2, 4))}}
        >>> made = whole_filters([source])(jax.random.key(0), params)
        >>> float(made["conv1"]["kernel"].sum())
        72.0
    """
    if not sources:
        raise ValueError("whole_filters needs at least one trained network")

    def make(key: PRNGKey, name: str, kernel: Array) -> Array:
        own = [jnp.asarray(filters.get_kernel(source, name), kernel.dtype) for source in sources]
        for index, one in enumerate(own):
            if one.shape[:3] != kernel.shape[:3]:
                raise ValueError(
                    f"layer {name} has shape {one.shape} in source {index}, the network needs "
                    f"{kernel.shape}, of which only the last may differ"
                )
        everything = jnp.concatenate(own, axis=3)
        chosen = jax.random.randint(key, kernel.shape[3:], 0, everything.shape[3])
        return everything[..., chosen]

    return fill_layers(make, layers)


def scaled(factor: float | Array, layers: Layers = None) -> ParamsInitializer:
    """Multiplies the kernels of some layers by a factor."""
    return fill_layers(lambda key, name, kernel: kernel * jnp.asarray(factor, kernel.dtype), layers)


def clustered_kernel(bank: banks.FilterBank, layer: str) -> Initializer:
    """Makes kernels of slices drawn from one layer of a bank; fits `kernel_init=`.

    Args:
        bank: Clusters of filters (`jaxinit.banks`).
        layer: Which of its layers to draw from.
    """

    def init(key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        return banks.draw(key, bank, layer, tuple(shape), dtype)

    return init


def clustered(bank: banks.FilterBank, layers: Layers = None) -> ParamsInitializer:
    """Single-filter clustering: draws each 2-D slice of each layer from that layer's clusters.

    Each slice is drawn independently: a cluster with probability proportional to its size, then
    that cluster's filter (paper, "single-filter clustering").

    Args:
        bank: Clusters of filters; must hold every layer that is asked for.
        layers: Which convolutions; None means all.

    Raises:
        ValueError: A layer that the bank does not hold, or with another kernel size (when applied).
    """
    return fill_layers(
        lambda key, name, kernel: banks.draw(key, bank, name, kernel.shape, kernel.dtype), layers
    )


def gabor_kernel(
    key: PRNGKey, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "h w i o"]:
    """Makes a kernel of Gabor filters, one an output channel, the same for all input channels.

    exp(−½(x'²/σ² + y'²γ²/σ²))·cos(2πx'/λ + ψ) with x' = x·cos θ + y·sin θ and
    y' = −x·sin θ + y·cos θ; σ ∈ U(1.5, 2.5), θ ∈ U(0, π), λ ∈ U(2, 13), ψ ∈ U(0, 2π),
    γ ∈ U(0.9, 1.1), on linspace(−size // 2, size // 2, size): for 7 taps from −4 to 3. Not
    rescaled: the norm is that of the formula.

    Args:
        key: Every output channel draws its five numbers independently.
        shape: (h, w, i, o).
        dtype: Of the result.
    """
    height, width, inputs, outputs = shape
    sigma_key, theta_key, wavelength_key, phase_key, aspect_key = jax.random.split(key, 5)

    def draw(own_key: PRNGKey, low: float, high: float) -> Array:
        return jax.random.uniform(own_key, (1, 1, outputs), jnp.float32, low, high)

    sigma, theta = draw(sigma_key, 1.5, 2.5), draw(theta_key, 0.0, jnp.pi)
    wavelength, phase = draw(wavelength_key, 2.0, 13.0), draw(phase_key, 0.0, 2 * jnp.pi)
    aspect = draw(aspect_key, 0.9, 1.1)
    y = _gabor_grid(height)[:, None, None]
    x = _gabor_grid(width)[None, :, None]
    along = x * jnp.cos(theta) + y * jnp.sin(theta)
    across = -x * jnp.sin(theta) + y * jnp.cos(theta)
    envelope = jnp.exp(-0.5 * (along**2 + across**2 * aspect**2) / sigma**2)
    slices = envelope * jnp.cos(2 * jnp.pi * along / wavelength + phase)
    kernel = jnp.broadcast_to(slices[:, :, None, :], (height, width, inputs, outputs))
    return kernel.astype(dtype)


def _gabor_grid(size: int) -> Array:
    # −size // 2 is (−size) // 2 in the authors' Python: −4 for 7, which the paper's values share.
    return jnp.linspace(-size // 2, size // 2, size, dtype=jnp.float32)


def gabor(layers: Layers = None) -> ParamsInitializer:
    """Fills some layers with Gabor filters (`gabor_kernel`); None means all."""
    return per_layer(gabor_kernel, layers)


def recommended() -> ParamsInitializer:
    """Gabor filters in the first layer, and all else as it is.

    On unseen tasks of CIFAR-100, with ResNet-18 and SGD at a rate of 0.01, it is better than the
    default start and needs no source models; `results/README.md` says what it rests on, and what
    was better where there are some. Part of the gain is its norm, twelve times the default's;
    `scaled(12, layers=1)` has the norm without the filters. Train the layer, although it turns by a
    few degrees only: frozen it ended 0.2 points ahead of the default start instead of 4.0. On
    images of another kind measure first: on the made-up ones of the quick experiments Gabor filters
    are far behind random ones.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = {"conv1": {"kernel": jnp.ones((7, 7, 3, 64))}}
        >>> recommended()(jax.random.key(0), params)["conv1"]["kernel"].shape
        (7, 7, 3, 64)
    """
    return gabor(layers=1)
