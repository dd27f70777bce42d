"""ResNet-18's variables from and to torchvision's state dict, without PyTorch: a mapping of names.

A state dict is taken and given as a mapping from names to NumPy arrays, which
`{k: v.numpy() for k, v in network.state_dict().items()}` makes, and
`network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})` reads.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.models import resnet

_MODULES = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# PyTorch's count of batches, which changes nothing unless a batch norm has no momentum.
_COUNTER = "num_batches_tracked"

# (out, in, h, w) of PyTorch to (h, w, in, out), and (out, in) to (in, out); and back.
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


def from_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the variables of `jaxinit.models.resnet.ResNet18` from a state dict.

    Args:
        state: torchvision's names to arrays, or anything that `np.asarray` takes;
            `num_batches_tracked` may be missing. The number of classes is that of "fc.weight".

    Returns:
        {"params": …, "batch_stats": …} in float32, for `network.apply`.

    Raises:
        ValueError: A name that is missing or that ResNet-18 does not have, or a wrong shape.
    """
    classes = np.shape(state.get("fc.weight", ()))[:1]
    expected = _abstract_variables(*classes)
    paths, structure = jax.tree_util.tree_flatten_with_path(expected)
    names = [_torch_name(path) for path, _ in paths]
    counters = {n.replace("running_var", _COUNTER) for n in names if n.endswith("running_var")}
    for name in names:
        if name not in state:
            raise ValueError(f"the state dict has no {name!r}: give one of torchvision's resnet18")
    for name in state:
        if name not in counters.union(names):
            raise ValueError(f"ResNet-18 has no {name!r}: give a state dict of its own")
    leaves = []
    for name, (_, leaf) in zip(names, paths, strict=True):
        value = np.asarray(state[name], np.float32)
        wanted = tuple(leaf.shape[axis] for axis in _TO_TORCH[leaf.ndim])
        if value.shape != wanted:
            raise ValueError(f"{name!r} has the shape {value.shape}: ResNet-18 needs {wanted}")
        # A copy, since PyTorch goes on writing to what it gave.
        leaves.append(jnp.array(value.transpose(_FROM_TORCH[leaf.ndim]), copy=True))
    return jax.tree_util.tree_unflatten(structure, leaves)


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Makes torchvision's state dict from the variables of `jaxinit.models.resnet.ResNet18`.

    Args:
        variables: {"params": …, "batch_stats": …}.

    Returns:
        Names to float32 arrays of their own; `num_batches_tracked`, counted by nobody here, is 0.

    Raises:
        ValueError: A tree that is not ResNet-18's.
    """
    given = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    paths, structure = jax.tree_util.tree_flatten_with_path(given)
    if structure != jax.tree.structure(_abstract_variables()):
        raise ValueError("these variables are not ResNet-18's: give those of models.resnet")
    state = {}
    for path, leaf in paths:
        name = _torch_name(path)
        # A copy, since PyTorch wants arrays that it may write to.
        state[name] = np.array(np.transpose(leaf, _TO_TORCH[leaf.ndim]), np.float32, order="C")
        if name.endswith("running_var"):
            state[name.replace("running_var", _COUNTER)] = np.zeros((), np.int64)
    return state


def _abstract_variables(classes: int = 1) -> Any:
    """Shapes of all variables; both variants of the network have the same ones."""
    network = resnet.ResNet18(classes=classes)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: network.init(k, x, train=False), jax.random.key(0), images)


def _torch_name(path: Any) -> str:
    """Translates ("params", "layer2_0", "shortcut_bn", "scale") to layer2.0.downsample.1.weight."""
    *modules, leaf = (str(entry.key) for entry in path[1:])
    parts = [_MODULES.get(module, module.replace("_", ".")) for module in modules]
    return ".".join([*parts, _LEAVES[leaf]])
