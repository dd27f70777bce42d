"""All initialisers by name and in one form, so that comparing them is one line.

starts = {name: jaxinit.start(name, layers=1) for name in jaxinit.catalogue.names("nothing")}
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args

from jaxinit import choices, controls, initializers, kernel_init
from jaxinit.layers import Layers
from jaxinit.signatures import Initializer, ParamsInitializer

#: What initialisers are made from.
Needs = Literal["nothing", "images", "a bank", "networks", "a network and images"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One initialiser.

    Attributes:
        name: By which it is asked for.
        makes: Given options, makes an `Initializer` where `of_kernels` holds, and given layers and
            options a `ParamsInitializer` elsewhere.
        of_kernels: Whether it knows nothing but a kernel's shape, and so fits `kernel_init=`.
        needs: What it is made from; given by an option of its own.
        first_layers: Whether it is meant for layers that see images.
        source: Where it was described.
    """

    name: str
    makes: Callable[..., Any]
    of_kernels: bool
    needs: Needs
    first_layers: bool
    source: str

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options; those without a default come first."""
        names = inspect.signature(self.makes).parameters
        return tuple(name for name in names if name != "layers")

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of its options that have one."""
        options = inspect.signature(self.makes).parameters.values()
        given = {own.name: own.default for own in options if own.default is not own.empty}
        return {name: value for name, value in given.items() if name != "layers"}


def _entry(
    makes: Callable[..., Any],
    source: str,
    *,
    name: str | None = None,
    needs: Needs = "nothing",
    first_layers: bool = False,
    of_kernels: bool = True,
) -> Entry:
    return Entry(name or makes.__name__, makes, of_kernels, needs, first_layers, source)


def _gabor() -> Initializer:
    return kernel_init.gabor_kernel


def _lsuv(
    apply: Callable[..., Any],
    images: Any,
    layers: Layers = None,
    target: float = 1.0,
    tolerance: float = 0.1,
    iterations: int = 10,
) -> ParamsInitializer:
    return initializers.lsuv(
        apply, images, layers=layers, target=target, tolerance=tolerance, iterations=iterations
    )


_TROCKMAN = "Trockman, Willmott and Kolter 2023"
_PAPER = "Ulm, Bayer, Diaz-Bone and Jüni 2023"
_KELLER = "Jordan 2024, after Page 2019 and tysam 2023"

