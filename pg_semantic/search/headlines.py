"""Headlines: what to call a row when it is shown to people. The beginning of its first text column that isn't blank."""

import sqlalchemy as sa

from pg_semantic.index import chunk_tables
from pg_semantic.index.spec import IndexSpec

LENGTH = 120  # characters

_READ = 1000  # characters; a column that begins with more white space than this counts as blank


def beginning(spec: IndexSpec, row: sa.FromClause) -> sa.ColumnElement[str]:
    """Returns the SQL expression of a headline, to be read by `on_one_line`; NULL if all text columns are blank.

    The server reads only the beginning of each column, however long the column is. A generation can have columns that
    the declaration doesn't have: they are left out.
    """
    known = {column.name for column in row.c}
    texts = (chunk_tables.text_in(row, name) for name in spec.columns if name in known)
    found = (chunk_tables.unblank(sa.func.left(text, _READ)) for text in texts)
    return sa.func.left(sa.func.coalesce(*found, sa.null()), LENGTH + 1, type_=sa.Text)


def on_one_line(text: str) -> str:
    """Returns the value of `beginning` on one line, with an ellipsis if the column continues."""
    line = " ".join(text.split())
    return line if len(text) <= LENGTH else line[: LENGTH - 1] + "…"
