"""Pairs of rows to train on, without any judgement: the text of a row asks for another row, or for itself.

They hold keys and no texts. They only teach: an encoder is always measured on queries.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.index import keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where
from pg_semantic.search.similar_chunks import AskedChunk, SimilarChunks
from pg_semantic.training import tenants

_NEAREST = 50  # chunks that are looked at for each chunk
_ASKED = 4  # rows that are looked up for each wanted pair, since not all have a row in the band


@dataclass(frozen=True, slots=True)
class RowPair:
    """Two rows that say the same, or one row twice.

    Args:
        row: The key of the row whose text takes the place of a query, as text. A composite key is a JSON array of
            texts.
        key: The key of the row that answers it. If it is the same, the encoder learns to recognize a text although
            dropout changes it (SimCSE, Gao, Yao and Chen 2021).
    """

    row: str
    key: str


def from_rows(
    session: orm.Session, index: BoundIndex[Any], *, where: Where = (), limit: int = 2_000, seed: int = 0
) -> list[RowPair]:
    """Returns a pair for each of some random rows that have vectors: its text asks for itself.

    This is the unsupervised SimCSE of Gao, Yao and Chen (EMNLP 2021): an encoder with dropout encodes a text twice in
    different ways, and learns to tell it from other texts all the same. Use it in addition to pairs with queries, for
    rows in a language or about a subject that the encoder doesn't know.

    Args:
        where: Conditions on the table, as in a search.
        limit: How many rows to choose, at most.
        seed: Chooses the rows. Computes a hash for each row of the table.

    Raises:
        errors.ConfigurationError: The seed is out of range.
        errors.QueryError: A condition belongs to another table, or the limit isn't positive.
        errors.IndexNotFound: The index has not been created.
    """
    filters = _checked(index, where=where, limit=limit, seed=seed)
    with database.translated():
        live, _ = generation_tracker.read_live(session, index)
        tables = Target(live, live.tables, None).bound(index).tables
        same_row = (a == b for a, b in zip(tables.chunk_key, tables.source_key, strict=True))
        has_vectors = sa.select(sa.literal(1)).select_from(tables.chunks).where(*same_row).exists()
        key = keys.as_text(tables.source_key)
        order = seeds.order(key, seed)
        chosen = sa.select(index.entity).where(*filters, has_vectors)
        rows = chosen.with_only_columns(key, maintain_column_froms=True)
        connection = generation_tracker.connect(session, index)
        return [RowPair(row, row) for (row,) in connection.execute(rows.order_by(order, key).limit(limit))]


def from_similar_rows(  # noqa: PLR0913 - the band, and which rows
    session: orm.Session,
    index: BoundIndex[Any],
    *,
    least: float = 0.8,
    most: float = 0.95,
    where: Where = (),
    limit: int = 2_000,
    seed: int = 0,
    on_rows: Callable[[int], object] = lambda _: None,
) -> list[RowPair]:
    """Returns pairs of different rows that are alike by their stored vectors: paraphrases, as far as the encoder knows.

    The similarity of two rows is that of their most similar chunks. Above the band are copies, which teach nothing;
    below are rows that only share a subject. Where it lies depends on the encoder: look at pairs of `search.duplicates`
    first. A row asks once at most, for a random row in its band, and one that has very many similar rows may not ask.
    If the session is in no transaction, each page of rows is read in one of its own.

    Args:
        least: The least similarity of a pair, above 0.
        most: The highest similarity, at most 1.
        where: Conditions on both rows, as in a search. Required if the table has row-level security that the role
            bypasses.
        limit: How many pairs to return, at most.
        seed: Chooses the rows. About four rows are looked up for each pair.
        on_rows: Called after each page with its number of rows.

    Raises:
        errors.ConfigurationError, errors.QueryError: An argument is not valid, or a condition is missing.
        errors.IndexNotFound: The index has not been created.
    """
    filters = _checked(index, where=where, limit=limit, seed=seed)
    if not 0 < least < most <= 1:
        raise errors.QueryError(f"least={least}, most={most}: the band must lie above 0 and up to 1, least below most.")
    with database.translated():
        chunks = SimilarChunks.live(session, index, filters)
        tenants.require_separate(generation_tracker.connect(session, index), index, filters)
        share = min(1.0, _ASKED * limit / max(1, _count(session, chunks)))
        near = _near(chunks, least=least, share=share, seed=seed, on_rows=on_rows)
    return _chosen(near, most=most, limit=limit, seed=seed)


def _chosen(near: Mapping[str, Mapping[str, float]], *, most: float, limit: int, seed: int) -> list[RowPair]:
    """Returns a pair for each row that has a near one with this similarity at most, up to a number of pairs."""
    choose = random.Random(seed)  # noqa: S311 - not a secret
    pairs: dict[frozenset[str], RowPair] = {}
    for row in sorted(near):
        others = sorted(other for other, score in near[row].items() if score <= most)
        if others:
            pair = RowPair(row, choose.choice(others))
            pairs.setdefault(frozenset((pair.row, pair.key)), pair)
    found = list(pairs.values())
    return found if len(found) <= limit else sorted(choose.sample(found, limit), key=lambda pair: pair.row)


def _near(
    chunks: SimilarChunks, *, least: float, share: float, seed: int, on_rows: Callable[[int], object]
) -> dict[str, dict[str, float]]:
    """Returns the rows that are near some random rows, with the highest similarity of two chunks.

    Copies of a text aren't looked for, but are found where they have other chunks.
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for page in chunks.pages(copied=(), on_rows=on_rows):
        asked = [one for one in page if _is_drawn(one, share=share, seed=seed)]
        for one, near in chunks.nearest(asked, count=_NEAREST, least=lambda: least):
            others = found[one.text.row]
            for two in near:
                if two.second.row != one.text.row:
                    others[two.second.row] = max(two.score, others.get(two.second.row, 0.0))
    return found


def _is_drawn(one: AskedChunk, *, share: float, seed: int) -> bool:
    """Returns whether a row is looked up: with all its chunks, and whatever the other rows."""
    return share >= 1 or random.Random(f"{seed} {one.text.row}").random() < share  # noqa: S311 - not a secret


def _count(session: orm.Session, chunks: SimilarChunks) -> int:
    """Returns the number of rows that may be looked up."""
    rows = sa.select(sa.func.count()).select_from(
        sa.select(chunks.index.entity).where(*chunks.where).with_only_columns(sa.literal(1)).subquery()
    )
    return generation_tracker.connect(session, chunks.index).scalar(rows) or 0


def _checked(index: BoundIndex[Any], *, where: Where, limit: int, seed: int) -> Where:
    seeds.require(seed)
    if limit < 1:
        raise errors.QueryError(f"limit={limit}: limit must be 1 or more.")
    filters = legs.conditions(where)
    legs.require_own(index, list(filters))
    return filters
