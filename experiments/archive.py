"""Packs a finished study: its runs in one file, what it shows, its figures and banks."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.cli.errors import exit_status
from experiments.cli.options import PathText, Settings, parse_one
from experiments.records import packing


@dataclasses.dataclass(frozen=True)
class Archive(Settings):
    """What is packed."""

    # the --output of one experiment that has run
    folder: tyro.conf.Positional[PathText]
    # a folder that is empty or not there yet
    destination: tyro.conf.Positional[PathText]


def main(argv: Sequence[str] | None = None) -> None:
    """Packs, and says what was written."""
    with exit_status(tables=False):
        asked = parse_one(Archive, argv, program="python -m experiments.archive", about=__doc__)
        for path in packing.pack(Path(asked.folder), Path(asked.destination)):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
