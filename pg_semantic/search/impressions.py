"""What searches have shown, and what was clicked, in a table of the application: what relevance is learned from.

Nothing here executes a statement. The application adds the table to its own schema, and stores rows in its own
transactions. A row of the table is a row that was shown: its key and rank, never its text.
"""

import datetime as dt
import hashlib
import hmac
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pg_semantic import errors
from pg_semantic.index import chunk_tables
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import interleaving, validation
from pg_semantic.search.interleaving import Drafted
from pg_semantic.search.results import Hit

_LEAST_KEY_BYTES = 16


def impressions_table(metadata: sa.MetaData, *, name: str = "impression", schema: str | None = None) -> sa.Table:
    """Declares a table of impressions, for your own schema and migrations.

    An impression is what one visitor was shown for one search: a result page, and its further pages. The table has one
    row for each row that was shown, of about 230 bytes with its indexes. Its columns are ``impression`` (a UUID),
    ``rank`` (from 1, across pages), ``shown_at``, ``index_schema`` (NULL if the mapped class names none),
    ``index_name``, ``key``, ``query`` or ``query_hash``, ``variant``, ``team`` (of an interleaved page), ``visitor``
    and ``clicked_at``.

    For a mapped class: ``class Impression(Base): __table__ = search.impressions_table(Base.metadata)``.

    Args:
        metadata: The metadata of your tables, such as ``Base.metadata``.
        name: The table's name.
        schema: The table's schema, if it isn't that of the metadata.
    """
    return sa.Table(
        name,
        metadata,
        sa.Column("impression", sa.Uuid, primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("shown_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now(), index=True),
        sa.Column("index_schema", sa.Text),
        sa.Column("index_name", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("query", sa.Text),
        sa.Column("query_hash", sa.LargeBinary),
        sa.Column("variant", sa.Text),
        sa.Column("team", sa.Text),
        sa.Column("visitor", sa.Text),
        sa.Column("clicked_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("num_nonnulls(query, query_hash) = 1", name="query_or_hash"),
        schema=schema,
    )


def impressions(  # noqa: PLR0913 - options
    index: BoundIndex[Any],
    hits: Sequence[Hit[Any] | Drafted[Any]],
    *,
    query: str,
    impression: uuid.UUID,
    offset: int = 0,
    variant: str | None = None,
    visitor: str | None = None,
    hash_key: bytes | None = None,
) -> list[dict[str, Any]]:
    """Returns the rows to store for a page that is shown, for ``session.execute(insert(table), rows)``.

    Store only what is shown: a hit that was found but not shown can't be clicked, and would seem to be irrelevant.

    Args:
        hits: The hits of the page in their order, with their keys (``Options(keys=True)``), or `interleave`'s.
        query: The query. It is stored as it is, unless you pass ``hash_key``.
        impression: A new ``uuid.uuid4()`` for each search. Its further pages have the same.
        offset: How many hits the pages before this one have.
        variant: How the page was searched, such as the name of an experiment.
        visitor: An opaque id of the person, such as a hash of the session. It lets `clicks` leave out robots, and
            `evaluation.interleaving_outcome` count each person once.
        hash_key: A secret of at least 16 bytes, to store the HMAC-SHA256 of the query instead of its text. Clicks can
            then be read only for queries whose texts you pass to `clicks`.

    Raises:
        errors.QueryError: A hit has no key, or another argument is not valid.
    """
    validation.check_query_text(query)
    if offset < 0:
        raise errors.QueryError(f"offset={offset}: it must be 0 or more.")
    hashed = None if hash_key is None else query_hmac(query, hash_key)
    common: dict[str, Any] = {"impression": impression, "index_schema": index.spec.schema, "index_name": index.name}
    common |= {"variant": variant, "visitor": visitor, "query": query if hashed is None else None, "query_hash": hashed}
    drafted = [one if isinstance(one, Drafted) else Drafted(one, None) for one in hits]
    return [
        {"rank": rank, "key": interleaving.key_of(one.hit), "team": one.team, **common}
        for rank, one in enumerate(drafted, start=offset + 1)
    ]


def record_click(table: sa.Table, *, impression: uuid.UUID, key: str) -> sa.Update:
    """Returns the statement that records a click on a row of an impression.

    A second click changes nothing. Neither does one on a row that was not shown: the statement then updates no row. An
    impression's id is as hard to guess as any random UUID, so a client can only click on what it was shown.

    Args:
        table: The table from `impressions_table`.
        impression: The impression's id.
        key: The key of the row, as in `Hit.key`.

    Raises:
        errors.QueryError: The key is not a text.
    """
    if not isinstance(key, str):
        raise errors.QueryError(f"key={key!r} is not a text: pass Hit.key as it is, or str(key) of a number.")
    columns = table.c
    clicked = (columns.impression == impression, columns.key == key, columns.clicked_at.is_(None))
    return sa.update(table).where(*clicked).values(clicked_at=sa.func.now())


def clicks(
    index: BoundIndex[Any],
    table: sa.Table,
    *,
    where: Sequence[sa.ColumnElement[bool]] = (),
    most_per_visitor: int | None = None,
    texts: Sequence[str] = (),
    hash_key: bytes | None = None,
) -> sa.Select[*tuple[Any, ...]]:
    """Returns the SELECT that `Judgements.clicks` takes: query, key, rank and whether the row was clicked.

    Args:
        index: The index that was searched. Impressions of others are left out.
        where: Conditions on the table, such as ``table.c.shown_at > ...``.
        most_per_visitor: Leaves out visitors with more impressions than this under the conditions: they are seldom
            people. Impressions without a visitor stay.
        texts: Queries whose texts you know, if impressions have only hashes: exactly as they were searched. Other
            hashed queries are left out.
        hash_key: The secret that the hashes were computed with.

    Raises:
        errors.QueryError: ``texts`` and ``hash_key`` were not given together, or an argument is not valid.
    """
    if bool(texts) != (hash_key is not None):
        raise errors.QueryError("Pass texts and hash_key together: a hash says nothing without the texts to compare.")
    columns, conditions = table.c, [*of_index(table, index), *where]
    if most_per_visitor is not None:
        conditions.append(_not_busier(table, conditions, most_per_visitor))
    query: sa.ColumnElement[str] = columns.query
    source: sa.FromClause = table
    if hash_key is not None:
        known = _known(texts, hash_key)
        source = table.outerjoin(known, columns.query_hash == known.c.query_hash)
        query = sa.func.coalesce(columns.query, known.c.query)
    clicked = columns.clicked_at.is_not(None)
    return (
        sa.select(query.label("query"), *_key(index, columns.key), columns.rank, clicked.label("clicked"))
        .select_from(source)
        .where(*conditions, query.is_not(None))
    )


def of_index(table: sa.Table, index: BoundIndex[Any]) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Returns the conditions that an impression belongs to an index.

    An index without a declared schema is in the first one on the reader's search path that has an index of the name.
    """
    relation = sa.table("pg_class", sa.column("oid"), sa.column("relnamespace"), schema="pg_catalog")
    namespace = sa.table("pg_namespace", sa.column("oid"), sa.column("nspname"), schema="pg_catalog")
    first = (
        sa.select(sa.cast(namespace.c.nspname, sa.Text))
        .join(relation, relation.c.relnamespace == namespace.c.oid)
        .where(relation.c.oid == chunk_tables.RegClass(sa.table(index.name)))
        .scalar_subquery()
    )
    stored, wanted = (sa.func.coalesce(one, first, "") for one in (table.c.index_schema, index.spec.schema))
    return table.c.index_name == index.name, stored == wanted


def forget_impressions(
    table: sa.Table, *, before: dt.datetime | None = None, visitor: str | None = None, limit: int = 10_000
) -> sa.Delete:
    """Returns the statement that deletes impressions: old ones, those of a visitor, or the old ones of a visitor.

    Repeat it, each time in a transaction of its own, until it deletes no row: so no lock is held for long. An index
    finds old rows. Those of a visitor are found by reading the whole table: create an index on ``visitor`` if you often
    delete these.

    Args:
        table: The table from `impressions_table`.
        before: Deletes what was shown before this moment.
        visitor: Deletes what was shown to this visitor.
        limit: How many rows to delete at most.

    Raises:
        errors.QueryError: Neither ``before`` nor ``visitor`` was given, or ``before`` has no time zone.
    """
    if before is not None and before.tzinfo is None:
        raise errors.QueryError("before has no time zone: pass one, as in datetime.now(UTC) - timedelta(days=90).")
    conditions = [] if before is None else [table.c.shown_at < before]
    if visitor is not None:
        conditions.append(table.c.visitor == visitor)
    if not conditions:
        raise errors.QueryError("Pass before or visitor: this would delete all impressions.")
    chosen = sa.select(table.c.impression, table.c.rank).where(*conditions).order_by(table.c.shown_at).limit(limit)
    return sa.delete(table).where(sa.tuple_(table.c.impression, table.c.rank).in_(chosen))


def query_hmac(query: str, key: bytes) -> bytes:
    """Returns the HMAC-SHA256 of a query's text, 32 bytes. Without the key, it can't be guessed from short queries.

    Raises:
        errors.QueryError: The key has fewer than 16 bytes.
    """
    if len(key) < _LEAST_KEY_BYTES:
        raise errors.QueryError(
            f"hash_key has {len(key)} bytes: use at least {_LEAST_KEY_BYTES} random ones, as from secrets.token_bytes."
        )
    return hmac.digest(key, query.encode(), hashlib.sha256)


def _not_busier(table: sa.Table, conditions: Sequence[sa.ColumnElement[bool]], most: int) -> sa.ColumnElement[bool]:
    """Returns the condition that the visitor is unknown, or has at most ``most`` impressions."""
    visitor = table.c.visitor
    busy = (
        sa.select(visitor)
        .where(*conditions, visitor.is_not(None))
        .group_by(visitor)
        .having(sa.func.count(table.c.impression.distinct()) > most)
    )
    return sa.or_(visitor.is_(None), visitor.not_in(busy))


def _known(texts: Sequence[str], key: bytes) -> sa.TableValuedAlias:
    """Returns a derived table of queries with their hashes."""
    unique = list(dict.fromkeys(texts))
    hashes = [query_hmac(text, key) for text in unique]
    binds = (
        sa.bindparam(None, unique, type_=postgresql.ARRAY(sa.Text)),
        sa.bindparam(None, hashes, type_=postgresql.ARRAY(sa.LargeBinary)),
    )
    columns = (sa.column("query", sa.Text), sa.column("query_hash", sa.LargeBinary))
    return sa.func.unnest(*binds).table_valued(*columns, name="known").render_derived()


def _key(index: BoundIndex[Any], key: sa.ColumnElement[str]) -> list[sa.ColumnElement[Any]]:
    """Returns the text of each key column."""
    names = [column.name for column in index.spec.key]
    if len(names) == 1:
        return [key.label(names[0])]
    parts = sa.cast(key, postgresql.JSONB)
    return [parts[number].astext.label(name) for number, name in enumerate(names)]
