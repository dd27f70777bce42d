"""The variables of every registered network from and to PyTorch's state dicts, without PyTorch.

A state dict is a mapping from names to arrays: torchvision's names, which timm shares for the same
networks, and for the CIFAR forms those of their best-known port. PyTorch's own becomes one by
`{k: v.numpy() for k, v in network.state_dict().items()}`; PyTorch reads ours by
`network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})`. Files are read by
`jaxinit.open_weights`.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit import checks
from jaxinit.models import convolution, registry
from jaxinit.weights import StoredArray

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_STATISTICS = (".running_mean", ".running_var")
# PyTorch's count of batches, which changes nothing unless a batch norm has no momentum.
_COUNTER = "num_batches_tracked"
# Under which training programs keep a state dict in what they save, and what some put before names.
_WRAPPERS = ("state_dict", "model")
_PREFIX = "module."
_DEEP_STEM = "conv1.0.weight"

# (out, in, h, w) of PyTorch to (h, w, in, out), and (out, in) to (in, out); and back.
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


class _Place(NamedTuple):
    """Where an array lies in our tree, and its shape there with a single class."""

    path: tuple[str, ...]
    shape: tuple[int, ...]

    def torch_shape(self, classes: int) -> tuple[int, ...]:
        """The shape in PyTorch; no other array than the logits' ends in a single channel."""
        shape = (*self.shape[:-1], classes) if self.shape[-1] == 1 else self.shape
        return tuple(shape[axis] for axis in _TO_TORCH[len(shape)])


def from_torch(
    state: Mapping[str, Any], network: str | None = None, *, lazy: bool = False
) -> dict[str, Any]:
    """Makes the variables of a registered network from a state dict.

    Args:
        state: PyTorch's names to arrays, or anything that `np.asarray` takes; `num_batches_tracked`
            may be missing, all names may begin with "module.", and all may lie within
            "state_dict" or "model". The number of classes is that of the last layer.
        network: One of `registry.names()`; where not given, the first that the names and shapes
            fit. "custom" has those of "resnet18".
        lazy: Leave arrays where they are, as they are, until NumPy asks for them, such as those of
            `jaxinit.open_weights`: for `jaxinit.banks.fit`, which reads a layer at a time.

    Returns:
        {"params": …, "batch_stats": …}, for `network.apply`: in float32 and of their own, unless
        lazy.

    Raises:
        ValueError: A network that is not known; a name that is missing or that the network does not
            have, or a wrong shape.
    """
    if not isinstance(state, Mapping):
        raise ValueError(
            f"a state dict maps names to arrays, but this is a {type(state).__name__}: read files "
            "with jaxinit.open_weights"
        )
    state = _unwrapped(state)
    found = network_of(state) if network is None else registry.get(network).name
    if problem := _problem(state, found):
        raise ValueError(_explained(state, found, problem))
    variables: dict[str, Any] = {}
    for name, place in _layout(found).items():
        node = variables
        for part in place.path[:-1]:
            node = node.setdefault(part, {})
        axes = _FROM_TORCH[len(place.shape)]
        if lazy:
            value = state[name]
            value = value if isinstance(value, StoredArray) else np.asarray(value)
            node[place.path[-1]] = value.transpose(axes)
        else:
            value = np.asarray(state[name], np.float32)
            # A copy, since PyTorch goes on writing to what it gave.
            node[place.path[-1]] = jnp.array(value.transpose(axes), copy=True)
    return variables


def network_of(state: Mapping[str, Any]) -> str:
    """Finds the first registered network that a state dict is of.

    Args:
        state: As for `from_torch`.

    Raises:
        ValueError: There is none; the sentence says what is in the way of the nearest.
    """
    state, problems = _unwrapped(state), {}
    for name in registry.names():
        problem = _problem(state, name)
        if problem is None:
            return name
        problems[name] = problem
    nearest = min(problems, key=lambda name: _distance(state, name))
    raise ValueError(_explained(state, nearest, problems[nearest]))


