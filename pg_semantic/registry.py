"""Reads the registry: generations with their specs, and the fingerprints of encoders."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from pg_semantic import database, errors, sql
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunk_tables import Role, Tables
from pg_semantic.index.spec import IndexSpec

if TYPE_CHECKING:
    from pg_semantic.encoders import Encoder


_GENERATION = sa.table(
    "generation",
    sa.column("id", sa.Integer),
    sa.column("index_id"),
    sa.column("role", sa.Text),
    sa.column("encoder_id"),
    sa.column("chunks", sa.Text),
    schema="semantic",
)
_RECALL = sa.table(
    "recall", sa.column("generation_id", sa.Integer), sa.column("ef_search", sa.Integer), schema="semantic"
)
_ENCODER = sa.table("encoder", sa.column("id"), sa.column("fingerprint", sa.Text), schema="semantic")


@dataclass(frozen=True, slots=True)
class Generation:
    """One built copy of a semantic index. The spec has the current names of the source and the index.

    ``fingerprint``, ``document_fingerprint`` and ``revision`` are those of the encoder, None before a worker has loaded
    it. ``apart`` is the SQL that moves its tables to the schema of the source, if the source was moved. ``problem`` is
    a message if the source was dropped or has another key (``gone``), or if another table now has its declared name.
    ``operators`` are the operators of each key column, as in `chunk_tables.KeyType`.
    """

    id: int
    name: str
    role: Role
    spec: IndexSpec
    backfilled: bool
    fingerprint: str | None
    document_fingerprint: str | None = None
    revision: str | None = None
    apart: str | None = None
    index_id: int = 0
    gone: bool = False
    partitioned: bool = False
    problem: str | None = None
    operators: tuple[tuple[str, ...] | None, ...] = ()

    @property
    def qualified_name(self) -> str:
        """The semantic index's name with its schema, unique within a database."""
        return f"{self.spec.schema}.{self.name}"

    @property
    def title(self) -> str:
        """The qualified name, followed by the role unless that is live."""
        return self.qualified_name if self.role == "live" else f"{self.qualified_name} ({self.role})"

    @property
    def tables(self) -> Tables:
        """The views to read and write its rows with, whose names don't change with its role."""
        return chunk_tables.views_of(self.spec, self.id, partitioned=self.partitioned, operators=self.operators)

    @property
    def stored(self) -> Tables:
        """Its tables under their names in the present role, to build indexes on and to measure."""
        return chunk_tables.build(self.spec, role=self.role)


def generations(connection: sa.Connection) -> list[Generation]:
    """Returns every generation in the database, oldest index first."""
    with database.translated():
        rows = connection.execute(sql.statement("registry", "generations").columns(spec=JSONB))
        return [_generation(row) for row in rows]


def tables(connection: sa.Connection) -> list[tuple[str, str]]:
    """Returns schema and name of every chunk and receipt table of all generations."""
    with database.translated():
        return [(row.schema, row.name) for row in connection.execute(sql.statement("registry", "tables"))]


def find(connection: sa.Connection, name: str) -> Generation:
    """Returns the live generation of the semantic index with this name.

    Args:
        connection: A connection to the database.
        name: The index's name, with or without its schema.

    Raises:
        errors.IndexNotFound: No index has the name, or several do.
    """
    known = [generation for generation in generations(connection) if generation.role == "live"]
    matches = [generation for generation in known if name in {generation.name, generation.qualified_name}]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(generation.qualified_name for generation in matches or known) or "none"
    if matches:
        raise errors.IndexNotFound(f"{name!r} is the name of several semantic indexes: use one of {names}.")
    raise errors.IndexNotFound(f"No semantic index {name!r} in this database. Its semantic indexes: {names}.")


def copies(connection: sa.Connection, name: str) -> list[Generation]:
    """Returns every generation of the semantic index with this name, the live one first.

    Raises:
        errors.IndexNotFound: No index has the name, or several do.
    """
    live = find(connection, name)
    others = [one for one in generations(connection) if one.qualified_name == live.qualified_name and one.id != live.id]
    return [live, *others]


def of_role(connection: sa.Connection, name: str, role: Role) -> Generation:
    """Returns the generation of a semantic index that has this role.

    Raises:
        errors.IndexNotFound: No index has the name, or several do.
        errors.GenerationError: The index has no generation of this role.
    """
    same = copies(connection, name)
    for one in same:
        if one.role == role:
            return one
    there = ", ".join(one.role for one in same)
    raise errors.GenerationError(
        f"Semantic index {same[0].qualified_name!r} has no {role} generation; it has: {there}."
    )


@dataclass(frozen=True, slots=True)
class StoredTables:
    """The quoted names of a generation's chunk and receipt tables, and whether a vector index is on the first."""

    chunks: str
    receipts: str
    is_indexed: bool


def stored_tables(connection: sa.Connection, generation_id: int) -> StoredTables:
    """Returns the current names of a generation's tables. Lock the tables to keep the names."""
    found = connection.execute(sql.statement("registry", "stored_tables"), {"generation": generation_id}).one()
    return StoredTables(*found)


def require_named(connection: sa.Connection, tables: Tables) -> None:
    """Checks that the table just read by name is still the source, and was not swapped with another.

    The lock from reading it keeps the name unchanged until the transaction ends.

    Raises:
        sqlalchemy.exc.DBAPIError: It is another table. The SQLSTATE is that of a locked table, so callers try again
            later.
    """
    if tables.generation is not None:
        name = database.qualified_name(tables.source.schema, tables.source.name)
        connection.execute(sql.statement("registry", "named"), {"generation": tables.generation, "source": name})


