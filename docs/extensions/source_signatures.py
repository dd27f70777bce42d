"""Signatures as the source has them: `layers: Layers = None`, not the union that `Layers` is."""

import ast
import inspect
import textwrap
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Puts the source's signatures in the place of those of the objects."""
    app.connect("autodoc-process-signature", _written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _written(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str
) -> tuple[str, str | None] | None:
    """Returns arguments and result of a function, or of what calling a class gives."""
    del app, name, options
    if signature is None:
        return None
    obj = inspect.unwrap(obj)
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(obj))).body
        module = inspect.getmodule(obj)
        assert module is not None
        names = _names(ast.parse(inspect.getsource(module)), module.__name__)
    except (OSError, TypeError, SyntaxError, AssertionError):
        return None
    if isinstance(node, ast.FunctionDef):
        if what == "method" and node.args.args and node.args.args[0].arg in ("self", "cls"):
            del node.args.args[0]
        elif what == "method" and node.args.posonlyargs:
            del node.args.posonlyargs[0]
        return _formatted(node.args, names), _annotation(node.returns, names)
    if isinstance(node, ast.ClassDef):
        return _fields(node, names), None
    return None


def _names(tree: ast.Module, module: str) -> dict[str, str]:
    """What each name of a module stands for in full, as far as it is of the library."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.ClassDef):
            found[node.name] = f"{module}.{node.name}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = f"{module}.{node.targets[0].id}"
    return {name: full for name, full in found.items() if full.startswith("jaxinit")}


class _InFull(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self.names.get(node.id, node.id), mode="eval").body


def _annotation(node: ast.expr | None, names: dict[str, str]) -> str | None:
    if node is None:
        return None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    return ast.unparse(_InFull(names).visit(node))


def _formatted(arguments: ast.arguments, names: dict[str, str]) -> str:
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg) and node.annotation is not None:
            node.annotation = ast.parse(_annotation(node.annotation, names) or "", mode="eval").body
    return f"({ast.unparse(arguments)})"


def _fields(node: ast.ClassDef, names: dict[str, str]) -> str:
    """The fields of a dataclass, a Flax module or a named tuple; their types are below it."""
    fields = []
    for own in node.body:
        if isinstance(own, ast.AnnAssign) and isinstance(own.target, ast.Name):
            annotation = _annotation(own.annotation, names)
            default = "" if own.value is None else f" = {_default(own.value)}"
            fields.append(f"{own.target.id}: {annotation}{default}")
    return f"({', '.join(fields)})"


def _default(value: ast.expr) -> str:
    return "..." if isinstance(value, ast.Call) else ast.unparse(value)
