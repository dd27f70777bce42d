"""A bank's file: a NumPy `.npz` without pickles.

- `metadata`: JSON text as bytes: `format` ("jaxinit filter bank"), `version` (3), and the fields of
  `Provenance`; and `layers`, a list with the `name` and `kernel_size` [h, w] of each layer, in the
  order of the network's calls; version 1 had no `normalized`, versions 1 and 2 no `members`;
- `filters/<layer>`: float32 (k, m, h·w), and `sizes/<layer>`: float32 (k,), as in `FilterBank`;
- `inertia/<layer>`: float32 (), as in `FilterBank`.
"""

import dataclasses
import json
import os
from typing import Any

import flax.core
import jax.numpy as jnp
import numpy as np

from jaxinit import whole_files
from jaxinit.banks.filter_bank import FilterBank, Provenance

_FORMAT = "jaxinit filter bank"
_VERSION = 3
_READS = (1, 2, 3)


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
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()
    arrays: dict[str, Any] = {"metadata": np.frombuffer(text, np.uint8)}
    for field in ("filters", "sizes", "inertia"):
        for name, array in getattr(bank, field).items():
            arrays[f"{field}/{name}"] = np.asarray(array, np.float32)
    with whole_files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: str | os.PathLike[str]) -> FilterBank:
    """Reads a bank that `save` wrote.

    Args:
        path: The file.

    Raises:
        ValueError: The file is damaged, of another version, or not a bank.
        FileNotFoundError: There is no such file.
    """
    try:
        # Opened here, as NumPy leaves what it cannot read open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        metadata = json.loads(arrays["metadata"].tobytes())
        if metadata["format"] != _FORMAT:
            raise ValueError("another format")
        version = metadata["version"]
        bank = _parse(metadata, arrays) if version in _READS else None
    except (*whole_files.DAMAGED, TypeError, AttributeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is damaged or not a filter bank ({error}): make it anew with "
            "banks.fit and banks.save"
        ) from error
    if bank is None:
        raise ValueError(
            f"{os.fspath(path)} is a filter bank of version {version}, but this jaxinit reads "
            f"versions {_READS[0]} to {_READS[-1]}: use the jaxinit that wrote it"
        )
    return bank


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
        if not np.isfinite(candidates).all() or not (counts >= 0).all() or not counts.sum() > 0:
            raise ValueError(f"the numbers of layer {name} cannot be a bank's")
        bank.filters[name], bank.sizes[name] = jnp.asarray(candidates), jnp.asarray(counts)
        bank.inertia[name] = jnp.asarray(inertia)
    return bank
