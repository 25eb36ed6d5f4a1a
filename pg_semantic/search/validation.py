"""Checks of limit, offset and the query text."""

from typing import TypeVar

import sqlalchemy as sa

from pg_semantic import errors

S = TypeVar("S", bound="sa.Select[*tuple[object, ...]]")

MOST_ROWS = 1_000_000
MOST_CHARACTERS = 100_000


def paginate(statement: S, *, limit: int, offset: int) -> S:
    """Adds LIMIT and OFFSET to a statement. Raises what `check_page` raises."""
    check_page(limit=limit, offset=offset)
    limited = statement.limit(limit)
    return limited.offset(offset) if offset else limited


def check_page(*, limit: object, offset: object) -> None:
    """Raises `errors.QueryError` if limit or offset is out of range or not an integer."""
    if not (isinstance(limit, int) and isinstance(offset, int)):
        raise errors.QueryError(f"limit={limit!r}, offset={offset!r}: both must be whole numbers.")
    if limit < 1 or offset < 0 or limit + offset > MOST_ROWS:
        raise errors.QueryError(
            f"limit={limit}, offset={offset}: limit must be 1 or more, offset 0 or more, and their sum "
            f"at most {MOST_ROWS}."
        )


def check_query_text(given: object) -> str:
    """Returns the query text unchanged.

    Raises:
        errors.QueryError: It is not a string, is empty or too long, or has a NUL character or a lone surrogate.
    """
    if not isinstance(given, str):
        raise errors.QueryError(
            f"The query must be text, not {type(given).__name__}: for a vector use search.knn, for rows and vectors as "
            "examples index.similar_to(positive=[...])."
        )
    if not given.strip():
        raise errors.QueryError("The query is empty: enter text to search for.")
    if len(given) > MOST_CHARACTERS:
        raise errors.QueryError(
            f"The query has {len(given)} characters, but the limit is {MOST_CHARACTERS}: search with part of the text."
        )
    if "\0" in given:
        raise errors.QueryError("The query has a NUL character, which Postgres does not accept: remove it.")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise errors.QueryError("The query has a lone surrogate, which is not valid Unicode: remove it.") from None
    return given