def to_torch(variables: Mapping[str, Any], network: str | None = None) -> dict[str, np.ndarray]:
    """Makes PyTorch's state dict from the variables of a registered network.

    Args:
        variables: {"params": …, "batch_stats": …}.
        network: One of `registry.names()`; where not given, the first that they fit.

    Returns:
        Names to float32 arrays of their own; `num_batches_tracked`, counted by nobody here, is 0.

    Raises:
        ValueError: A network that is not known, or a tree that is not of one.
    """
    checks.mapping("variables", variables, '{"params": …, "batch_stats": …}')
    if not {"params", "batch_stats"} <= set(variables):
        raise ValueError('give all variables of the network: {"params": …, "batch_stats": …}')
    given = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    leaves = {
        tuple(str(entry.key) for entry in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(given)[0]
    }
    known = registry.names() if network is None else (registry.get(network).name,)
    found = next((name for name in known if _is_of(leaves, name)), None)
    if found is None:
        whose = "a registered network's" if network is None else f"those of {network}"
        raise ValueError(f"these variables are not {whose}: give params and batch_stats of one")
    state: dict[str, np.ndarray] = {}
    for name, place in _layout(found).items():
        leaf = leaves[place.path]
        # A copy, since PyTorch wants arrays that it may write to.
        state[name] = np.array(np.transpose(leaf, _TO_TORCH[leaf.ndim]), np.float32, order="C")
        if name.endswith("running_var"):
            state[name.replace("running_var", _COUNTER)] = np.zeros((), np.int64)
    return state


@functools.cache
def _layout(network: str) -> dict[str, _Place]:
    """For each of PyTorch's names, where the array lies in our tree."""
    entry = registry.get(network)
    # Only shapes are asked for: the plain convolution is traced fastest.
    module = entry.make(classes=1, convolve=convolution.plain_convolution)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(
        lambda key, x: module.init(key, x, train=False), jax.random.key(0), images
    )
    places = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        names = tuple(str(entry.key) for entry in path)
        torch_name = f"{entry.torch_name(names[1:-1])}.{_LEAVES[names[-1]]}"
        places[torch_name] = _Place(names, leaf.shape)
    return places


def _unwrapped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Takes off what training programs put around a state dict and before its names."""
    checks.mapping("state", state, "a state dict: PyTorch's names to arrays")
    for name in state:
        checks.kind("each name of a state dict", name, str, "a text")
    for wrapper in _WRAPPERS:
        if isinstance(inner := state.get(wrapper), Mapping):
            return _unwrapped(inner)
    if state and all(name.startswith(_PREFIX) for name in state):
        return {name.removeprefix(_PREFIX): value for name, value in state.items()}
    return state


def _foreign(state: Mapping[str, Any], network: str) -> list[str]:
    """The names that the network does not have."""
    layout = _layout(network)
    counters = {n.replace("running_var", _COUNTER) for n in layout if n.endswith("running_var")}
    return [name for name in state if name not in layout and name not in counters]


def _classes(state: Mapping[str, Any], network: str) -> int:
    """The rows of the last layer's weight, the only one with a single class in the layout."""
    weights = [n for n, p in _layout(network).items() if p.shape[-1] == 1 and len(p.shape) == 2]
    shape = np.shape(state.get(weights[0], ()))
    return shape[0] if shape else 1


def _problem(state: Mapping[str, Any], network: str) -> str | None:
    """A sentence on the first thing that keeps a state dict from being the network's."""
    layout = _layout(network)
    for name in layout:
        if name not in state:
            return f"the state dict has no {name!r}: give a whole one of {network}"
    for name in _foreign(state, network):
        return f"{network} has no {name!r}: give a state dict of its own"
    classes = _classes(state, network)
    for name, place in layout.items():
        shape, wanted = tuple(np.shape(state[name])), place.torch_shape(classes)
        if shape != wanted:
            return f"{name!r} has the shape {shape}: {network} needs {wanted}"
    return None


def _explained(state: Mapping[str, Any], network: str, problem: str) -> str:
    """Says what is known about the cause of a problem, else the problem itself."""
    if _DEEP_STEM in state:
        return (
            f"the state dict has {_DEEP_STEM!r}, a stem of several convolutions as in ResNet-C and "
            "-D: give one of a network with a single one, such as torchvision's"
        )
    statistics = [name for name in _layout(network) if name.endswith(_STATISTICS)]
    if set(_layout(network)) - set(state) == set(statistics):
        return (
            f"the state dict has no batch statistics, such as {statistics[0]!r}: give a whole one, "
            "not the parameters alone"
        )
    for other in registry.names():
        if other != network and _problem(state, other) is None:
            return (
                f"the state dict is one of {other}, not of {network}: ask for {other}, or leave "
                "the network out"
            )
    return problem


def _distance(state: Mapping[str, Any], network: str) -> float:
    """The share of names, of a state dict or a network, without a counterpart of equal shape."""
    classes = _classes(state, network)
    wrong = [
        name
        for name, place in _layout(network).items()
        if name not in state or tuple(np.shape(state[name])) != place.torch_shape(classes)
    ]
    foreign = len(_foreign(state, network))
    return (len(wrong) + foreign) / (len(_layout(network)) + foreign)


def _is_of(leaves: Mapping[tuple[str, ...], Any], network: str) -> bool:
    shapes = {place.path: place.shape for place in _layout(network).values()}
    if shapes.keys() != leaves.keys():
        return False
    return all(
        leaves[path].shape == shape
        or (shape[-1] == 1 and len(leaves[path].shape) and leaves[path].shape[:-1] == shape[:-1])
        for path, shape in shapes.items()
    )
