"""The networks by name: how each is made, what PyTorch calls its modules, and its symmetry.

To add a network, add a line to `_NETWORKS`; one of another kind needs a module with its form, its
`symmetry`, and what PyTorch calls its modules. Everything else, weights, experiments and tests
included, goes by the registry.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen
from jax.typing import DTypeLike

from jaxinit import choices
from jaxinit.models import convolution, resnet, vgg
from jaxinit.signatures import Symmetry


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        name: By which it is asked for.
        form: The Flax module; its number of classes, dtype and convolution do not matter.
        symmetry_of: Makes the symmetry of the form.
        torch_modules: What PyTorch calls modules, or parts of their paths, where it is not our name
            with "." for "_".
    """

    name: str
    form: linen.Module
    symmetry_of: Callable[[Any], Symmetry]
    torch_modules: Mapping[str, str]

    def make(
        self,
        *,
        classes: int,
        dtype: DTypeLike = jnp.float32,
        convolve: convolution.Convolution = convolution.matmul_convolution,
    ) -> linen.Module:
        """Makes the Flax module, which is called as `network.apply(variables, images, train=…)`.

        Args:
            classes: Number of logits.
            dtype: Of the arithmetic.
            convolve: What computes the convolutions.
        """
        return self.form.clone(classes=classes, dtype=dtype, convolve=convolve)

    def symmetry(self) -> Symmetry:
        """Says which channels can be permuted together, for `jaxinit.alignment`."""
        return self.symmetry_of(self.form)

    def torch_name(self, modules: tuple[str, ...]) -> str:
        """Translates a module's path, such as ("layer2_0", "conv1") to "layer2.0.conv1"."""
        names = (self.torch_modules.get(part, part.replace("_", ".")) for part in modules)
        return ".".join(names)


def _resnet(
    name: str, *, torch_modules: Mapping[str, str] | None = None, **form: Any
) -> Architecture:
    names = {
        "shortcut_conv": "downsample.0",
        "shortcut_bn": "downsample.1",
        **(torch_modules or {}),
    }
    return Architecture(name, resnet.ResNet(classes=1, **form), resnet.symmetry, names)


def _cifar_resnet(name: str, blocks: int) -> Architecture:
    """The form that He et al. trained on CIFAR, with the names of its best-known port."""
    return _resnet(
        name,
        stages=(blocks,) * 3,
        widths=(16, 32, 64),
        stem="cifar",
        shortcut="padding",
        torch_modules={"fc": "linear"},
    )


def _vgg(name: str, head: str) -> Architecture:
    form = vgg.VGG(classes=1, head=head)
    return Architecture(name, form, vgg.symmetry, vgg.torch_modules(form))


_NETWORKS = (
    _resnet("resnet18"),
    _resnet("custom", residual_first_stage=False),
    _resnet("resnet18-cifar", stem="cifar"),
    _resnet("resnet34", stages=(3, 4, 6, 3)),
    _resnet("resnet50", stages=(3, 4, 6, 3), block="bottleneck"),
    _cifar_resnet("resnet20", 3),
    _cifar_resnet("resnet32", 5),
    _cifar_resnet("resnet56", 9),
    _vgg("vgg11", "linear"),
    _vgg("vgg11-imagenet", "imagenet"),
)
_BY_NAME = {network.name: network for network in _NETWORKS}


def names() -> tuple[str, ...]:
    """Lists the names of all networks.

    Example:
        >>> names()[:3]
        ('resnet18', 'custom', 'resnet18-cifar')
    """
    return tuple(_BY_NAME)


def get(name: str) -> Architecture:
    """Returns the network of this name.

    Args:
        name: One of `names()`.

    Raises:
        ValueError: There is none.

    Example:
        >>> network = get("resnet20").make(classes=10)
        >>> network.widths
        (16, 32, 64)
    """
    if not isinstance(name, str) or name not in _BY_NAME:
        raise choices.unknown(f"network {name!r}", _BY_NAME)
    return _BY_NAME[name]
