"""Weights in files, `.safetensors` or NumPy's `.npz`, read an array at a time, and never a pickle.

Names and arrays are kept as they are: PyTorch's layout stays PyTorch's (see `models.torch`).
"""

import contextlib
import dataclasses
import os
import types
import zipfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxinit import checks, whole_files

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".th", ".tar")
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array in a file, which is read whenever an array is made of it, such as by `np.asarray`.

    Attributes:
        shape: Of the array.
        dtype: Of the array as it lies in the file.
        read: Reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def transpose(self, axes: tuple[int, ...]) -> "StoredArray":
        """Returns the same array with its axes in another order, still in its file."""
        shape = tuple(self.shape[axis] for axis in axes)
        return StoredArray(shape, self.dtype, lambda: self.read().transpose(axes))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads the array."""
        if copy is False:
            raise ValueError("an array in a file cannot be had without a copy: leave copy out")
        return np.asarray(self.read(), dtype)


def open_weights(path: str | os.PathLike[str]) -> dict[str, StoredArray]:
    """Lists the arrays in a file of weights; each is read only when it is asked for.

    Args:
        path: A `.safetensors` or `.npz` file, which must stay where it is.

    Returns:
        Names to arrays of the shapes and dtypes that lie in the file, bfloat16 and float16 among
        them.

    Raises:
        ValueError: The file is damaged, is not what its name says, or may hold a pickle.
        FileNotFoundError: There is no such file.
        ImportError: A `.safetensors` file, and the library safetensors is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(f"{folder}/a.npz", {"conv1.weight": np.ones((4, 3, 3, 3))})
        ...     weights = open_weights(f"{folder}/a.npz")
        ...     weights["conv1.weight"].shape, float(np.asarray(weights["conv1.weight"]).sum())
        ((4, 3, 3, 3), 108.0)
    """
    checks.path(path)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: name a file of weights")
    if _format(path) == ".npz":
        return _open_npz(path)
    return _open_safetensors(path)


def save_weights(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Writes arrays by name to a file, whole or not at all; a file already there is replaced.

    Args:
        path: A `.safetensors` or `.npz` file.
        state: Names to arrays, or anything that `np.asarray` takes; each keeps its dtype.

    Raises:
        ValueError: Another kind of file, or an array of a dtype that the file cannot hold.
        ImportError: A `.safetensors` file, and the library safetensors is not installed.
    """
    path = Path(path)
    # In rows: the library safetensors writes memory as it lies.
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    held = {np.dtype(dtype) for dtype in _DTYPES.values()}
    if _format(path) == ".npz":
        held.remove(np.dtype(jnp.bfloat16))
    for name, array in arrays.items():
        if not isinstance(name, str) or name == "file":
            raise ValueError(f"an array in a file cannot be called {name!r}: give it another name")
        if array.dtype not in held:
            raise ValueError(
                f"{name!r} is of {array.dtype}, which a {path.suffix} file cannot hold: convert it "
                "to float32" + (" or save .safetensors" if path.suffix == ".npz" else "")
            )
    with whole_files.replacing(path) as temporary:
        if path.suffix == ".npz":
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)  # pyrefly: ignore[bad-argument-type]
        else:
            _safetensors(path)
            from safetensors.numpy import save_file

            save_file(arrays, temporary)


def _format(path: Path) -> str:
    """The suffix of a file that can be read, or a sentence on why it cannot."""
    if path.suffix in (".safetensors", ".npz"):
        return path.suffix
    if path.suffix in _PICKLES:
        raise ValueError(
            f"{path} is a pickle, which may run any code when it is read: convert it where you "
            "trust it, with PyTorch by safetensors.torch.save_file(torch.load(path, "
            "weights_only=True), 'weights.safetensors')"
        )
    raise ValueError(f"{path} is no known kind of file: give a .safetensors or .npz file")


def _damaged(path: Path, error: object) -> ValueError:
    return ValueError(
        f"{path} is damaged or not a {path.suffix} file of weights ({error}): get it anew"
    )


def _open_npz(path: Path) -> dict[str, StoredArray]:
    def read(name: str) -> np.ndarray:
        with (
            _reading_npz(path),
            open(path, "rb") as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            return archive[name]

    found = {}
    with _reading_npz(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, dtype = header(file)
            if dtype.hasobject or dtype.kind not in "fiub":
                raise ValueError(f"{name!r} holds no numbers but {dtype}")
            found[name] = StoredArray(shape, dtype, lambda name=name: read(name))
    return found


@contextlib.contextmanager
def _reading_npz(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except whole_files.DAMAGED as error:
        raise _damaged(path, error) from error


def _safetensors(path: Path) -> types.ModuleType:
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            f"{path} needs the library safetensors: say pip install 'jaxinit[safetensors]'"
        ) from None
    return safetensors


def _open_safetensors(path: Path) -> dict[str, StoredArray]:
    library = _safetensors(path)

    def read(name: str) -> np.ndarray:
        with _reading_safetensors(path), library.safe_open(path, "np") as file:
            return file.get_tensor(name)

    found = {}
    with _reading_safetensors(path), library.safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            lying = file.get_slice(name)
            if (kind := lying.get_dtype()) not in _DTYPES:
                raise ValueError(f"{name!r} is of {kind}, which NumPy does not have")
            shape = tuple(lying.get_shape())
            found[name] = StoredArray(shape, np.dtype(_DTYPES[kind]), lambda name=name: read(name))
    return found


@contextlib.contextmanager
def _reading_safetensors(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (OSError, ValueError, _safetensors(path).SafetensorError) as error:
        raise _damaged(path, error) from error
