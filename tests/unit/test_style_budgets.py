import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import pg_semantic

PACKAGE = Path(pg_semantic.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 40
EQUAL_STATEMENTS = 7

_DECLARATIONS = (ast.Import, ast.ImportFrom, ast.AnnAssign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_and_its_functions_are_short(file: Path) -> None:
    source = file.read_text("utf-8")
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(source.splitlines()) <= FILE_LINES
    assert {function.name: lines(function) for function in functions if lines(function) > FUNCTION_LINES} == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_line_of_the_log_has_fields_for_programs(file: Path) -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    ]
    assert [call.lineno for call in calls if "extra" not in {given.arg for given in call.keywords}] == []


def test_no_two_classes_have_the_same_name() -> None:
    names = [
        node.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted(names) == sorted(set(names))


def statements(body: Sequence[ast.AST]) -> Iterator[ast.stmt]:
    """The statements of a function in reading order, without declarations and docstrings."""
    for node in body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, _DECLARATIONS) or is_docstring:
            continue
        if isinstance(node, ast.stmt):
            yield node
        for part in _BODIES:
            yield from statements(getattr(node, part, ()))


def shape(node: object) -> object:
    """The syntax of a statement by itself, whatever its names and literals."""
    if isinstance(node, ast.AST):
        literal = isinstance(node, ast.Constant)
        fields = () if literal else (value for name, value in ast.iter_fields(node) if name not in _BODIES)
        return (type(node).__name__, *(shape(value) for value in fields if isinstance(value, ast.AST | list)))
    return tuple(map(shape, node)) if isinstance(node, list) else None


def test_no_two_places_have_the_same_eight_statements() -> None:
    places: dict[object, set[str]] = defaultdict(set)
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = list(statements(node.body))
                shapes = [shape(one) for one in found]
                for at in range(len(shapes) - EQUAL_STATEMENTS):
                    run = tuple(shapes[at : at + EQUAL_STATEMENTS + 1])
                    places[run].add(f"{file.relative_to(PACKAGE)}:{found[at].lineno}")
    assert [sorted(where) for where in places.values() if len(where) > 1] == []
