"""How the house is built: names, who imports whom, and how large its rooms may be."""

import ast
import graphlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import library

ROOT = Path(__file__).parent.parent
PACKAGES = {"jaxinit", "experiments", "benchmarks", "results", "tests"}
EAGER = {"jax", "flax", "numpy", "jaxtyping"}
LAZY = {"scipy", "safetensors", "orbax", "matplotlib"}  # within functions alone
LINES, FUNCTION = 450, 70
STEPS = ROOT / "tests/jaxinit/models/test_resnet.py"  # compares training steps where there are any


def modules(folder: str) -> dict[str, Path]:
    """The modules of a folder, packages included, by their dotted names."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def stems(folder: str) -> list[str]:
    """What a folder's modules and packages are called, but for the folder itself."""
    names = [name.rpartition(".")[2] for name in modules(folder) if "." in name]
    return [name for name in names if name != "__main__"]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: list[ast.AST] | list[ast.stmt]) -> set[str]:
    """The dotted names that import statements name, each with what is taken from a module."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def owner(name: str, known: dict[str, Path]) -> str | None:
    """The module that an imported name is, or is in."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def test_no_two_modules_of_the_library_share_a_name():
    assert [name for name, count in Counter(stems("jaxinit")).items() if count > 1] == []


def test_no_module_shares_a_name_with_another_of_the_checkout_or_the_standard_library():
    names = Counter(stems("jaxinit") + stems("experiments"))
    assert [name for name, count in names.items() if count > 1] == []
    assert names.keys() & sys.stdlib_module_names == set()


@pytest.mark.parametrize("name", modules("jaxinit"))
def test_the_library_imports_little_and_the_slow_only_where_it_is_needed(name):
    tree = parsed(modules("jaxinit")[name])
    allowed = EAGER | {"jaxinit"} | sys.stdlib_module_names
    assert {own.partition(".")[0] for own in imported(tree.body)} <= allowed
    assert {own.partition(".")[0] for own in imported(list(ast.walk(tree)))} <= allowed | LAZY


def test_no_module_of_the_library_imports_itself_by_way_of_others():
    known = modules("jaxinit")
    graph = {
        name: {owner(own, known) for own in imported(parsed(path).body)} - {None}
        for name, path in known.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises where there is a cycle


# What each room of the experiments may import of the others.
BELOW = {
    "cli": set(),
    "records": {"cli"},
    "data": {"cli", "records"},
    "training": {"cli", "records", "data"},
    "reporting": {"cli", "records"},
    "runs": {"cli", "records", "data", "training"},
    "study": {"cli", "records", "data", "training", "reporting", "runs"},
}


@pytest.mark.parametrize("room", BELOW)
def test_imports_among_the_rooms_run_downwards(room):
    for name, path in modules("experiments").items():
        if not name.startswith(f"experiments.{room}."):
            continue
        found = {own.split(".")[1] for own in imported(list(ast.walk(parsed(path))))
                 if own.startswith("experiments.")}  # fmt: skip
        assert found <= BELOW[room] | {room}, name


def test_the_rooms_are_those_that_are_known():
    rooms = {path.parent.name for path in (ROOT / "experiments").glob("*/__init__.py")}
    assert rooms == set(BELOW)


@pytest.mark.parametrize("name", modules("jaxinit"))
def test_no_module_of_the_library_is_too_large_to_be_read(name):
    text = modules("jaxinit")[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    lengths = {own.name: (own.end_lineno or 0) - own.lineno + 1 for own in functions}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION} == {}


def test_the_librarys_tests_mirror_it_and_need_nothing_else_of_the_checkout():
    shared = [library.HERE / name for name in library.SHARED]
    for path in [*(library.HERE / library.FOLDER).rglob("*.py"), *shared]:
        names = imported(list(ast.walk(parsed(path))))
        others = {name for name in names if name.partition(".")[0] in PACKAGES}
        others = {name for name in others if not name.startswith(("jaxinit", "tests"))}
        allowed = ("benchmarks", "experiments.training") if path == STEPS else ("benchmarks",)
        assert all(name.startswith(allowed) for name in others), path
        helpers = {name for name in names if name.startswith("tests.")}
        own = {"tests.jaxinit", *(f"tests.{Path(name).stem}" for name in library.SHARED)}
        assert all(any(name.startswith(one) for one in own) for name in helpers), path
    folders = {path.parent for path in modules("jaxinit").values()}
    mirrored = {ROOT / "tests" / folder.relative_to(ROOT) for folder in folders}
    assert {path.parent for path in (ROOT / "tests/jaxinit").rglob("test_*.py")} == mirrored


def test_the_librarys_tests_are_copied_whole(tmp_path):
    library.copy(tmp_path / "run")
    copied = {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*.py")}
    tests = {path.relative_to(ROOT) for path in (ROOT / "tests/jaxinit").rglob("*.py")}
    references = {Path("benchmarks") / name for name in library.REFERENCE}
    assert copied == tests | references | {Path("tests") / name for name in library.SHARED}
