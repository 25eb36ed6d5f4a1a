"""`Chunk`, the mapped class of a chunk table: its vector is deferred, and its source is a relationship."""

import operator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic.index import chunk_tables


class Chunk:
    """Base of the mapped classes of chunk tables. Each class also has the key columns of its source.

    ``vector`` is deferred: it is loaded on first access, not with the chunk. ``source`` is a read-only relationship to
    the row that the chunk belongs to.
    """

    ordinal: orm.Mapped[int]
    content: orm.Mapped[str]
    vector: orm.Mapped[list[float]]
    content_hash: orm.Mapped[bytes]
    encoder_id: orm.Mapped[int]
    token_count: orm.Mapped[int]
    truncated: orm.Mapped[bool]
    embedded_at: orm.Mapped[datetime]
    source: orm.Mapped[Any]


def map_chunk(mapper: orm.Mapper[Any], tables: chunk_tables.Tables, *, name: str) -> type[Chunk]:
    """Maps a new class to a chunk table.

    Args:
        mapper: The mapper of the source's class.
        tables: The tables of the semantic index.
        name: The name of the new class.

    Returns:
        The class, a subclass of `Chunk`.
    """
    about = {"__doc__": f"A chunk of a row of {tables.source.fullname}.", "__module__": mapper.class_.__module__}
    chunk_class = type(name, (Chunk,), about)
    mapper.registry.map_imperatively(
        chunk_class,
        tables.chunks,
        properties={
            **{name: orm.deferred(tables.chunks.c[name]) for name in ("vector", "prefix") if name in tables.chunks.c},
            "source": orm.relationship(
                mapper.class_,
                # Evaluated when mappers are configured, because declaring a class again replaces its table's columns.
                primaryjoin=lambda: sa.and_(*map(operator.eq, tables.chunk_key, tables.source_key)),
                foreign_keys=tables.chunk_key,
                viewonly=True,
                lazy="select",
            ),
        },
    )
    return chunk_class
