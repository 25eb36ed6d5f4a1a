"""The reasons why a plan does not use a vector index or lexical index, as sentences for a person.

They come from how the statement is written, from the state of the index, and from the planner's estimates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from pg_semantic import database, sql
from pg_semantic.compat import sqlalchemy_internals
from pg_semantic.index import chunk_tables, partitions
from pg_semantic.index.distances import IndexableDistance
from pg_semantic.search import statements
from pg_semantic.search.candidates import CandidateChunks

Step: TypeAlias = Mapping[str, Any]

_DISTANCE = "<=>"
_INDEXABLE = (_DISTANCE, "<~>")
_INDEXED = {"hnsw": {"vector", "prefix", "signs"}, "gin": {"lexemes"}}
_SOUND_PGVECTOR = (0, 8, 4)
# Without a filter, the planner expects half of all chunks to pass `search.knn`. If it expects fewer, there is a filter.
_SHARE_WITHOUT_FILTER = 0.4

_EXACT = (
    "The statement computes every distance, by design: search.exact, search.exactly and index.distance() do this. "
    "To use the vector index, use search.knn."
)
_ORDERED = (
    "The statement is not ordered by a distance that the vector index supports: its first ORDER BY column must be "
    "the one from search.knn, ascending."
)
_NO_LIMIT = "The statement has no LIMIT, so all rows must be ranked: add one."
_GROUPED = (
    "The statement has a GROUP BY, which needs all rows: put search.knn into a subquery or CTE, and group its rows "
    "outside."
)
_ORDERED_FURTHER = (
    "The statement is ordered by more than the distance, which before PostgreSQL 17 means computing every distance: "
    "put search.knn into a subquery, and order its rows outside."
)
_NO_SCANS = "enable_indexscan is off in this session: turn it on."
_STATES = {
    "missing": "The index {index} does not exist yet: `pg-semantic worker` builds it once rows have been synced.",
    "building": "The index {index} is being built: it will be used as soon as it is ready.",
    "broken": "The index {index} is invalid because its build was interrupted: `pg-semantic worker` rebuilds it.",
}
_UNCOUNTED = "{table} has never been analyzed, so the planner guesses its size: run ANALYZE {table}."
_FILTERED = (
    "The planner expects filters to leave {left} of {total} chunks, so few that it is cheaper to filter first and "
    "compute their distances than to scan the vector index.{exact} If the number is wrong, run ANALYZE."
)
_SMALL = (
    "With {total} chunks, the planner expects computing every distance to be cheaper than scanning the vector index. "
    "{exact}With more chunks or a smaller LIMIT, it would use the index."
)
_LEXICAL_SMALL = (
    "With {total} rows, the planner expects checking the words of every row to be cheaper than using the index "
    "{index}. With more rows, it would use the index."
)
_LEXICAL_HIDDEN = (
    "Row-level security applies to this role, and Postgres applies policies before it matches words, so the index "
    "{index} cannot be used. A superuser can change that (docs/reference/privileges.md, What it costs)."
)
_PRIVILEGES = {
    "source": "Row-level security: the policies query the table for each row. If they compare a single column, declare "
    "it as policy_column (docs/reference/privileges.md).",
    "local": "Row-level security: the policies compare columns that chunks and receipts also have.",
}
_NOT_SEMANTIC = "The statement does not use a semantic index."
_BY_WORDS = "The statement ranks by words alone, so it needs no vector index."
_OLD_PGVECTOR = "pgvector {version} has known bugs in its indexes: install 0.8.4 or later, then REINDEX {index}."
_TIES = "Before PostgreSQL 17, rows with equal scores come in no particular order."


@dataclass(frozen=True, slots=True)
class Walk:
    """A SELECT that should scan a vector index, and the position of the distance in its ORDER BY."""

    index: sa.Index
    select: "sa.Select[*tuple[Any, ...]]"
    place: int


@dataclass(frozen=True, slots=True)
class Subject:
    """The parts of a statement that matter: tables, SELECTs that should scan an index, or computed distances."""

    tables: Sequence[sa.Table]
    walks: Sequence[Walk]
    computes: bool

    @classmethod
    def of(cls, statement: sa.ClauseElement) -> "Subject":
        """Finds these parts in a statement, however it is composed."""
        elements = list(visitors.iterate(statement))
        selects = list(dict.fromkeys(element for element in elements if isinstance(element, sa.Select)))
        walks = [walk for select in selects for walk in _walks(select)]
        named = {element.table for element in elements if isinstance(element, chunk_tables.RegClass)}  # named, not read
        read = [element for element in elements if not (isinstance(element, sa.Table) and element in named)]
        return cls(
            tables=list(dict.fromkeys(table for element in read for table in _tables(element))),
            walks=walks,
            computes=not walks and any(_computes(select) for select in selects),
        )

    @property
    def vector_indexes(self) -> list[sa.Index]:
        """The HNSW indexes of its chunk tables."""
        return [index for table in self.tables for index in table.indexes if _is(index, "hnsw")]

    @property
    def lexical_indexes(self) -> list[sa.Index]:
        """The GIN indexes of its receipt tables."""
        return [index for table in self.tables for index in table.indexes if _is(index, "gin")]


def of(connection: sa.Connection, subject: Subject, *, steps: Sequence[Step]) -> Iterator[str]:
    """Yields the reasons why the plan does not use vector and lexical indexes that the statement could use."""
    used = {step["Index Name"] for step in steps if "Index Name" in step}
    yield from dict.fromkeys(_of_writing(subject))
    for walk in subject.walks:
        if not partitions.is_used(walk.index, used):
            why = [*_of_walk(connection, walk), *_of_state(connection, walk.index), *_of_settings(connection)]
            yield from why or _of_cost(connection, walk, steps=steps)
            yield from _uncounted(connection, subject)
    for index in subject.lexical_indexes:
        if index.name not in used:
            hidden = (
                index.table is not None
                and _privileges(connection, index.table) is not None
                and not connection.scalar(sql.statement("explain", "matching_is_leakproof"))
            )
            reason = _LEXICAL_HIDDEN if hidden else _LEXICAL_SMALL
            yield from _of_state(connection, index) or [reason.format(total=_rows(connection, index), index=index.name)]


def notes(connection: sa.Connection, subject: Subject) -> Iterator[str]:
    """Yields notes on row-level security and, for statements that should scan a vector index, on the server."""
    kinds = (_privileges(connection, table) for table in subject.tables)
    yield from dict.fromkeys(_PRIVILEGES[kind] for kind in kinds if kind in _PRIVILEGES)
    if not subject.walks:
        return
    version = connection.execute(sql.statement("explain", "server")).one().pgvector
    if tuple(int(part) for part in version.split(".")) < _SOUND_PGVECTOR:
        names = ", ".join(str(index.name) for index in subject.vector_indexes)
        yield _OLD_PGVECTOR.format(version=version, index=names)
    if _version(connection) < statements.SORTS_FURTHER:
        yield _TIES


def _of_writing(subject: Subject) -> Iterator[str]:
    """Reasons that no index can change: the statement asks for something else."""
    if subject.walks:
        return
    if subject.computes:
        yield _EXACT
    elif subject.vector_indexes:
        yield _ORDERED
    elif subject.lexical_indexes:
        yield _BY_WORDS
    else:
        yield _NOT_SEMANTIC


def _of_walk(connection: sa.Connection, walk: Walk) -> list[str]:
    select = walk.select
    further = [
        order
        for order in sqlalchemy_internals.order_by(select)[walk.place + 1 :]
        if not isinstance(order, statements._tie_break)  # noqa: SLF001 - it adapts to the server's version
    ]
    told = {
        _ORDERED: walk.place > 0,
        _NO_LIMIT: not sqlalchemy_internals.has_limit(select),
        _GROUPED: sqlalchemy_internals.has_group_by(select),
        _ORDERED_FURTHER: bool(further) and _version(connection) < statements.SORTS_FURTHER,
    }
    return [reason for reason, holds in told.items() if holds]


def _of_state(connection: sa.Connection, index: sa.Index) -> list[str]:
    """Why no statement can use a declared index now."""
    row = connection.execute(sql.statement("registry", "index_state"), {"name": _name(index)}).one_or_none()
    if row is not None and row.valid:
        return []
    state = "missing" if row is None else "building" if row.building else "broken"
    return [_STATES[state].format(index=index.name)]


def _of_settings(connection: sa.Connection) -> list[str]:
    may_scan = connection.execute(sql.statement("explain", "server")).one().may_scan
    return [] if may_scan else [_NO_SCANS]


def _of_cost(connection: sa.Connection, walk: Walk, *, steps: Sequence[Step]) -> Iterator[str]:
    """The planner could use the index, but expects another plan to be cheaper."""
    total = _rows(connection, walk.index)
    left = max((step["Plan Rows"] for step in steps if _sorts_by_distance(step)), default=total)
    filtered = left < total * _SHARE_WITHOUT_FILTER
    exact = "" if _is_compressed(walk.index) else "The result is exact. "
    if filtered:
        yield _FILTERED.format(left=left, total=total, exact=f" {exact}".rstrip())
    else:
        yield _SMALL.format(total=total, exact=exact)


def _is_compressed(index: sa.Index) -> bool:
    """Whether a vector index is on less than the vectors, so that computing all distances to it isn't exact either."""
    indexed = next(iter(index.expressions))
    return not isinstance(indexed, sa.Column) or indexed.name != "vector"


