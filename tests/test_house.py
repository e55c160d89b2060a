"""The package keeps its measure: few modules at the root, short functions, and every public name with an example."""

import ast
import importlib
import inspect
import types
from itertools import pairwise
from pathlib import Path

import pytest

import le_callback

PACKAGE = Path(__file__).parents[1] / "le_callback"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ASSETS = sorted(path for ending in ("*.js", "*.css") for path in PACKAGE.rglob(ending))
ROOMS = ["le_callback", *(f"le_callback.{path.parent.name}" for path in sorted(PACKAGE.glob("*/__init__.py")))]
MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES, MOST_METHODS, MOST_NAMES = 12, 400, 60, 20, 22
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def where(path, node=None):
    return f"{path.relative_to(PACKAGE.parent)}{f':{node.name}' if node else ''}"


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def body_lines(function):
    """Lines of the body without the docstring."""
    statements = function.body[1:] if is_text(function.body[0]) else function.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def nodes(*kinds):
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield path, node


def test_lines_are_counted_without_signature_and_docstring():
    source = 'def f(\n    a,\n):\n    """A.\n\n    B.\n    """\n    b = a\n\n    return b\n'
    assert body_lines(ast.parse(source).body[0]) == 3
    assert body_lines(ast.parse('def f():\n    """A."""').body[0]) == 0


def test_modules_at_the_root():
    modules = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, modules


def test_files_are_short():
    assert len(ASSETS) > 1
    lines = {where(path): len(path.read_text().splitlines()) for path in [*SOURCES, *ASSETS]}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}


def test_functions_are_short():
    lines = [(where(path, node), body_lines(node)) for path, node in nodes(*FUNCTIONS)]
    assert not [(name, n) for name, n in lines if n > MOST_FUNCTION_LINES]


def test_classes_have_few_methods():
    methods = [
        (where(path, node), sum(isinstance(inner, FUNCTIONS) for inner in node.body))
        for path, node in nodes(ast.ClassDef)
    ]
    assert not [(name, n) for name, n in methods if n > MOST_METHODS]


def test_few_names_at_the_root():
    assert len(le_callback.__all__) <= MOST_NAMES


def public_names():
    for room in ROOMS:
        for name in getattr(importlib.import_module(room), "__all__", []):
            yield pytest.param(room, name, id=f"{room}.{name}")


def documented_assignments():
    """Names that a module of the package assigns and explains in a text on the next line."""
    found = set()
    for path in SOURCES:
        for first, second in pairwise(ast.parse(path.read_text()).body):
            if isinstance(first, (ast.Assign, ast.AnnAssign)) and is_text(second):
                targets = first.targets if isinstance(first, ast.Assign) else [first.target]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(("room", "name"), public_names())
def test_public_names_have_an_example(room, name):
    """An exception, a warning or a type alias needs only a docstring."""
    thing = getattr(importlib.import_module(room), name)
    if not isinstance(thing, (type, types.FunctionType, types.ModuleType)):
        assert name in documented_assignments()
        return
    docstring = (vars(thing).get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)) or ""
    assert docstring.strip()
    if isinstance(thing, type):
        assert not docstring.startswith(f"{thing.__name__}("), "a dataclass's generated docstring"
    if isinstance(thing, types.FunctionType) or (isinstance(thing, type) and not issubclass(thing, BaseException)):
        assert ">>> " in docstring
