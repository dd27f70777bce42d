"""What networks are made of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit.models import modules


def test_batch_norm_by_hand():
    """Values 1 and 3: mean 2, variance 1 (biased) and 2 (unbiased); running 0.9 old + 0.1 new."""
    module, x = modules.BatchNorm(), jnp.asarray([[1.0], [3.0]])
    apply: Any = module.apply
    variables: Any = module.init(jax.random.key(0), x, train=True)
    assert float(variables["batch_stats"]["mean"][0]) == 0
    y, updated = apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y[:, 0], [-1, 1], rtol=1e-4)
    assert float(updated["batch_stats"]["mean"][0]) == pytest.approx(0.2)
    assert float(updated["batch_stats"]["var"][0]) == pytest.approx(0.9 + 0.1 * 2)
    z = apply({**variables, **updated}, x, train=False)
    np.testing.assert_allclose(z[:, 0], [0.8 / np.sqrt(1.1), 2.8 / np.sqrt(1.1)], rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 16])
def test_max_pool_is_pytorchs(torch, size):
    """Values and gradients; the values differ, so that each maximum is at one place."""
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * size * size * 3).reshape(2, size, size, 3).astype(np.float32)
    y, back = jax.vjp(modules.max_pool, jnp.asarray(x))
    weights = rng.normal(size=y.shape).astype(np.float32)
    other = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(other, 3, 2, 1)
    pooled.backward(torch.tensor(weights.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(y, pooled.detach().numpy().transpose(0, 2, 3, 1))
    gradient = other.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(back(jnp.asarray(weights))[0][x > 0], gradient[x > 0], atol=1e-6)
