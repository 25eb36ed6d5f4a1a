"""What is in a table: `clusters` of rows that are close in meaning, and the `Cluster` that it returns.

A row counts as the normalized mean of its chunks. `k_means` clusters these, and `cluster_terms` finds the words that
distinguish the texts of a cluster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from pg_semantic import database, errors
from pg_semantic.database import own_transaction
from pg_semantic.index import distances, keys, seeds
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import cluster_terms, generation_tracker, k_means, legs, rows_by_key
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where

T = TypeVar("T")

MOST = 12
"""How many clusters there are at most, unless a number was chosen."""

_DIGITS = 5  # of a similarity; rounding errors beyond them don't decide between rows
_CANDIDATES = 5  # rows of a cluster that may be deleted while it is named


@dataclass(frozen=True, slots=True)
class Cluster(Generic[T]):
    """Rows that are close in meaning.

    Attributes:
        size: How many rows of the sample it has.
        share: Their share of the sample, above 0 to 1.
        medoid: The row that is most similar to the mean of all rows, as an instance of the mapped class.
        terms: Up to three words that are more frequent in its rows than in the whole sample, the most distinctive
            first. No other cluster has them. Empty without BM25, or if no word distinguishes the cluster.
        spread: The mean cosine distance of its rows from their mean: 0 if all are equal.
    """

    size: int
    share: float
    medoid: T
    terms: tuple[str, ...]
    spread: float


def clusters(
    session: orm.Session,
    index: BoundIndex[T],
    *,
    count: int | None = None,
    sample: int = 5000,
    seed: int = 0,
    where: Where = (),
) -> list[Cluster[T]]:
    """Clusters random rows by their meaning, with k-means. It needs no encoder, but scikit-learn.

    Reads the keys of all rows, and the vectors and the beginnings of the sampled ones. If the session is in no
    transaction, none is open meanwhile, unless it would be a snapshot. With an AsyncSession: ``await
    session.run_sync(search.clusters, Article.semantic)``.

    Args:
        session: Runs the statements, with its privileges and row-level security.
        index: The semantic index, such as ``Article.semantic``.
        count: How many clusters to find; fewer if fewer rows differ. By default up to 12, by the number of rows.
        sample: How many rows to cluster, at most. The same rows always give the same sample.
        seed: Where k-means starts. The same rows and seed give the same clusters on the same machine.
        where: Conditions on the mapped class, as in a search.

    Returns:
        The clusters, largest first. Rows without text belong to none.

    Raises:
        errors.QueryError: ``count``, ``sample`` or ``where`` is not valid.
        errors.IndexNotFound: The index has not been created.
        errors.MissingExtra: scikit-learn isn't installed.
    """
    conditions = _checked(index, where, count=count, sample=sample)
    with database.translated():
        live, rows = _read(session, index, conditions, sample=sample)
        if not rows:
            return []
        found = _Sample.of(rows, count=count, seed=seed)
        terms = _terms(session, live, [row.text for row in rows], labels=found.labels)
        return _loaded(session, live, found, terms=terms)


def _checked(index: BoundIndex[Any], where: Where, **numbers: object) -> Where:
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise errors.QueryError(f"{name}={value!r}: it must be a whole number, 1 or more.")
    conditions = legs.conditions(where)
    legs.require_own(index, conditions)
    return conditions


def _read(
    session: orm.Session, index: BoundIndex[T], where: Where, *, sample: int
) -> tuple[BoundIndex[T], Sequence[sa.Row[Any]]]:
    """Returns the live generation and the sampled rows. Ends the transaction if a long reader may."""
    bind_arguments = {"mapper": sa.inspect(index.entity, raiseerr=True).mapper}
    pauses = own_transaction.can_pause(session, bind_arguments)
    generation, _ = generation_tracker.read_live(session, index)
    live = Target(generation, generation.tables, None).bound(index)
    rows = session.execute(_sampled(live, where, sample=sample), bind_arguments=bind_arguments).all()
    if pauses:
        session.commit()
    return live, rows


def _terms(
    session: orm.Session, index: BoundIndex[Any], texts: Sequence[str], *, labels: Sequence[int]
) -> list[tuple[str, ...]]:
    if index.spec.lexical is None:
        return [()] * len(set(labels))
    connection = generation_tracker.connect(session, index)
    return cluster_terms.of(connection, texts, labels, lexical=index.spec.lexical)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Sampled rows: their keys, their normalized vectors, shape (n, dimensions), and the cluster of each."""

    keys: Sequence[str]
    vectors: NDArray[np.float32]
    labels: Sequence[int]

    @classmethod
    def of(cls, rows: Sequence[Any], *, count: int | None, seed: int) -> "_Sample":
        vectors = k_means.normalized(np.asarray([np.asarray(row.vector, np.float32) for row in rows]))
        count = count or k_means.usual_count(len(rows), most=MOST)
        return cls([row.key for row in rows], vectors, k_means.clustered(vectors, count=count, seed=seed))

    def cluster(self, label: int) -> tuple[int, list[str], float]:
        """Returns the size of a cluster, the keys of rows near its mean, the nearest first, and its spread."""
        members = np.flatnonzero(np.asarray(self.labels) == label)
        vectors = self.vectors[members]
        center = vectors.mean(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(center))
        similarities = vectors @ center / length if length else np.zeros(len(members))
        nearest = np.argsort(-similarities.round(_DIGITS), kind="stable")[:_CANDIDATES]
        spread = max(0.0, 1 - float(similarities.mean()))
        return len(members), [self.keys[number] for number in members[nearest]], spread