def _privileges(connection: sa.Connection, table: sa.Table) -> str | None:
    """How a table hides rows from the current role; None if it does not."""
    binds = {"name": database.qualified_name(table.schema, table.name)}
    kind: str | None = connection.scalar(sql.statement("explain", "privileges"), binds)
    return kind


def _uncounted(connection: sa.Connection, subject: Subject) -> Iterator[str]:
    for table in subject.tables:
        name = database.qualified_name(table.schema, table.name)
        if connection.scalar(sql.statement("explain", "rows"), {"name": name}) == -1:
            yield _UNCOUNTED.format(table=name)


def _rows(connection: sa.Connection, index: sa.Index) -> int:
    """How many rows the planner assumes in the table of an index."""
    table = index.table
    assert table is not None  # noqa: S101 - the index belongs to a table
    name = database.qualified_name(table.schema, table.name)
    return max(0, int(connection.scalar(sql.statement("explain", "rows"), {"name": name}) or 0))


def _name(index: sa.Index) -> str:
    return database.qualified_name(index.table.schema if index.table is not None else None, str(index.name))


def _version(connection: sa.Connection) -> tuple[int, ...]:
    return tuple(int(part) for part in connection.dialect.server_version_info or ())


def _sorts_by_distance(step: Step) -> bool:
    return bool(step.get("Sort Key")) and any(distance in step["Sort Key"][0] for distance in _INDEXABLE)