_ENTRIES = (
    _entry(kernel_init.torchvision, "He et al. 2015; torchvision's ResNet"),
    _entry(kernel_init.he_normal, "He et al. 2015"),
    _entry(kernel_init.he_uniform, "He et al. 2015"),
    _entry(kernel_init.lecun_normal, "LeCun et al. 1998"),
    _entry(kernel_init.lecun_uniform, "LeCun et al. 1998"),
    _entry(kernel_init.glorot_normal, "Glorot and Bengio 2010"),
    _entry(kernel_init.glorot_uniform, "Glorot and Bengio 2010"),
    _entry(kernel_init.orthogonal, "Saxe et al. 2014"),
    _entry(kernel_init.delta_orthogonal, "Xiao et al. 2018"),
    _entry(_gabor, _PAPER, name="gabor", first_layers=True),
    _entry(kernel_init.centred_gabor_kernel, _PAPER, name="centred_gabor", first_layers=True),
    _entry(kernel_init.colour_gabor, "Gabor filters with colours", first_layers=True),
    _entry(kernel_init.difference_of_gaussians, "Marr and Hildreth 1980", first_layers=True),
    _entry(kernel_init.gaussian_derivatives, "Freeman and Adelson 1991", first_layers=True),
    _entry(
        kernel_init.natural_whitening,
        "Jordan 2024's whitening, of a formula",
        first_layers=True,
    ),
    _entry(kernel_init.patch_whitening, _KELLER, needs="images", first_layers=True),
    _entry(kernel_init.patch_kmeans, "Coates and Ng 2011", needs="images", first_layers=True),
    _entry(kernel_init.smooth, "Feinman and Lake 2019"),
    _entry(initializers.closed_form, f"after {_TROCKMAN}", of_kernels=False),
    _entry(kernel_init.dct, "Ulicny et al. 2019"),
    _entry(kernel_init.dirac, "Zagoruyko and Komodakis 2017; torch.nn.init.dirac_"),
    _entry(kernel_init.impulse, "Zheng et al. 2024"),
    _entry(initializers.clustered, _PAPER, needs="a bank", of_kernels=False),
    _entry(controls.gaussian, "moments of a bank's clusters", needs="a bank", of_kernels=False),
    _entry(
        initializers.bootstrap, "slices of networks as they are", needs="networks", of_kernels=False
    ),
    _entry(initializers.covariance, _TROCKMAN, needs="networks", of_kernels=False),
    _entry(initializers.whole_filters, _PAPER, needs="networks", of_kernels=False),
    _entry(initializers.weight_selection, "Xu et al. 2024", needs="networks", of_kernels=False),
    _entry(initializers.pretrained, "fine-tuning", needs="networks", of_kernels=False),
    _entry(
        _lsuv,
        "Mishkin and Matas 2016",
        name="lsuv",
        needs="a network and images",
        of_kernels=False,
    ),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def names(needs: str | None = None) -> tuple[str, ...]:
    """The names of all initialisers, or of those that are made from the same.

    Args:
        needs: One of `Needs`.

    Raises:
        ValueError: Nothing is made from that.

    Example:
        >>> names("images")
        ('patch_whitening', 'patch_kmeans')
    """
    if needs is not None and not (isinstance(needs, str) and needs in get_args(Needs)):
        raise choices.unknown(f"needs={needs!r}", get_args(Needs))
    return tuple(name for name, entry in _BY_NAME.items() if needs in (None, entry.needs))


def get(name: str) -> Entry:
    """Finds an initialiser.

    Raises:
        ValueError: There is none of this name.
    """
    if not isinstance(name, str) or name not in _BY_NAME:
        raise choices.unknown(f"initialiser {name!r}", _BY_NAME)
    return _BY_NAME[name]


def kernel(name: str, **options: Any) -> Initializer:
    """Makes the initialiser of one layer: `(key, shape, dtype) → kernel`, for `kernel_init=`.

    Args:
        name: One of `names()` that knows nothing but a kernel's shape.
        **options: Its own (`get(name).options`).

    Raises:
        ValueError: There is none of this name, or it fills whole trees, or an option that it has
            not, or lacks.

    Example:
        >>> import jax
        >>> kernel("dct")(jax.random.key(0), (3, 3, 2, 8)).shape
        (3, 3, 2, 8)
    """
    entry = get(name)
    if not entry.of_kernels:
        raise ValueError(f"{name} fills whole trees of parameters: take jaxinit.start({name!r}, …)")
    return _made(entry, options)


def start(name: str, layers: Layers = None, **options: Any) -> ParamsInitializer:
    """Makes an initialiser of whole trees: `(key, params, network=network) → params`.

    Args:
        name: One of `names()`.
        layers: Which convolutions it fills (see `Network.select`); None means all main layers.
        **options: Its own (`get(name).options`); `groups` are each layer's where not given.

    Raises:
        ValueError: As of `kernel`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = {"conv1": {"kernel": jnp.zeros((7, 7, 3, 8))}}
        >>> made = start("colour_gabor", layers=1)(jax.random.key(0), params)
        >>> bool(jnp.any(made["conv1"]["kernel"] != 0))
        True
    """
    entry = get(name)
    if entry.of_kernels and "groups" in entry.options and "groups" not in options:
        _made(entry, options)  # what is wrong with them is said at once
        return initializers.fill_layers(
            lambda key, layer, kernel: entry.makes(**options, groups=layer.groups)(
                key, kernel.shape, kernel.dtype
            ),
            layers,
        )
    if entry.of_kernels:
        return initializers.per_layer(_made(entry, options), layers)
    return _made(entry, {**options, "layers": layers})


def _made(entry: Entry, options: dict[str, Any]) -> Any:
    try:
        inspect.signature(entry.makes).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"{entry.name} is made with the options {', '.join(entry.options) or '(none)'}, but "
            f"{error}"
        ) from None
    return entry.makes(**options)
