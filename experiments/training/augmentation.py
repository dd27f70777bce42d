"""Flips and rotations of the paper's training images, inside XLA, on uint8."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from jaxinit.signatures import PRNGKey

# Rotation by a uniform angle in ± this many degrees.
MAX_DEGREES = 15.0


def augment(key: PRNGKey, images: UInt8[Array, "n h w c"]) -> UInt8[Array, "n h w c"]:
    """Flips each image with probability ½, then rotates it by a uniform angle in ±15°.

    Args:
        key: Drawn from anew for every image.
        images: Before normalisation.
    """
    flip_key, angle_key = jax.random.split(key)
    count = images.shape[0]
    flip = jax.random.bernoulli(flip_key, 0.5, (count,))
    degrees = jax.random.uniform(
        angle_key, (count,), jnp.float32, minval=-MAX_DEGREES, maxval=MAX_DEGREES
    )
    return transform(images, flip, degrees)


def transform(
    images: UInt8[Array, "n h w c"], flip: Array, degrees: Float[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Mirrors the images told to, then rotates each about its centre, nearest neighbour, fill 0.

    The pixel at (x, y) from the centre takes its value from (x·cos a − y·sin a, x·sin a + y·cos a),
    rounded half to even; a mirrored image is read at the mirrored column.

    Args:
        images: Unsigned bytes.
        flip: (n,) bool.
        degrees: (n,) angles; positive turns counter-clockwise on the screen.
    """
    count, height, width, channels = images.shape
    y = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2)[None, :, None]
    x = (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2)[None, None, :]
    angle = jnp.deg2rad(degrees)[:, None, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    column = jnp.round(x * cos - y * sin + (width - 1) / 2).astype(jnp.int32)
    row = jnp.round(x * sin + y * cos + (height - 1) / 2).astype(jnp.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column = jnp.where(flip[:, None, None], width - 1 - column, column)
    pixel = jnp.where(inside, row * width + column, 0).reshape(count, height * width, 1)
    flat = images.reshape(count, height * width, channels)
    rotated = jnp.take_along_axis(flat, pixel, axis=1).reshape(images.shape)
    return jnp.where(inside[..., None], rotated, jnp.zeros((), jnp.uint8))
