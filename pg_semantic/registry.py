"""What the database knows of its semantic indexes: generations with their specs, and the encoders' fingerprints."""

import dataclasses
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
_ENCODER = sa.table("encoder", sa.column("id"), sa.column("fingerprint", sa.Text), schema="semantic")


@dataclass(frozen=True, slots=True)
class Generation:
    """One built copy of a semantic index; the spec has the names that the source and the index have now.

    ``apart`` is the SQL that puts its tables beside the source, where that was moved to another schema. ``trouble``
    says in words that the source was dropped or has another key (``gone``), or is not the table that has the declared
    name now.
    ``operators`` are those of each key column, as in `chunk_tables.KeyType`.
    """

    id: int
    name: str
    role: Role
    spec: IndexSpec
    backfilled: bool
    fingerprint: str | None
    apart: str | None = None
    index_id: int = 0
    gone: bool = False
    partitioned: bool = False
    trouble: str | None = None
    operators: tuple[tuple[str, ...] | None, ...] = ()

    @property
    def qualified_name(self) -> str:
        """The semantic index's name with its schema, which is unique in a database."""
        return f"{self.spec.schema}.{self.name}"

    @property
    def title(self) -> str:
        """What it is called among all generations of a database: the role is left out where it is live."""
        return self.qualified_name if self.role == "live" else f"{self.qualified_name} ({self.role})"

    @property
    def tables(self) -> Tables:
        """What its rows are read and written by: names that stay with it, whatever its role becomes."""
        return chunk_tables.views_of(self.spec, self.id, partitioned=self.partitioned, operators=self.operators)

    @property
    def stored(self) -> Tables:
        """Its tables by the names that they have in this role, to build indexes on and to measure."""
        return chunk_tables.build(self.spec, role=self.role)


def generations(connection: sa.Connection) -> list[Generation]:
    """Every generation in the database, oldest index first."""
    with database.translated():
        rows = connection.execute(sql.statement("registry", "generations").columns(spec=JSONB))
        return [_generation(row) for row in rows]


def tables(connection: sa.Connection) -> list[tuple[str, str]]:
    """Schema and name of every chunk and receipt table, of whichever generation."""
    with database.translated():
        return [(row.schema, row.name) for row in connection.execute(sql.statement("registry", "tables"))]


def find(connection: sa.Connection, name: str) -> Generation:
    """The live generation of the semantic index with this name, which may be qualified with a schema."""
    known = [generation for generation in generations(connection) if generation.role == "live"]
    matches = [generation for generation in known if name in {generation.name, generation.qualified_name}]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(generation.qualified_name for generation in matches or known) or "none"
    if matches:
        raise errors.IndexNotFound(f"{name!r} is the name of several semantic indexes: say which of {names}.")
    raise errors.IndexNotFound(f"No semantic index {name!r} in this database. There are: {names}.")


def copies(connection: sa.Connection, name: str) -> list[Generation]:
    """Every generation of the semantic index with this name, the live one first."""
    live = find(connection, name)
    others = [one for one in generations(connection) if one.qualified_name == live.qualified_name and one.id != live.id]
    return [live, *others]


def chunk_table(connection: sa.Connection, generation_id: int) -> str:
    """The name that the chunk table of a generation has at this moment, quoted; a lock on it makes it last."""
    found: str = connection.scalar(sql.statement("registry", "chunk_table"), {"generation": generation_id})
    return found


def require_named(connection: sa.Connection, tables: Tables) -> None:
    """Makes sure that a table that was just read by its name is the source still, as a swap of names changes.

    The lock of the read keeps the name where it is until the transaction ends. Raises the error of a table that is
    locked, so that what was read is left for another time.
    """
    if tables.generation is not None:
        name = database.qualified_name(tables.source.schema, tables.source.name)
        connection.execute(sql.statement("registry", "named"), {"generation": tables.generation, "source": name})


def live(connection: sa.Connection, tables: Tables) -> tuple[Generation, frozenset[int]]:
    """The live generation of a semantic index that is declared, and the numbers of all that it has.

    Raises `errors.IndexNotFound`.
    """
    spec = tables.spec
    name = database.qualified_name(spec.schema, spec.name)
    with database.translated():
        chunks = connection.scalar(sa.select(sa.cast(chunk_tables.RegClass(tables.chunks), sa.BigInteger)))
        statement = sql.statement("registry", "live").columns(spec=JSONB)
        row = connection.execute(statement, {"chunks": chunks}).one_or_none()
    if row is None:
        raise errors.IndexNotFound(
            f"Semantic index {name!r} has not been created in this database: "
            "metadata.create_all(engine), or `pg-semantic index create`."
        )
    if row.gone:
        raise errors.IndexNotFound(f"Semantic index {name!r}: {row.trouble}.")
    return _generation(row), frozenset(row.kept)


def fingerprint_of(generation_id: int) -> sa.ScalarSelect[str | None]:
    """The fingerprint of the encoder that made a generation's vectors, as a column for the statement of a search."""
    same_encoder = _ENCODER.c.id == _GENERATION.c.encoder_id
    known = sa.select(_ENCODER.c.fingerprint).join(_GENERATION, same_encoder)
    return known.where(_GENERATION.c.id == generation_id).scalar_subquery()


def live_of(chunks: sa.Table) -> sa.ScalarSelect[int]:
    """The live generation of an index that is declared, as a column for the statement of a search."""
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
        apart=row.apart,
        index_id=row.index_id,
        gone=row.gone,
        partitioned=bool(row.partitioned),
        trouble=row.trouble,
        operators=tuple(one and tuple(one) for one in row.operators or ()),
    )


def pin_encoder(connection: sa.Connection, encoder_id: int, encoder: "Encoder") -> None:
    """Records which encoder was loaded, or compares it with the recorded one.

    Raises `errors.EncoderMismatch` when another fingerprint is on record, and `errors.IndexNotFound` when no semantic
    index has the encoder any more.
    """
    loaded = {"id": encoder_id, "fingerprint": encoder.fingerprint, "revision": encoder.revision}
    prompts = {name: getattr(encoder, name, None) for name in ("query_prompt", "document_prompt")}
    connection.execute(sql.statement("registry", "pin_encoder"), loaded | prompts | {"max_tokens": encoder.max_tokens})
    recorded = connection.execute(sql.statement("registry", "pinned_encoder"), {"id": encoder_id}).one_or_none()
    if recorded is None:
        raise errors.IndexNotFound("The semantic index was dropped a moment ago.")
    if recorded.fingerprint != encoder.fingerprint:
        raise errors.EncoderMismatch(
            f"The stored vectors were made by {recorded.reference!r}, {recorded.revision} (fingerprint "
            f"{recorded.fingerprint}); loaded here is {encoder.revision} (fingerprint {encoder.fingerprint}): load "
            "the same weights, prompts and limits, or make the index anew."
        )
