"""The types that the library speaks in: trees of parameters, symmetries, kinds of initialiser."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, UInt32

from jaxinit.layers import Network

#: Any tree of parameters: the "params" collection of a Flax module, NNX state or a module, an
#: Equinox module, Haiku's dictionaries.
Params = Any

#: For the path of each array, such as "params/conv1/kernel", the name of the permutation of each
#: of its axes; None where the axis has a fixed order. Arrays that are not named have no others.
Symmetry = Mapping[str, tuple[str | None, ...]]

#: One key, new-style (`jax.random.key`) or raw (`jax.random.PRNGKey`).
PRNGKey = Key[Array, ""] | UInt32[Array, "2"]


@runtime_checkable
class Initializer(Protocol):
    """Makes one array, as `jax.nn.initializers` do: fits `kernel_init=` of any Flax module."""

    def __call__(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = ..., /
    ) -> Float[Array, "..."]:
        """Returns an array of this shape and dtype, drawn with `key`."""
        ...


#: Any function of key and parameters alone: what `chain` and the controls take as well.
PlainInitializer = Callable[[PRNGKey, Params], Params]


@runtime_checkable
class ParamsInitializer(Protocol):
    """Maps a tree of parameters to another of the same structure, so it knows each layer."""

    def __call__(self, key: PRNGKey, params: Params, /, *, network: Network | None = ...) -> Params:
        """Returns new parameters; leaves that it does not concern are passed through.

        Args:
            key: Draws them.
            params: A tree of parameters.
            network: Its convolutions (`jaxinit.trace`), in the order of their calls. Only the trees
                of `jaxinit.models.resnet`, whose names tell the order, do without.
        """
        ...
