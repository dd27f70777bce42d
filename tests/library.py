"""Copies the library's tests, and what they share, to where the checkout cannot be imported.

    python -m tests.library FOLDER

They are the folder `tests/jaxinit`, which imports no more of the checkout than this, `jaxinit`, and
PyTorch's networks from the benchmarks.
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = "jaxinit"
SHARED = ("__init__.py", "conftest.py", "small.py")
REFERENCE = ("__init__.py", "torch_reference.py")  # of the benchmarks


def copy(folder: Path) -> None:
    """Copies these tests, what they share, and pytest's settings."""
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / FOLDER, folder / "tests" / FOLDER, ignore=left_out)
    for name in SHARED:
        shutil.copy(HERE / name, folder / "tests")
    (folder / "benchmarks").mkdir()
    for name in REFERENCE:
        shutil.copy(HERE.parent / "benchmarks" / name, folder / "benchmarks")
    shutil.copy(HERE.parent / "pyproject.toml", folder)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
