"""Checksums, by which files vouch for what they hold, and bounds of the JSON that is read."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

JSON = Any  # None, bool, int, float, str, or lists and string-keyed dicts of these

_DEPTH = 32  # of lists and dicts in each other
_LARGEST = 2**63


def of_json(data: Mapping[str, JSON]) -> str:
    """The SHA-256 in hexadecimal of all in a file but its `checksum`, as JSON with sorted keys."""
    content = {name: value for name, value in data.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_arrays(arrays: Mapping[str, Any]) -> str:
    """The SHA-256 in hexadecimal of arrays in the order of their names.

    Of each its name, dtype, shape and bytes, in rows.

    Args:
        arrays: By name.
    """
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        found.update(f"\0{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def check_bounded(data: JSON) -> None:
    """Makes sure that JSON is no deeper, and no number in it larger, than what we write.

    Raises:
        ValueError: It is.
    """
    level: list[JSON] = [data]
    for _ in range(_DEPTH):
        below: list[JSON] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("a number is not finite")
            elif isinstance(value, int) and abs(value) > _LARGEST:
                raise ValueError("a number has too many digits")
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {_DEPTH} deep")
