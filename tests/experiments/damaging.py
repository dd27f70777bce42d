"""Ways of damaging files, drawn by a seed: what is read then must be refused, or be the same."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

# How many times each kind of file is damaged; by hand many more than in CI.
TRIALS = int(os.environ.get("JAXINIT_DAMAGES", "12"))


def trials(of: str) -> Iterator[random.Random]:
    """A generator of random numbers a trial."""
    for number in range(TRIALS):
        yield random.Random(f"{of} {number}")


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _emptied(content: bytes, rng: random.Random) -> bytes:
    return b""


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + b"\0" * min(100, len(content) - start) + content[start + 100 :]


def _digit(content: bytes, rng: random.Random) -> bytes:
    """Another digit somewhere, as a hand would change it."""
    places = [place for place, byte in enumerate(content) if byte in b"0123456789"]
    if not places:
        return _flipped(content, rng)
    changed, place = bytearray(content), rng.choice(places)
    changed[place] = ord("0") + (changed[place] - ord("0") + rng.randrange(1, 10)) % 10
    return bytes(changed)


WAYS: list[Callable[[bytes, random.Random], bytes]] = [
    _truncated, _emptied, _flipped, _flipped, _zeroed, _digit,
]  # fmt: skip


def damage(file: Path, rng: random.Random) -> None:
    """Damages a file in place, in one of the ways."""
    content = file.read_bytes()
    file.write_bytes(rng.choice(WAYS)(content, rng))


def damage_one_of(folder: Path, rng: random.Random) -> Path:
    """Damages one of the files in a folder, and returns which."""
    file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    if file.stat().st_size:
        damage(file, rng)
    return file
