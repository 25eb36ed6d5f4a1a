"""What the database knows of its semantic indexes: generations with their specs, and the encoders' fingerprints."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from pg_semantic import database, errors, sql
from pg_semantic.spec import IndexSpec

if TYPE_CHECKING:
    from pg_semantic.encoders import Encoder


_GENERATION = sa.table("generation", sa.column("encoder_id"), sa.column("chunks"), schema="semantic")
_ENCODER = sa.table("encoder", sa.column("id"), sa.column("fingerprint", sa.Text), schema="semantic")


@dataclass(frozen=True, slots=True)
class Generation:
    """One built copy of a semantic index; the spec has the names that its tables have now."""

    id: int
    name: str
    role: str
    spec: IndexSpec
    backfilled: bool
    fingerprint: str | None

    @property
    def qualified_name(self) -> str:
        """The semantic index's name with its schema, which is unique in a database."""
        return f"{self.spec.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """An encoder as recorded; the fingerprint is None until a worker has loaded it."""

    reference: str
    dimensions: int
    fingerprint: str | None


def generations(connection: sa.Connection) -> list[Generation]:
    """Every generation in the database, oldest index first."""
    with database.translated():
        rows = connection.execute(sql.statement("registry", "generations").columns(spec=JSONB))
        return [
            Generation(
                id=row.id,
                name=row.name,
                role=row.role,
                spec=dataclasses.replace(IndexSpec.from_json(row.spec), schema=row.schema, table=row.table),
                backfilled=row.backfilled,
                fingerprint=row.fingerprint,
            )
            for row in rows
        ]


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


def encoder_of(connection: sa.Connection, spec: IndexSpec) -> KnownEncoder:
    """The encoder that made the vectors of a semantic index."""
    name = database.qualified_name(spec.schema, spec.name)
    with database.translated():
        row = connection.execute(sql.statement("registry", "encoder_of"), {"chunks": name}).one_or_none()
    if row is None:
        raise errors.IndexNotFound(
            f"Semantic index {name!r} has not been created in this database: "
            "metadata.create_all(engine), or `pg-semantic index create`."
        )
    return KnownEncoder(row.reference, row.dimensions, row.fingerprint)


def fingerprint_of(spec: IndexSpec) -> sa.ScalarSelect[str | None]:
    """The fingerprint of the encoder that made an index's vectors, as a column for the statement of a search."""
    chunks = sa.func.to_regclass(sa.literal(database.qualified_name(spec.schema, spec.name), sa.Text))
    same_encoder = _ENCODER.c.id == _GENERATION.c.encoder_id
    known = sa.select(_ENCODER.c.fingerprint).join(_GENERATION, same_encoder).where(_GENERATION.c.chunks == chunks)
    return known.scalar_subquery()


def pin_encoder(connection: sa.Connection, encoder_id: int, encoder: "Encoder") -> None:
    """Records which encoder was loaded, or compares it with the recorded one.

    Raises `errors.EncoderMismatch` when another fingerprint is on record, and `errors.IndexNotFound` when no semantic
    index has the encoder any more.
    """
    loaded = {"id": encoder_id, "fingerprint": encoder.fingerprint, "revision": encoder.revision}
    connection.execute(sql.statement("registry", "pin_encoder"), loaded | {"max_tokens": encoder.max_tokens})
    recorded = connection.execute(sql.statement("registry", "pinned_encoder"), {"id": encoder_id}).one_or_none()
    if recorded is None:
        raise errors.IndexNotFound("The semantic index was dropped a moment ago.")
    if recorded.fingerprint != encoder.fingerprint:
        raise errors.EncoderMismatch(
            f"The stored vectors were made by {recorded.reference!r}, {recorded.revision} (fingerprint "
            f"{recorded.fingerprint}); loaded here is {encoder.revision} (fingerprint {encoder.fingerprint}): load "
            "the same weights, prompts and limits, or make the index anew."
        )
