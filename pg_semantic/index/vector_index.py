"""The vector index of a spec: an HNSW index on the vectors, on prefixes of rotated vectors, or on their signs."""

from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import BIT

from pg_semantic.index.spec import IndexSpec


def add(spec: IndexSpec, table: sa.Table, *, concurrently: bool = False) -> sa.Index:
    """Adds the vector index of a spec to a table with the columns ``vector`` and ``prefix``, and returns it."""
    indexed, operators = _indexed(spec, table)
    return sa.Index(
        f"{table.name}_vector_idx",
        indexed,
        postgresql_using="hnsw",
        postgresql_with={"m": spec.hnsw.m, "ef_construction": spec.hnsw.ef_construction},
        postgresql_ops={str(indexed.name): operators},
        postgresql_concurrently=concurrently,
    )


def signs(spec: IndexSpec, vector: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Returns the SQL expression of the signs of a vector, one bit per dimension."""
    return sa.cast(sa.func.binary_quantize(vector), BIT(spec.encoder.dimensions))


def _indexed(spec: IndexSpec, table: sa.Table) -> "tuple[sa.Column[Any] | sa.Label[Any], str]":
    """Returns what the index contains, and its operator class."""
    if spec.compressed is None:
        return table.c.vector, f"{spec.storage}_cosine_ops"
    if spec.compressed.bits:
        return signs(spec, table.c.vector).label("signs"), "bit_hamming_ops"
    return table.c.prefix, "halfvec_cosine_ops"
