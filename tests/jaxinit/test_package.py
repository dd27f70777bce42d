"""What an import of the library brings with it, and what it says of itself."""

import importlib.metadata
import importlib.resources
import json
import subprocess
import sys

import jaxinit


def imported(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_importing_the_library_imports_nothing_else():
    """Not SciPy, Optax or Matplotlib: that, and not a stopwatch, is what keeps the import short."""
    added = imported("import jaxinit") - imported("import flax.linen, jax, jaxtyping, numpy")
    packages = {name.partition(".")[0] for name in added} - sys.stdlib_module_names
    assert packages == {"jaxinit"}


def test_what_the_library_says_of_itself():
    assert jaxinit.__version__ == importlib.metadata.version("jaxinit")
    assert importlib.resources.files("jaxinit").joinpath("py.typed").is_file()
    for name in jaxinit.__all__:
        assert hasattr(jaxinit, name)
    assert jaxinit.alignment.resnet18()
