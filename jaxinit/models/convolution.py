"""A convolution for small maps by matrix products: same numbers as `lax.conv`, faster.

On a CPU XLA's own convolution is slow where maps are small and channels many, and under `vmap` over
kernels (many networks at once) its gradients become grouped convolutions, slow on GPUs too. Matrix
products are fast in both cases. Two ways save arithmetic and lose nothing but rounding: on 1×1 maps
most taps of a 3×3 kernel only ever meet padding and are left out, and 3×3 kernels with stride 1 on
maps of even size need 16 products for 2×2 outputs instead of 36 (Lavin and Gray, "Fast Algorithms
for Convolutional Neural Networks", 2016). On a CPU large batches are taken in slices of so many
images that what the products are made of stays in the processors' caches.
"""

import os
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Part of the key under which JAX keeps what it traced, so that no program made without it is taken.
by_plain_twin = jax.make_user_context(False)
"""Within `with by_plain_twin(True)`, `matmul_convolution` is traced as the one operation that it
stands for, so that a program shows its convolutions."""

_CACHE = 2**19  # bytes, about what each core of a CPU has to itself
_FEWEST = 8  # slices: fewer gained nothing, and each takes compiling


@runtime_checkable
class Convolution(Protocol):
    """The signature that both convolutions here share."""

    def __call__(
        self,
        x: Float[Array, "n h w c"],
        kernel: Float[Array, "kh kw c o"],
        *,
        stride: int,
        padding: int,
    ) -> Float[Array, "n ho wo o"]:
        """Convolves without bias; `stride` and `padding` (zeros, both sides) are static."""
        ...


def output_size(size: int, taps: int, stride: int, padding: int) -> int:
    """Length of the output along one axis: ⌊(size + 2·padding − taps) / stride⌋ + 1."""
    return (size + 2 * padding - taps) // stride + 1


