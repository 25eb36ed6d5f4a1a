import re

from pg_semantic import errors

_TREE_LINE = re.compile(r"^    (?P<branches>[│├└─ ]*)(?P<name>\w+)", re.MULTILINE)


def classes() -> list[type[Exception]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


def drawn() -> dict[str, str]:
    """The parent of each error, as the module's docstring draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in _TREE_LINE.finditer(errors.__doc__ or ""):
        depth = len(line["branches"]) // 4
        path[depth:] = [line["name"]]
        parents[line["name"]] = path[depth - 1] if depth else "Exception"
    return parents


def test_there_are_at_most_twelve_errors_under_one_base() -> None:
    below = [error for error in classes() if error is not errors.PgSemanticError]
    assert len(below) <= 12
    assert all(issubclass(error, errors.PgSemanticError) for error in below)


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    assert drawn() == {error.__name__: error.__bases__[0].__name__ for error in classes()}
