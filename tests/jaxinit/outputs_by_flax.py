"""What the convolutions of a Flax module put out, as Flax itself shows it."""

import jax
import numpy as np
from flax import linen

from jaxinit.models import resnet


def captured(module, variables, *args, **kwargs):
    """The output of each convolution, by the path of its module."""
    _, state = module.apply(
        variables,
        *args,
        **kwargs,
        capture_intermediates=lambda own, _: isinstance(own, linen.Conv | resnet.Conv),
        mutable=["intermediates", "batch_stats"],
    )
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state["intermediates"]):
        names = [key.key for key in path if hasattr(key, "key")]
        found["/".join(names[:-1])] = np.asarray(leaf, np.float64)
    return found
