"""``pg-semantic duplicates``: finds rows that are alike."""

from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy import orm

from pg_semantic import search as searching
from pg_semantic.cli import named_index, options, output, progress
from pg_semantic.cli.shown_rows import ShownRows
from pg_semantic.database import own_transaction
from pg_semantic.index import keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Duplicate, Group

EXAMPLES = options.examples(
    "pg-semantic duplicates article_semantic",
    "pg-semantic duplicates article_semantic --groups --least 0.9 --json",
)

_PAIR_LEAST, _GROUP_LEAST = 0.95, 0.9
_MEMBERS_WIDTH = 200


def duplicates(
    index: Annotated[str, typer.Argument(help="The name of the semantic index.")],
    least: Annotated[
        float | None,
        typer.Option(
            help=f"The least similarity, above 0 to 1. Default: {_PAIR_LEAST}, or {_GROUP_LEAST} with --groups.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show groups of rows instead of pairs.")] = False,
    limit: Annotated[int, typer.Option(help="How many pairs or groups to show.", min=1)] = 100,
    json: options.Json = False,
    dsn: options.Dsn = None,
) -> None:
    """Find pairs of rows that are alike, or groups of such rows.

    score: the cosine similarity of the two most similar chunks; 1 if they have the same text. headline: the beginning
    of the row's first text column that isn't blank.

    The rows of a group are alike directly, or through other rows of the group. The table shows the row that is most
    similar to all of them, and their keys.

    Needs no encoder. Changes nothing.
    """
    with options.installed(dsn) as engine, orm.Session(engine) as session:
        bound = named_index.find(session, index)
        count = 0 if json else _count(session, bound)
        with progress.compared(count, shown=not json) as advance:
            found: Sequence[Duplicate[Any]] | Sequence[Group[Any]]
            if groups:
                least = _GROUP_LEAST if least is None else least
                found = searching.groups(session, bound, least=least, on_rows=advance)[:limit]
            else:
                least = _PAIR_LEAST if least is None else least
                found = searching.duplicates(session, bound, least=least, limit=limit, on_rows=advance)
        rows = ShownRows.read(session, bound, [row for one in found for row in _rows_in(one)])
    if json:
        output.as_json([_as_object(one, rows) for one in found])
    else:
        output.table(_columns(rows, groups=groups), [_cells(one, rows) for one in found], empty="No rows are alike.")


def _count(session: orm.Session, index: BoundIndex[Any]) -> int:
    with own_transaction.reading(session):
        return session.scalar(sa.select(sa.func.count()).select_from(index.entity)) or 0


def _rows_in(one: Duplicate[Any] | Group[Any]) -> tuple[object, ...]:
    return one.members if isinstance(one, Group) else (one.first, one.second)


def _as_object(one: Duplicate[Any] | Group[Any], rows: ShownRows) -> dict[str, object]:
    if isinstance(one, Group):
        return {"medoid": rows.as_object(one.medoid), "members": [rows.as_object(row) for row in one.members]}
    return {"score": one.score, "first": rows.as_object(one.first), "second": rows.as_object(one.second)}


def _cells(one: Duplicate[Any] | Group[Any], rows: ShownRows) -> tuple[object, ...]:
    if isinstance(one, Group):
        members = ", ".join(keys.joined(rows.key(row)) for row in one.members)
        return (len(one.members), *rows.cells(one.medoid), output.one_line(members, width=_MEMBERS_WIDTH))
    return (one.score, *rows.cells(one.first), *rows.cells(one.second))


def _columns(rows: ShownRows, *, groups: bool) -> list[str]:
    if groups:
        return ["rows", *rows.names, "headline", "members"]
    return ["score", *(f"{place} {name}" for place in ("first", "second") for name in (*rows.names, "headline"))]