def _is(index: sa.Index, method: str) -> bool:
    """Whether an index of ours has this method: only a vector index is ``hnsw``, and only a lexical index ``gin``."""
    names = _INDEXED[method]
    return index.dialect_options["postgresql"]["using"] == method and set(index.columns.keys()) <= names


def _tables(element: Any) -> Iterator[sa.Table]:  # noqa: ANN401 - any element of a statement
    if isinstance(element, sa.Table):
        yield element
    elif isinstance(element, sa.Alias) and isinstance(element.element, sa.Table):
        yield element.element
    elif isinstance(element, sa.Column) and isinstance(element.table, sa.Table):
        yield element.table


def _walks(select: "sa.Select[*tuple[Any, ...]]") -> Iterator[Walk]:
    for place, order in enumerate(sqlalchemy_internals.order_by(select)):
        column = _walked(order)
        yield from (Walk(index, select, place) for index in _vector_indexes([] if column is None else [column]))
    for one in sqlalchemy_internals.conditions(select):
        if isinstance(one, CandidateChunks) and not one.exact:
            yield from (Walk(index, select, 0) for index in _vector_indexes(one.place))


def _vector_indexes(columns: Sequence[sa.ColumnElement[Any]]) -> list[sa.Index]:
    """The vector indexes of the tables that these columns come from."""
    tables = dict.fromkeys(root.table for column in columns for root in column.base_columns if hasattr(root, "table"))
    return [index for table in tables if isinstance(table, sa.Table) for index in table.indexes if _is(index, "hnsw")]


def _walked(order: Any) -> sa.ColumnElement[Any] | None:  # noqa: ANN401 - as above
    """The column that the vector index which supports this ORDER BY expression is on, if any."""
    if isinstance(order, IndexableDistance):
        return None if order.exact else order.vector
    if not isinstance(order, sa.BinaryExpression) or getattr(order.operator, "opstring", "") not in _INDEXABLE:
        return None
    of = order.left
    return next((one for one in visitors.iterate(of) if isinstance(one, sa.Column)), of)


def _computes(select: "sa.Select[*tuple[Any, ...]]") -> bool:
    """Whether rows are ordered by a distance that no index supports."""
    if any(isinstance(one, CandidateChunks) for one in sqlalchemy_internals.conditions(select)):
        return True
    first = next(iter(sqlalchemy_internals.order_by(select)), None)
    if first is None or isinstance(first, sa.BinaryExpression):
        return False  # the latter picks the best chunk of a row
    named = getattr(first, "element", None)
    if isinstance(named, str):
        first = select.selected_columns.get(named, first)
    parts = [part for root in first.base_columns for part in visitors.iterate(root)]
    return any(getattr(getattr(part, "operator", None), "opstring", "") == _DISTANCE for part in parts) or any(
        isinstance(part, IndexableDistance) and part.exact for part in parts
    )
