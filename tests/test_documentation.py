"""The documentation: its Python runs, nothing public is missing, and it cites this version."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest
import yaml

import jaxinit

ROOT = Path(__file__).parents[1]
# What runs: the Python on a page, and before it what the page's comments say is given.
SNIPPET = re.compile(r"^(?:```python|<!-- given)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "\n```python\n" in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "page"}
    # As users have it: the other tests are stricter.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for found in SNIPPET.finditer(text):
            # Blank lines before it, so that an error names the line of the page.
            code = "\n" * text.count("\n", 0, found.start(1)) + found[1]
            exec(compile(code, str(page), "exec"), names)


def modules():
    """The modules of the library that a user is meant to know, by name."""
    found, waiting = {}, [jaxinit]
    while waiting:
        module = waiting.pop()
        found[module.__name__] = module
        exported = (getattr(module, name) for name in getattr(module, "__all__", ()))
        waiting += [one for one in exported if inspect.ismodule(one)]
    packages = (own.name for own in pkgutil.walk_packages(jaxinit.__path__, "jaxinit."))
    return found | {name: importlib.import_module(name) for name in packages if _is_package(name)}


def _is_package(name):
    return hasattr(importlib.import_module(name), "__path__")


def public(module):
    """What a module exports, or makes and does not hide."""
    if (names := getattr(module, "__all__", None)) is None:
        own = vars(module).items()
        names = [name for name, value in own if getattr(value, "__module__", "") == module.__name__]
    return {
        name: getattr(module, name)
        for name in names
        if not name.startswith("_") and not inspect.ismodule(getattr(module, name))
    }


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_public_is_missing_from_the_reference(name):
    pages = "".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.rst")))
    documented = set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.MULTILINE))
    singly = set(re.findall(r"^\.\. autodata:: (\S+)$", pages, re.MULTILINE))
    for own, value in public(modules()[name]).items():
        same = any(
            public(importlib.import_module(module)).get(own) is value for module in documented
        )
        # Types that are named, as `Params`, are of no module: their comments document them.
        commented = any(
            re.search(rf"^#: .*\n(?:#.*\n)*{own} = ", inspect.getsource(module), re.MULTILINE)
            for module in map(importlib.import_module, documented)
        )
        assert same or commented or any(one.endswith(f".{own}") for one in singly), (
            f"{name}.{own} is on no page of docs/api: name its module there"
        )


def test_what_is_to_be_cited():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= cited.keys()
    assert cited["version"] == jaxinit.__version__
    (paper,) = cited["references"]
    names = [author["family-names"] for author in paper["authors"]]
    assert paper["title"].startswith("Learning an Informed CNN Initialization")
    text = " ".join((ROOT / "docs" / "citing.md").read_text(encoding="utf-8").split())
    assert all(name in text for name in names)
    assert paper["title"] in text.replace("> ", "")
