"""Names the tests that need nothing of the checkout but `jaxinit`, or copies them elsewhere.

    python -m tests.library            # the modules' paths
    python -m tests.library FOLDER     # copied there, with all that they import from here

What a module imports at its top, itself or through others of this folder, decides.
"""

import ast
import shutil
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_CHECKOUT = {"experiments", "benchmarks", "results"}
_SHARED = ("__init__.py", "conftest.py")


def imports(module: Path) -> set[str]:
    """The dotted names that a module imports at its top."""
    found: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def needs_checkout(module: Path) -> bool:
    """Whether a module of this folder imports more of the checkout than `jaxinit`."""
    names = [name.split(".") for name in imports(module)]
    helpers = [_HERE / f"{name[1]}.py" for name in names if name[0] == "tests" and name[1:]]
    return any(name[0] in _CHECKOUT for name in names) or any(
        needs_checkout(helper) for helper in helpers if helper.exists()
    )


def modules() -> list[Path]:
    """The test modules that `jaxinit` is enough for."""
    return [path for path in sorted(_HERE.glob("test_*.py")) if not needs_checkout(path)]


def copy(folder: Path) -> None:
    """Copies these tests, what they share, and pytest's settings."""
    (folder / "tests").mkdir(parents=True)
    helpers = [path for path in _HERE.glob("*.py") if not path.name.startswith("test_")]
    shared = [path for path in helpers if path.name in _SHARED or not needs_checkout(path)]
    for path in [*modules(), *shared]:
        shutil.copy(path, folder / "tests")
    shutil.copy(_HERE.parent / "pyproject.toml", folder)


if __name__ == "__main__":
    if sys.argv[1:]:
        copy(Path(sys.argv[1]))
    else:
        print(*(path.relative_to(_HERE.parent) for path in modules()))
