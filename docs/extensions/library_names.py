"""One place for each public name: under the others that export it, references lead there too."""

import importlib
import importlib.util
import inspect
import pkgutil
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry, PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

import jaxinit

_MARK = "<!-- names of jaxinit -->"


def setup(app: Sphinx) -> dict[str, Any]:
    """Fills the table of what `jaxinit` exports, and lets references find what is exported.

    Code such as `jaxinit.trace` on a page of `docs` becomes a link; a name that the library does
    not have is an error there.
    """
    app.connect("autodoc-skip-member", _skip)
    app.connect("source-read", _table)
    app.connect("env-updated", _aliases)
    app.connect("missing-reference", _by_end)
    app.connect("doctree-resolved", _link_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def exported() -> dict[str, Any]:
    """What the library and its packages export, by full names, but for modules."""
    packages = [jaxinit.__name__] + [
        own.name for own in pkgutil.walk_packages(jaxinit.__path__, "jaxinit.") if own.ispkg
    ]
    found = {}
    for package in map(importlib.import_module, packages):
        for name in package.__all__:
            value = getattr(package, name)
            if not name.startswith("_") and not inspect.ismodule(value):
                found[f"{package.__name__}.{name}"] = value
    return found


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out the fields of named tuples, which their docstrings describe."""
    del app, what, name, skip, options
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def _table(app: Sphinx, page: str, source: list[str]) -> None:
    del app, page
    if _MARK in source[0]:
        own = {name: value for name, value in exported().items() if name.count(".") == 1}
        rows = [f"| {{py:obj}}`{name}` | {_sentence(name, own[name])} |" for name in own]
        source[0] = source[0].replace(_MARK, "\n".join(["| name | |", "|---|---|", *rows]))


def _sentence(name: str, value: Any) -> str:
    """The first sentence of what is said about an exported object."""
    said = inspect.getdoc(value) or ""
    if not getattr(value, "__module__", "").startswith("jaxinit"):  # a type with a name here
        comments = ModuleAnalyzer.for_module("jaxinit.signatures").find_attr_docs()
        said = "\n".join(comments.get(("", name.rpartition(".")[2]), []))
    paragraph = " ".join(said.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".").replace("|", "\\|") + "."


def _aliases(app: Sphinx, env: BuildEnvironment) -> list[str]:
    del app
    objects = _objects(env)
    for name, value in exported().items():
        if name in objects:
            continue
        same = [one for one in sorted(objects) if _is(one, name.rpartition(".")[2], value)]
        if same:
            objects[name] = objects[same[0]]._replace(aliased=True)
        else:
            logging.getLogger(__name__).warning(f"no page of docs/api documents {name}")
    return []


def _objects(env: BuildEnvironment) -> dict[str, ObjectEntry]:
    domain = env.domains.python_domain
    assert isinstance(domain, PythonDomain)
    return domain.objects


def _is(full: str, name: str, value: Any) -> bool:
    module, _, last = full.rpartition(".")
    if last != name:
        return False
    try:
        return getattr(importlib.import_module(module), last) is value
    except (ImportError, AttributeError):
        return False


def _by_end(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Finds `Network.select` from anywhere, if only one thing is called so."""
    if node.get("reftype") != "obj" or node.get("refdomain") != "py":
        return None
    end = node["reftarget"].removesuffix("()")
    found = {
        (entry.docname, entry.node_id)
        for name, entry in _objects(env).items()
        if name.endswith(f".{end}") and not entry.aliased
    }
    if len(found) != 1:
        return None
    page, place = found.pop()
    return make_refnode(app.builder, node["refdoc"], page, place, [content], end)


def _link_code(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if not page.startswith("docs/"):
        return
    domain = app.env.domains.python_domain
    for node in list(doctree.findall(nodes.literal)):
        name = node.astext().partition("(")[0]
        if not name.startswith("jaxinit.") or isinstance(node.parent, nodes.reference):
            continue
        if name in domain.objects:
            entry = domain.objects[name]
            where, place = entry.docname, entry.node_id
        elif name in domain.modules:
            where, place = domain.modules[name].docname, domain.modules[name].node_id
        elif not _exists(name):
            logging.getLogger(__name__).warning(f"there is no {name}", location=node)
            continue
        else:
            continue
        node.replace_self(make_refnode(app.builder, page, where, place, [node.deepcopy()], name))


def _exists(name: str) -> bool:
    """Whether the library has such a name, though the reference may not."""
    module, _, last = name.rpartition(".")
    try:
        found = importlib.import_module(module) if module else None
        return hasattr(found, last) or importlib.util.find_spec(name) is not None
    except ImportError:
        return False
