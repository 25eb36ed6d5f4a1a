import ast
from pathlib import Path

import pytest

import pg_semantic

PACKAGE = Path(pg_semantic.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 40


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
