"""What the rules of operations tie is what may be permuted: of each by itself, and at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxinit import alignment, symmetry, tied_axes


def drawn(names, seed):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal((4, 4)).astype(np.float32) / 2) for name in names}


def permuted_at_random(variables, found, seed):
    rng = np.random.default_rng(seed)
    sizes = alignment.sizes(variables, found)
    return alignment.permute(variables, found, {k: rng.permutation(n) for k, n in sizes.items()})


# What turns an array (4, 4) into another; of one axis, both or none the order is kept.
STEPS = {
    "softmax": lambda x: jax.nn.softmax(x, axis=1),
    "centred": lambda x: x - x.mean(0, keepdims=True),
    "transpose": lambda x: x.T,
    "cumsum": lambda x: jnp.cumsum(x, axis=0) / 4,
    "sort": lambda x: jnp.sort(x, axis=1),
    "flip": lambda x: x[::-1],
    "roll": lambda x: jnp.roll(x, 1, axis=1),
    "shift": lambda x: jax.lax.pad(x, np.float32(0), ((1, -1, 0), (0, 0, 0))),
    "flat": lambda x: x.reshape(-1)[::-1].reshape(4, 4),
    "merge": lambda x: x.reshape(2, 2, 4).transpose(1, 0, 2).reshape(4, 4),
    "unit": lambda x: jnp.tanh(x.reshape(1, 4, 1, 4)).reshape(4, 4),
    "join": lambda x: jnp.concatenate([x[:2], x[:2]], axis=0),
    "best": lambda x: x + jax.nn.one_hot(jnp.argmax(x, axis=1), 4),
    "top": lambda x: jax.lax.top_k(x, 4)[0],
    "take": lambda x: jnp.take(x, jnp.array([1, 0, 3, 2]), axis=0),
    "lookup": lambda x: x[jnp.argmax(x, axis=1)],
    "square": lambda x: jnp.tanh(x @ x),
    "gram": lambda x: jnp.tanh(x.T @ x),
    "diagonal": lambda x: x + jnp.diag(jnp.diag(x)),
    "triangle": lambda x: jnp.tril(x),
    "where": lambda x: jnp.where(x > 0, x, x.max(1, keepdims=True)),
    "update": lambda x: x.at[1].set(2.0),
    "slot": lambda x: jax.lax.dynamic_update_slice(x, 0.5 * x[2:3], (1, 0)),
    "window": lambda x: linen.max_pool(x[None, :, :, None], (2, 1), (1, 1), "SAME")[0, :, :, 0],
    "scan": lambda x: jax.lax.scan(lambda c, y: (jnp.tanh(c + y), c * y), x[0], x)[1],
    "loop": lambda x: jax.lax.fori_loop(0, 2, lambda _, y: jnp.tanh(y @ x), x),
    "vmap": lambda x: jax.vmap(lambda row: jnp.tanh(row.sum() * row))(x),
    "fourier": lambda x: jnp.fft.fft(x, axis=0).real / 4,
    "derivative": lambda x: jax.grad(lambda y: (jax.nn.softmax(y, axis=0) ** 3).sum())(x),
    "switch": lambda x: jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: x.T, x),
    "total": lambda x: jnp.broadcast_to(x.sum(0, keepdims=True), (4, 4)) / 4,
    "tile": lambda x: jnp.tile(x[:2], (2, 1)),
    "repeat": lambda x: jnp.repeat(x[:, :2], 2, axis=1),
    "rows": lambda x: jnp.tile(x.mean(0, keepdims=True), (4, 1)),
    "stack": lambda x: jnp.stack([row * k for k, row in enumerate(jnp.unstack(x), 1)]) / 4,
    "pair": lambda x: jnp.stack([x, jnp.sin(x)], axis=1).max(1),
    "einsum": lambda x: jnp.tanh(jnp.einsum("ij,kj->ki", x, x)),
}


PAIRS = (lambda x, y: jnp.tanh(x @ y), jnp.add, lambda x, y: jnp.where(x > y, x, jnp.tanh(y)))


def random_program(seed):
    """A program of random steps on arrays of one size, so that no axis is told by its length."""
    rng = np.random.default_rng(seed)
    steps = [(str(rng.choice(list(STEPS))), rng.integers(100, size=3)) for _ in range(3)]

    def apply(variables, x):
        pool = [*variables.values(), jnp.tanh(x @ variables["a"])]
        for name, (first, second, kind) in steps:
            one, other = pool[first % len(pool)], pool[second % len(pool)]
            both = PAIRS[kind % 3](one, other)
            pool += [both, STEPS[name](both if kind > 30 else one)]
        return jnp.stack([(made**3).sum() for made in pool[5:]])

    return apply


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_understood_or_keeps_the_order(name):
    variables = drawn("ab", 0)

    def alone(variables, x):
        return (STEPS[name](variables["a"] + x) ** 3).sum()

    def paired(variables, x):  # with an array that must be permuted as the result is
        return (STEPS[name](variables["a"] + x) * variables["b"]).sum()

    for apply in (alone, paired):
        found = symmetry.derive(apply, variables, jnp.float32(0.5))
        run = jax.jit(apply)
        for seed in range(5):
            moved = permuted_at_random(variables, found, seed)
            pair = (run(v, jnp.float32(0.5)) for v in (variables, moved))
            np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-4)


def test_no_random_program_is_changed():
    tried = 0
    for seed in range(120):
        apply = random_program(seed)
        variables = drawn("abcd", seed)
        x = jax.random.normal(jax.random.key(seed), (4, 4))
        found = symmetry.derive(apply, variables, x)
        if not found:
            continue
        tried += len(alignment.sizes(variables, found))
        before, after = (
            apply(v, x) for v in (variables, permuted_at_random(variables, found, seed))
        )
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    assert tried > 40


def test_what_has_no_rule_keeps_its_order():
    assert tied_axes.marks("of nobody", {}, [(2, 3)], [(4,)]) == ([(None, None)], [(None,)])
