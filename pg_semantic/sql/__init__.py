"""Reads named SQL statements from the ``.sql`` files in this package.

In a file, each statement follows ``-- name: statement_name`` and one or more comment lines that state its purpose::

    -- name: claim
    -- Takes the next pending jobs of a generation.
    WITH ...
"""

import functools
import importlib.resources
import re
import string

import sqlalchemy as sa

_HEADER = re.compile(r"^-- name: (?P<name>.*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@functools.cache
def statement(file: str, name: str) -> sa.TextClause:
    """Returns a named statement of ``file``.sql with ``:name`` binds.

    Raises:
        LookupError: The file has no such statement.
    """
    return sa.text(_text(file, name))


@functools.cache
def template(file: str, name: str) -> string.Template:
    """Returns named DDL of ``file``.sql with ``$name`` placeholders for identifiers that a compiler has quoted.

    Raises:
        LookupError: The file has no such statement.
    """
    return string.Template(_text(file, name))


def _text(file: str, name: str) -> str:
    try:
        return names(file)[name]
    except KeyError:
        raise LookupError(f"{file}.sql has no statement {name!r}") from None


@functools.cache
def names(file: str) -> dict[str, str]:
    """Returns every statement of ``file``.sql by name.

    Raises:
        ValueError: The file is malformed.
    """
    text = importlib.resources.files(__name__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        name, body = header["name"].strip(), text[header.end() : end].strip()
        if not _NAME.fullmatch(name) or name in found:
            raise ValueError(f"{file}.sql: the header {name!r} is malformed or duplicated")
        if not body.startswith("-- "):
            raise ValueError(f"{file}.sql: {name} has no comment that states its purpose")
        found[name] = "\n".join(line for line in body.splitlines() if not line.startswith("-- "))
    return found