def live_taps(
    size: int,
    taps: int,
    stride: int,
    padding: int | tuple[int, int],
    dilation: int = 1,
    spread: int = 1,
) -> tuple[int, int]:
    """The taps along one axis that meet data at some position; the others only see padding.

    Args:
        size: Length of the input along this axis.
        taps: Length of the kernel.
        stride: Step between positions.
        padding: Zeros before and after.
        dilation: Step between taps.
        spread: Step between the pixels of a transposed convolution's input.

    Returns:
        First live tap, and one past the last: (1, 2) for a 3-tap kernel over one pixel; (0, 0)
        where none meets data.
    """
    before, after = (padding, padding) if isinstance(padding, int) else padding
    whole = max((size - 1) * spread + 1, 0)
    places = max((whole + before + after - (taps - 1) * dilation - 1) // stride + 1, 0)

    def is_live(tap: int) -> bool:
        offset = tap * dilation - before
        first = max(-(offset // stride), 0)  # the first position at which it is not before the data
        near = range(first, min(first + spread, places))  # later ones meet what these do
        return any(
            0 <= (at := place * stride + offset) < whole and at % spread == 0 for place in near
        )

    live = [tap for tap in range(taps) if is_live(tap)]
    return (live[0], live[-1] + 1) if live else (0, 0)


def matmul_convolution(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c o"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "n ho wo o"]:
    """Convolves by matrix products, by tiles where that is possible, else by patches.

    y[n, i, j, :] = Σ over (a, b) of x[n, i·s + a − p, j·s + b − p, :] · kernel[a, b]

    Args:
        x: Images, channels last.
        kernel: Height, width, input and output channels.
        stride: Static; the same on both axes.
        padding: Static; zeros on every side.

    Returns:
        What `plain_convolution` returns, to rounding.
    """
    if by_plain_twin.value:
        return plain_convolution(x, kernel, stride=stride, padding=padding)
    _, height, width, channels = x.shape
    outputs = kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    tiled = kernel.shape[:2] == (3, 3) and (stride, padding) == (1, 1)
    # In bfloat16, sums taken before the product would be rounded by up to a bit or two more.
    if tiled and height % 2 == 0 and width % 2 == 0 and x.dtype != jnp.bfloat16:
        one, taps = 4 * height * width * channels, 16 * channels * outputs
        return _in_slices(_by_tiles, padded, kernel, one, taps)
    rows = live_taps(height, kernel.shape[0], stride, padding)
    columns = live_taps(width, kernel.shape[1], stride, padding)
    inputs = (rows[1] - rows[0]) * (columns[1] - columns[0]) * channels
    places = output_size(height, kernel.shape[0], stride, padding) * output_size(
        width, kernel.shape[1], stride, padding
    )

    def by_patches(padded: Array, kernel: Array) -> Array:
        return _by_patches(padded, kernel, stride, rows, columns)

    return _in_slices(by_patches, padded, kernel, places * inputs, inputs * outputs)


def _in_slices(
    convolve: Callable[[Array, Array], Array], x: Array, kernel: Array, one: int, taps: int
) -> Float[Array, "n ho wo o"]:
    """Convolves some images at a time on a lone CPU, else all at once: devices may share them.

    A slice's left factor is as large as the cores' caches, or as the right one if that is larger,
    as each slice reads the kernel again. Gradients, too, are taken by slices: each makes its left
    factor anew, so that none is ever in memory as a whole.

    Args:
        convolve: Maps padded images and a kernel to outputs.
        x: Images, padded already.
        kernel: Height, width, input and output channels.
        one: Numbers in the left factor of one image.
        taps: Numbers in the right factor.
    """
    images = x.shape[0]
    most = max(_CACHE * _cores() // x.dtype.itemsize, taps)
    size = max(most // max(one, 1), 1)
    is_one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    is_known = isinstance(images, int)  # and no symbol, as where any number is exported
    if not (is_known and is_one_cpu) or images < _FEWEST * size:
        return convolve(x, kernel)
    slices, rest = divmod(images, size)
    whole = x[: slices * size].reshape(slices, size, *x.shape[1:])
    slicewise = jax.checkpoint(lambda part: convolve(part, kernel), prevent_cse=False)
    y = lax.map(slicewise, whole)
    y = y.reshape(slices * size, *y.shape[2:])
    return jnp.concatenate([y, convolve(x[slices * size :], kernel)]) if rest else y


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _by_patches(
    x: Array, kernel: Array, stride: int, live_rows: tuple[int, int], live_columns: tuple[int, int]
) -> Float[Array, "n ho wo o"]:
    """One product of the patches that the live taps see; `x` is padded already."""
    images, height, width, _ = x.shape
    rows = output_size(height, kernel.shape[0], stride, 0)
    columns = output_size(width, kernel.shape[1], stride, 0)
    patches = [
        x[:, a : a + (rows - 1) * stride + 1 : stride, b : b + (columns - 1) * stride + 1 : stride]
        for a in range(*live_rows)
        for b in range(*live_columns)
    ]
    matrix = jnp.concatenate(patches, axis=-1).reshape(images * rows * columns, -1)
    taps = kernel[slice(*live_rows), slice(*live_columns)].reshape(matrix.shape[1], -1)
    return (matrix @ taps).reshape(images, rows, columns, -1)


def _by_tiles(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c o"]) -> Array:
    """Sixteen products, one a point of the transformed 4×4 tiles; `x` is padded already."""
    images, height, width, inputs = x.shape
    rows, columns, outputs = height // 2 - 1, width // 2 - 1, kernel.shape[-1]
    # Each transform adds a leading axis of four points: the columns' comes before the rows'.
    points = _transform_data(_transform_data(x, 1), 3).reshape(16, images * rows * columns, inputs)
    taps = _transform_taps(_transform_taps(kernel, 0), 1).reshape(16, inputs, outputs)
    products = jnp.matmul(points, taps).reshape(4, 4, images, rows, columns, outputs)
    pairs = jnp.stack(_combine(products), axis=4)
    return jnp.stack(_combine(pairs), axis=2).reshape(images, 2 * rows, 2 * columns, outputs)


def _transform_data(x: Array, axis: int) -> Float[Array, "4 ..."]:
    """Turns the four pixels of each tile along `axis`, two apart, into four points."""
    span = x.shape[axis] - 3
    d = [lax.slice_in_dim(x, k, k + span, 2, axis) for k in range(4)]
    return jnp.stack([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]])


def _transform_taps(kernel: Array, axis: int) -> Float[Array, "4 ..."]:
    """Evaluates the three taps along `axis`, seen as a polynomial, at 0, 1, −1 and infinity."""
    k = [lax.index_in_dim(kernel, t, axis, keepdims=False) for t in range(3)]
    even, odd = (k[0] + k[2]) / 2, k[1] / 2
    return jnp.stack([k[0], even + odd, even - odd, k[2]])


def _combine(m: Float[Array, "4 ..."]) -> list[Array]:
    """Makes the two outputs of a tile from its four points along the first axis."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def plain_convolution(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c o"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "n ho wo o"]:
    """The same by `lax.conv_general_dilated`: the twin that `matmul_convolution` is held to."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
