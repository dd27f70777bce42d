"""Prints a table of the start in a file, and draws it.

python -m jaxinit.inspection FILE [--figure PNG] [--reference FILE] [--layout HWIO|OIHW]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from jaxinit import whole_files
from jaxinit.banks import FilterBank
from jaxinit.inspection import opening
from jaxinit.inspection.examining import examine

_FILE = (
    "a filter bank, the name of one that ships, weights (.npz or .safetensors), or the folder of "
    "an Orbax checkpoint"
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}: see --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m jaxinit.inspection",
        description="Prints a table of the layers of a start: norms, variance entropy, sparsity.",
        epilog="Layers stand in the order of calls where the network is known, else as in the "
        "file. Kernels are taken as (out, in, height, width), PyTorch's, unless all are named "
        "kernel or w, as Flax and Haiku name them.",
    )
    parser.add_argument("file", metavar="FILE", help=_FILE)
    parser.add_argument(
        "--figure", metavar="PNG", help="where to draw a figure (.png, .svg or .pdf)"
    )
    parser.add_argument("--reference", metavar="FILE", help="weights to measure angles from")
    parser.add_argument(
        "--layout", choices=get_args(opening.Layout), help="of the kernels, of both files"
    )
    return parser


def _save(figure: Any, path: str) -> None:
    try:
        with whole_files.replacing(path) as temporary:
            figure.savefig(temporary, format=Path(path).suffix[1:] or "png", dpi=150)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): name another") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: As on the command line; those of this process where not given.

    Returns:
        Exit status: 0, or 2 with a sentence on the standard error.
    """
    options = _parser().parse_args(arguments)
    try:
        start, network = opening.opened(options.file, options.layout)
        reference = None
        if options.reference is not None and isinstance(start, FilterBank):
            raise ValueError("--reference is for weights: a bank has no kernels to turn")
        if options.reference is not None:
            reference, _ = opening.opened(options.reference, options.layout)
        found = examine(start, network=network, reference=reference)
        print(found)
        if options.figure is not None:
            _save(found.figure(Path(options.file).resolve().name), options.figure)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
