"""Packs a finished study: its runs in one file, what it shows, its figures and banks."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.errors import exit_status
from experiments.records import archive


def main(argv: Sequence[str] | None = None) -> None:
    """Packs, and says what was written."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.archive", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="the --output of one experiment that has run")
    parser.add_argument("destination", type=Path, help="a folder that is empty or not there yet")
    options: Any = parser.parse_args(argv)
    with exit_status():
        for path in archive.pack(options.folder, options.destination):
            print(path)


if __name__ == "__main__":
    sys.exit(main())
