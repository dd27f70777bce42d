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


@pytest.mark.parametrize(
    ("mean", "spread"), [(0.0, 1.0), (1e3, 1.0), (4096.5, 0.5), (-1e5, 1.0), (1e-8, 1e-6)]
)
def test_batch_norm_keeps_its_digits_far_from_zero(torch, mean, spread):
    """Values, running statistics and gradients, beside PyTorch's, against it in float64."""
    rng = np.random.default_rng(0)
    x = (mean + spread * rng.standard_normal((64, 4, 4, 3))).astype(np.float32)
    weights = rng.standard_normal(x.shape).astype(np.float32)
    module = modules.BatchNorm()
    variables: Any = module.init(jax.random.key(0), jnp.asarray(x), train=True)

    def loss(params, x):
        apply: Any = module.apply
        given = {**variables, "params": params}
        y, updated = apply(given, x, train=True, mutable=["batch_stats"])
        return jnp.sum(y * weights), (y, updated["batch_stats"])

    gradient = jax.grad(loss, (0, 1), has_aux=True)
    (params, dx), (y, stats) = gradient(variables["params"], jnp.asarray(x))
    found = {**params, **stats, "x": dx, "y": y}

    def other(dtype):
        layer = torch.nn.BatchNorm2d(3, dtype=dtype)
        leaf = torch.tensor(x.transpose(0, 3, 1, 2), dtype=dtype, requires_grad=True)
        out = layer(leaf)
        out.backward(torch.tensor(weights.transpose(0, 3, 1, 2), dtype=dtype))
        known = {"scale": layer.weight.grad, "bias": layer.bias.grad, "x": leaf.grad, "y": out}
        known |= {"mean": layer.running_mean, "var": layer.running_var}
        plain = {name: np.asarray(value.detach()) for name, value in known.items()}
        return {n: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for n, v in plain.items()}

    right, theirs = other(torch.float64), other(torch.float32)
    for name, wanted in right.items():
        ours, torchs = (np.abs(np.asarray(own[name]) - wanted).max() for own in (found, theirs))
        assert ours <= 2 * torchs + 1e-5 * np.abs(wanted).max(), name


def test_batch_norm_of_two_neighbouring_values():
    module, x = modules.BatchNorm(), jnp.asarray([[4096.0], [4097.0]])
    apply: Any = module.apply
    variables: Any = module.init(jax.random.key(0), x, train=True)
    y, updated = apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y[:, 0], [-1, 1], rtol=1e-4)
    assert float(updated["batch_stats"]["var"][0]) == pytest.approx(0.9 + 0.1 * 0.5)


def test_batch_norm_has_its_second_derivatives():
    """The shift is no variable: derivatives of every order are those of the plain formula."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 1)), jnp.float32)
    module = modules.BatchNorm()
    variables: Any = module.init(jax.random.key(0), x, train=True)

    def ours(x):
        apply: Any = module.apply
        return jnp.sum(apply(variables, x, train=True, mutable=["batch_stats"])[0] ** 3)

    def plain(x):
        return jnp.sum(((x - x.mean()) / jnp.sqrt(x.var() + 1e-5)) ** 3)

    np.testing.assert_allclose(jax.hessian(ours)(x), jax.hessian(plain)(x), rtol=1e-3, atol=1e-4)


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
