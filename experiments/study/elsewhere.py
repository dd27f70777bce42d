"""The first layer of a network that was trained elsewhere: a ceiling rather than a competitor."""

import hashlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

import jaxinit
from experiments.cli.errors import UserError
from experiments.cli.options import check
from experiments.runs.variants import Variant
from jaxinit import initializers
from jaxinit.models import registry


def first_layer(path: str | None, network: str, shape: Sequence[int]) -> Variant:
    """The filters of a file's first convolution, each of norm 1, but for those that are zero.

    Args:
        path: A file of weights in PyTorch's names and layout.
        network: Whose first convolution it is, and which is started.
        shape: Of that convolution's kernel in the network that is started: (h, w, in, out).

    Raises:
        UserError: No file is given, or it cannot be read, lacks that layer, or has one of another
            shape.
    """
    check(path is not None, "say where the first layer called weights is: --weights FILE")
    name = f"{registry.get(network).torch_name(('conv1',))}.weight"
    try:
        stored = jaxinit.open_weights(str(path))
        if name not in stored:
            raise ValueError(f"{path} has no {name}: give weights of a {network}")
        filters = np.asarray(stored[name], np.float32)
        if filters.shape != (needed := tuple(shape[axis] for axis in (3, 2, 0, 1))):
            raise ValueError(
                f"{path} has a {name} of shape {filters.shape}, and the {network} for these images "
                f"needs {needed}: give weights of one"
            )
    except (ValueError, OSError, ImportError) as error:
        raise UserError(str(error)) from error
    norms = np.sqrt(np.square(filters).sum((1, 2, 3), keepdims=True))
    kernel = (filters / np.where(norms > 0, norms, 1)).transpose(2, 3, 1, 0)
    checksum = hashlib.sha256(filters.tobytes()).hexdigest()[:16]
    return Variant(
        "weights-1",
        "First layer trained elsewhere",
        lambda: initializers.pretrained({"conv1": {"kernel": jnp.asarray(kernel)}}, layers=1),
        {"kind": "weights", "layers": 1, "checksum": checksum},
    )
