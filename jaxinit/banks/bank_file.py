"""A bank's file: a NumPy `.npz` without pickles.

- `metadata`: JSON text as bytes: `format` ("jaxinit filter bank"), `version` (4), and the fields of
  `Provenance`; `layers`, a list with the `name` and `kernel_size` [h, w] of each layer, in the
  order of the network's calls; and `checksum`, the SHA-256 of all else in the file (`checksum`).
  Version 1 had no `normalized`, versions 1 and 2 no `members`, versions 1 to 3 no `checksum`;
- `filters/<layer>`: float32 (k, m, h·w), and `sizes/<layer>`: float32 (k,), as in `FilterBank`;
- `inertia/<layer>`: float32 (), as in `FilterBank`.
"""

import dataclasses
import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import flax.core
import jax.numpy as jnp
import numpy as np

from jaxinit import checks, whole_files
from jaxinit.banks.filter_bank import FilterBank, Provenance, check_sizes

_FORMAT = "jaxinit filter bank"
_VERSION = 4
_READS = (1, 2, 3, 4)
_CHECKED = 4  # the first version that names its checksum

_LONGEST = 2**24  # bytes of the metadata
_LARGEST = 2**30  # bytes of all


def save(bank: FilterBank, path: str | os.PathLike[str]) -> None:
    """Writes a bank to a file (see the top of this module), whole or not at all.

    A file that is there already is replaced.
    """
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        **dataclasses.asdict(bank.provenance),
        "layers": [{"name": n, "kernel_size": list(s)} for n, s in bank.kernel_sizes.items()],
    }
    arrays: dict[str, np.ndarray] = {
        f"{field}/{name}": np.asarray(array, np.float32)
        for field in ("filters", "sizes", "inertia")
        for name, array in getattr(bank, field).items()
    }
    text = _text({**metadata, "checksum": checksum(metadata, arrays)})
    arrays["metadata"] = np.frombuffer(text, np.uint8)
    content = io.BytesIO()  # as NumPy, where the disk is full, says more than an OSError
    np.savez_compressed(content, **arrays)  # pyrefly: ignore[bad-argument-type]
    with whole_files.replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content.getbuffer())


def checksum(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of a bank's file, in hexadecimal, whatever it was compressed with.

    Of the metadata as JSON with sorted keys and no `checksum`, then of each array in the order of
    the names: name, dtype, shape and bytes, little-endian and in rows.

    Args:
        metadata: Of the file.
        arrays: Of the file, by name; `metadata` itself does not count.
    """
    found = hashlib.sha256(_text({k: v for k, v in metadata.items() if k != "checksum"}))
    for name in sorted(arrays.keys() - {"metadata"}):
        array = np.asarray(arrays[name], order="C")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        found.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _text(metadata: Mapping[str, Any]) -> bytes:
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()


def load(path: str | os.PathLike[str]) -> FilterBank:
    """Reads a bank that `save` wrote.

    Args:
        path: The file.

    Raises:
        ValueError: The file is damaged, does not match its checksum, is of another version, or is
            not a bank.
        FileNotFoundError: There is no such file.
    """
    return read(path)[0]


def read(path: str | os.PathLike[str]) -> tuple[FilterBank, str]:
    """Reads a bank, as `load` does, and its checksum."""
    checks.path(path)
    name = os.fspath(path)
    # First, as opening a pipe would wait for whoever writes to it.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{name} is not a file: name that of a filter bank")
    with open(path, "rb") as file:
        try:
            metadata, arrays = _read(file)
            version = metadata["version"]
            if version in _READS:
                found = checksum(metadata, arrays)
                named = version >= _CHECKED or "checksum" in metadata
                if named and metadata["checksum"] != found:
                    raise ValueError("its contents do not match its checksum")
                return _parse(metadata, arrays), found
        except Exception as error:  # NumPy, zipfile and json raise whatever their parts raise
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ValueError(
                f"{name} is damaged or not a filter bank ({reason}): make it anew with banks.fit "
                "and banks.save"
            ) from error
    raise ValueError(
        f"{name} is a filter bank of version {version!r:.20}, but this jaxinit reads versions "
        f"{_READS[0]} to {_READS[-1]}: use the jaxinit that wrote it"
    )


def _read(file: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads the metadata, and of a version that is known the arrays that they name, and no others.

    Raises whatever NumPy, zipfile and json raise.
    """
    with zipfile.ZipFile(file) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    if sizes["metadata.npy"] > _LONGEST or sum(sizes.values()) > _LARGEST:
        raise ValueError("it unpacks to more than a bank can be")
    with np.load(file, allow_pickle=False) as archive:
        metadata = json.loads(archive["metadata"].tobytes())
        if metadata["format"] != _FORMAT:
            raise ValueError("another format")
        if metadata["version"] not in _READS:
            return metadata, {}
        layers = [layer["name"] for layer in metadata["layers"]]
        names = [f"{field}/{own}" for field in ("filters", "sizes", "inertia") for own in layers]
        if more := {*archive.files} - {*names, "metadata"}:
            raise ValueError(f"it holds {min(more)}, of no layer of its own")
        return metadata, {own: archive[own] for own in names}


def _parse(metadata: dict[str, Any], arrays: dict[str, np.ndarray]) -> FilterBank:
    names = [layer["name"] for layer in metadata["layers"]]
    if metadata["version"] == 1:
        metadata = {"normalized": False, **metadata}
    if metadata["version"] < 3:
        kept = max(arrays[f"filters/{name}"].shape[1] for name in names)
        metadata = {"members": kept, **metadata}
    fields = {field.name: metadata[field.name] for field in dataclasses.fields(Provenance)}
    fields["sources"] = tuple(fields["sources"])
    provenance = Provenance(**fields)
    sizes = {layer["name"]: tuple(layer["kernel_size"]) for layer in metadata["layers"]}
    bank = FilterBank({}, {}, {}, flax.core.FrozenDict(sizes), provenance)
    for name, size in sizes.items():
        candidates, counts = arrays[f"filters/{name}"], arrays[f"sizes/{name}"]
        inertia = arrays[f"inertia/{name}"]
        k = provenance.clusters
        if (
            candidates.ndim != 3
            or candidates.shape[::2] != (k, int(np.prod(size)))
            or not 1 <= candidates.shape[1] <= provenance.members
            or counts.shape != (k,)
            or inertia.shape != ()
            or any(a.dtype != np.float32 for a in (candidates, counts, inertia))
        ):
            raise ValueError(f"the arrays of layer {name} do not have the shapes they should")
        if not np.isfinite(candidates).all() or not inertia >= 0:
            raise ValueError(f"the numbers of layer {name} cannot be a bank's")
        check_sizes(name, counts)
        bank.filters[name], bank.sizes[name] = jnp.asarray(candidates), jnp.asarray(counts)
        bank.inertia[name] = jnp.asarray(inertia)
    return bank