def _sampled(index: BoundIndex[Any], where: Where, *, sample: int) -> "sa.Select[*tuple[Any, ...]]":
    """Selects key, vector and the beginning of the text of random rows, in key order. The same rows are always chosen.

    The order is that of hashes of the keys.
    """
    tables = index.tables
    chunks, source_key, chunk_key = tables.chunks, tables.source_key, tables.chunk_key
    same = sa.and_(*(a == b for a, b in zip(chunk_key, source_key, strict=True)))
    has_chunks = sa.select(sa.literal(1)).select_from(chunks).where(same).exists()
    row_key = keys.as_text(source_key)
    order = seeds.order(row_key, 0)
    key = [column.label(f"key_{number}") for number, column in enumerate(source_key)]
    chosen = (
        sa.select(index.entity)
        .where(*where, has_chunks, *distances.same_table(tables))
        .with_only_columns(*key, row_key.label("key"), maintain_column_froms=True)
        .order_by(order, row_key)
        .limit(sample)
        .cte("chosen")
        .prefix_with("MATERIALIZED")
    )
    own_key = [chosen.c[column.name] for column in key]
    mean = sa.func.avg(distances.normalized(sa.cast(chunks.c.vector, VECTOR())), type_=VECTOR())
    beginning = sa.func.left(chunks.c.content, cluster_terms.LENGTH)
    texts = sa.func.array_agg(aggregate_order_by(beginning, chunks.c.ordinal), type_=ARRAY(sa.Text))
    return (
        sa.select(chosen.c.key, distances.normalized(mean).label("vector"), texts[1].label("text"))
        .join(chunks, sa.and_(*(a == b for a, b in zip(chunk_key, own_key, strict=True))))
        .group_by(*own_key, chosen.c.key)
        .order_by(*own_key)
    )


def _loaded(
    session: orm.Session, index: BoundIndex[T], sample: _Sample, *, terms: Sequence[tuple[str, ...]]
) -> list[Cluster[T]]:
    """Returns the clusters with their medoids. A row that was deleted meanwhile is none."""
    found = [sample.cluster(label) for label in range(len(terms))]
    rows = rows_by_key.load(session, index, sorted({key for _, nearest, _ in found for key in nearest}))
    made = []
    for (size, nearest, spread), words in zip(found, terms, strict=True):
        medoid = next((rows[key] for key in nearest if key in rows), None)
        if medoid is not None:
            made.append(Cluster(size, size / len(sample.keys), medoid, words, spread))
    return made
