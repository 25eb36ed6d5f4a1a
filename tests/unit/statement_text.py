"""SQL as the text that the driver is given, with no server."""

import sqlalchemy as sa

_DIALECT = sa.make_url("postgresql+psycopg://").get_dialect()()


def text(statement: sa.ClauseElement) -> str:
    """The statement's text, on one line."""
    return one_line(str(statement.compile(dialect=_DIALECT)))


def binds(statement: sa.ClauseElement) -> dict[str, object]:
    """The values that travel beside the text."""
    return dict(statement.compile(dialect=_DIALECT).params)


def one_line(sql: str) -> str:
    """A statement with every run of white space as one space, so that layouts compare equal."""
    return " ".join(sql.split())
