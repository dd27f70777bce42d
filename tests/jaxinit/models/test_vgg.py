"""VGG against torchvision's: names, shapes and pooling."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.models import torch as torch_weights
from jaxinit.models import vgg


def test_the_whole_vgg_is_torchvisions(torch):
    """Its classifier of 120 million parameters: names and shapes alone."""
    from benchmarks import torch_reference

    try:
        models = torch_reference.torchvision_models()
    except ImportError as error:
        pytest.skip(str(error))
    torch_weights._layout.cache_clear()
    layout = torch_weights._layout("vgg11-imagenet")
    torch_weights._layout.cache_clear()
    with torch.device("meta"):
        theirs = models.vgg11_bn().state_dict()
    ours = {name: place.torch_shape(1000) for name, place in layout.items()}
    shapes = {k: tuple(v.shape) for k, v in theirs.items() if not k.endswith("tracked")}
    assert ours == shapes


@pytest.mark.parametrize("size", [1, 2, 5, 7, 9, 14])
def test_adaptive_pooling_is_pytorchs(torch, size):
    x = np.random.default_rng(0).normal(size=(2, size, size + 1, 3)).astype(np.float32)
    theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), 7)
    ours = vgg.adaptive_average_pool(jnp.asarray(x), 7)
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-6)
