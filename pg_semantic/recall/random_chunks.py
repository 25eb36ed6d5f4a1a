"""Random chunks, whose vectors serve as queries: `picked`."""

from typing import Any

import sqlalchemy as sa

from pg_semantic.index import seeds
from pg_semantic.index.chunk_tables import Tables


def picked(tables: Tables, *, sample: int, seed: int) -> "sa.Select[*tuple[Any, ...]]":
    """Selects the vectors and the keys of random chunks: the first ones in the order of a hash of their keys.

    The same rows and seed give the same chunks. Reads all keys.
    """
    key = tables.chunk_key
    name = sa.cast(sa.func.row(*key, tables.chunks.c.ordinal), sa.Text)
    order = seeds.order(name, seed)
    return sa.select(tables.chunks.c.vector, *key).order_by(order, name).limit(sample)
