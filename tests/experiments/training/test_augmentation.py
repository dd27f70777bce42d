"""Flips and rotations: quarter turns by hand, PyTorch's affine sampling, and what is random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import augmentation


def pictures(count, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def arguments(monkeypatch):
    """What `augment` asks `transform` for, without doing it."""
    seen = []
    monkeypatch.setattr(
        augmentation, "transform", lambda images, *rest: seen.append(rest) or images
    )
    return seen


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_and_flips_by_hand(size, turns):
    images = pictures(2, size)
    flip = jnp.asarray([False, True])
    got = augmentation.transform(jnp.asarray(images), flip, jnp.full(2, 90.0 * turns))
    assert got.dtype == jnp.uint8
    np.testing.assert_array_equal(got[0], np.rot90(images[0], turns))
    np.testing.assert_array_equal(got[1], np.rot90(images[1, :, ::-1], turns))


@pytest.mark.parametrize("degrees", [-15.0, -7.3, -1.0, 0.0, 0.4, 3.7, 11.2, 15.0, 45.0])
@pytest.mark.parametrize("size", [32, 64])
def test_rotation_is_pytorchs(size, degrees):
    """Up to pixels whose source lies halfway between two, to rounding: at most 1 in 500."""
    torch = pytest.importorskip("torch")
    images = pictures(2, size)
    got = augmentation.transform(
        jnp.asarray(images), jnp.asarray([False, True]), jnp.full(2, degrees)
    )
    images[1] = images[1, :, ::-1]
    a = np.deg2rad(degrees)
    theta = torch.tensor([[[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0]]]).float()
    grid = torch.nn.functional.affine_grid(theta, [1, 3, size, size], align_corners=False)
    expected = torch.nn.functional.grid_sample(
        torch.tensor(images.transpose(0, 3, 1, 2)).float(),
        grid.expand(2, -1, -1, -1),
        mode="nearest",
        padding_mode="zeros",
        align_corners=False,
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    assert np.mean(np.any(np.asarray(got) != expected, axis=-1)) <= 1 / 500
    if degrees == 45:
        assert not np.any(got[:, 0, 0])  # corners are filled with zeros


def test_half_of_the_images_are_flipped_and_angles_are_uniform(arguments):
    images = jnp.zeros((20_000, 1, 1, 3), jnp.uint8)
    augmentation.augment(jax.random.key(0), images)
    ((flip, degrees),) = arguments
    assert float(jnp.mean(flip.astype(jnp.float32))) == pytest.approx(0.5, abs=0.015)
    assert -15 <= float(jnp.min(degrees)) < -14.9
    assert 14.9 < float(jnp.max(degrees)) <= 15
    assert float(jnp.mean(degrees)) == pytest.approx(0, abs=0.25)
    assert float(jnp.std(degrees)) == pytest.approx(30 / np.sqrt(12), rel=0.02)
    flipped, kept = degrees[np.asarray(flip)], degrees[~np.asarray(flip)]
    assert float(jnp.mean(flipped)) == pytest.approx(float(jnp.mean(kept)), abs=0.5)


def test_keys():
    images = jnp.asarray(pictures(8))
    first, again, other = (augmentation.augment(jax.random.key(s), images) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    differs = np.any(np.asarray(first) != np.asarray(other), axis=(1, 2, 3))
    assert differs.all()


def test_jit_is_eager_and_vmap_is_a_loop():
    images = jnp.asarray(np.stack([pictures(4, seed=seed) for seed in range(3)]))
    keys = jax.random.split(jax.random.key(5), 3)
    jitted = jax.jit(augmentation.augment)
    loop = np.stack([jitted(key, batch) for key, batch in zip(keys, images, strict=True)])
    eager = np.asarray(augmentation.augment(keys[0], images[0]))
    together = np.asarray(jax.vmap(augmentation.augment)(keys, images))
    # A source halfway between two pixels may round either way after fusion.
    assert np.mean(loop[0] != eager) <= 1 / 500
    assert np.mean(together != loop) <= 1 / 500
