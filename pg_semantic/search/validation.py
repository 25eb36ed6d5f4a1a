"""Which part of a ranking is asked for, and the text that asks: checked here."""

from typing import TypeVar

import sqlalchemy as sa

from pg_semantic import errors

S = TypeVar("S", bound="sa.Select[*tuple[object, ...]]")

MOST_ROWS = 1_000_000
_MOST_CHARACTERS = 100_000


def paginate(statement: S, *, limit: int, offset: int) -> S:
    """The statement with LIMIT and OFFSET; raises `errors.QueryError` for numbers that make no sense."""
    check_page(limit=limit, offset=offset)
    limited = statement.limit(limit)
    return limited.offset(offset) if offset else limited


def check_page(*, limit: object, offset: object) -> None:
    """Raises `errors.QueryError` for a page that can not be."""
    if not (isinstance(limit, int) and isinstance(offset, int)):
        raise errors.QueryError(f"limit={limit!r}, offset={offset!r}: give whole numbers.")
    if limit < 1 or offset < 0 or limit + offset > MOST_ROWS:
        raise errors.QueryError(
            f"limit={limit}, offset={offset}: limit must be 1 or more, offset 0 or more, and both together "
            f"{MOST_ROWS} at most."
        )


def check_query_text(given: object) -> str:
    """The text of a query; raises `errors.QueryError` for one that is empty, endless, or no text at all."""
    if not isinstance(given, str):
        raise errors.QueryError(
            f"The query is of type {type(given).__name__}: give a text; for a vector there is search.knn, and "
            "index.similar_to(positive=[...]) for rows and vectors."
        )
    if not given.strip():
        raise errors.QueryError("The query is empty: give a text to search for.")
    if len(given) > _MOST_CHARACTERS:
        raise errors.QueryError(
            f"The query has {len(given)} characters, more than {_MOST_CHARACTERS}: ask with a part of the text."
        )
    if "\0" in given:
        raise errors.QueryError("The query has a NUL character, which Postgres can not take: leave it out.")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise errors.QueryError("The query has half of a surrogate pair: it is not text that can be encoded.") from None
    return given