def live(connection: sa.Connection, tables: Tables) -> tuple[Generation, frozenset[int]]:
    """Returns the live generation of a declared semantic index, and the ids of all its generations.

    Raises:
        errors.IndexNotFound: The index has not been created, or its source was dropped or has another key.
    """
    spec = tables.spec
    name = database.qualified_name(spec.schema, spec.name)
    every = _live_generations()
    of_chunks = sa.select(_GENERATION.c.index_id).where(_GENERATION.c.chunks == chunk_tables.RegClass(tables.chunks))
    with database.translated():
        row = connection.execute(sa.select(every).where(every.c.index_id == of_chunks.scalar_subquery())).one_or_none()
    if row is None:
        raise _not_created(spec)
    if row.gone:
        raise errors.IndexNotFound(f"Semantic index {name!r}: {row.problem}.")
    return _generation(row), frozenset(row.kept)


def index_id(connection: sa.Connection, tables: Tables) -> int:
    """Returns the id of a semantic index, from the tables of any of its generations.

    Raises:
        errors.IndexNotFound: The index has not been created.
    """
    own = _GENERATION.c.chunks == chunk_tables.RegClass(tables.chunks)
    if tables.generation is not None:
        own = _GENERATION.c.id == tables.generation
    with database.translated():
        found: int | None = connection.scalar(sa.select(_GENERATION.c.index_id).where(own))
    if found is None:
        raise _not_created(tables.spec)
    return found


def _not_created(spec: IndexSpec) -> errors.IndexNotFound:
    return errors.IndexNotFound(
        f"Semantic index {database.qualified_name(spec.schema, spec.name)!r} has not been created in this database: "
        "run metadata.create_all(engine) or `pg-semantic index create`."
    )


@functools.cache
def _live_generations() -> sa.Subquery:
    names = (
        "id role backfilled schema table name fingerprint document_fingerprint revision apart operators index_id "
        "partitioned gone problem"
    )
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in (*names.split(), "kept")]
    return sql.statement("registry", "live").columns(*columns, spec=JSONB).subquery("live")


def fingerprint_of(generation_id: int) -> sa.ScalarSelect[str | None]:
    """Returns a column for search statements: the fingerprint of the encoder behind a generation's vectors."""
    same_encoder = _ENCODER.c.id == _GENERATION.c.encoder_id
    known = sa.select(_ENCODER.c.fingerprint).join(_GENERATION, same_encoder)
    return known.where(_GENERATION.c.id == generation_id).scalar_subquery()


def ef_search_of(tables: Tables) -> sa.ScalarSelect[int | None]:
    """Returns a column for search statements: the number of candidates that was chosen for a generation, or NULL."""
    chosen = sa.select(_RECALL.c.ef_search)
    if tables.generation is not None:
        return chosen.where(_RECALL.c.generation_id == tables.generation).scalar_subquery()
    of_chunks = sa.and_(
        _GENERATION.c.id == _RECALL.c.generation_id, _GENERATION.c.chunks == chunk_tables.RegClass(tables.chunks)
    )
    return chosen.join(_GENERATION, of_chunks).scalar_subquery()


def live_of(chunks: sa.Table) -> sa.ScalarSelect[int]:
    """Returns a column for search statements: the id of the live generation of a declared index."""
    live, named = _GENERATION.alias("live"), _GENERATION.alias("named")
    same_index = sa.and_(live.c.index_id == named.c.index_id, live.c.role == "live")
    found = sa.select(live.c.id).join(named, same_index)
    return found.where(named.c.chunks == chunk_tables.RegClass(chunks)).scalar_subquery()


def _generation(row: sa.Row[Any]) -> Generation:
    return Generation(
        id=row.id,
        name=row.name,
        role=row.role,
        spec=dataclasses.replace(IndexSpec.from_json(row.spec), schema=row.schema, table=row.table),
        backfilled=row.backfilled,
        fingerprint=row.fingerprint,
        document_fingerprint=row.document_fingerprint,
        revision=row.revision,
        apart=row.apart,
        index_id=row.index_id,
        gone=row.gone,
        partitioned=bool(row.partitioned),
        problem=row.problem,
        operators=tuple(one and tuple(one) for one in row.operators or ()),
    )


def pin_encoder(connection: sa.Connection, encoder_id: int, encoder: "Encoder") -> None:
    """Records the fingerprints of a loaded encoder, or compares its fingerprint with the recorded one.

    Raises:
        errors.EncoderMismatch: Another fingerprint is recorded.
        errors.IndexNotFound: No semantic index uses the encoder any more.
    """
    names = ("fingerprint", "document_fingerprint", "revision", "max_tokens")
    loaded = {"id": encoder_id} | {name: getattr(encoder, name) for name in names}
    prompts = {name: getattr(encoder, name, None) for name in ("query_prompt", "document_prompt")}
    connection.execute(sql.statement("registry", "pin_encoder"), loaded | prompts)
    recorded = connection.execute(sql.statement("registry", "pinned_encoder"), {"id": encoder_id}).one_or_none()
    if recorded is None:
        raise errors.IndexNotFound("The semantic index was dropped a moment ago.")
    if recorded.fingerprint != encoder.fingerprint:
        raise errors.EncoderMismatch(
            f"The stored vectors come from encoder {recorded.reference!r}, {recorded.revision} (fingerprint "
            f"{recorded.fingerprint}), but the loaded encoder is {encoder.revision} (fingerprint "
            f"{encoder.fingerprint}): load the same weights, prompts and limits, or rebuild the index."
        )
