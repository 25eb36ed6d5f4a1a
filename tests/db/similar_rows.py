"""Rows that are alike: chunks with vectors of our own, and all pairs of them, compared with numpy."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, database
from pg_semantic.index import hashing
from tests.conftest import copy_of
from tests.db.library import ENCODER, Article, Base, execute, sync

DIMENSIONS = 32
VECTOR_INDEX = "article_semantic_vector_idx"
RESULT = dict[tuple[Any, Any], float]


class Other(DeclarativeBase): ...


class Note(Other):
    __tablename__ = "note"

    place: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]

    semantic = SemanticIndex("body", encoder=ENCODER, storage="vector")


@dataclass(frozen=True)
class Chunk:
    """A chunk to be stored with a vector of our own; rows are numbered from 1."""

    row: int
    content: str
    vector: NDArray[np.float32]
    ordinal: int = 0


def store(engine: sa.Engine, chunks: Sequence[Chunk], *, lang: str = "en") -> None:
    """Inserts rows with chunks, as a worker would have written them."""
    stored = Article.semantic.tables.chunks
    with engine.begin() as connection:
        rows = [{"id": row, "title": f"row {row}", "lang": lang} for row in sorted({chunk.row for chunk in chunks})]
        connection.execute(sa.insert(Article), rows)
        connection.execute(sa.insert(stored), [as_stored(chunk) for chunk in chunks])
    execute(
        engine, f"CREATE INDEX IF NOT EXISTS {VECTOR_INDEX} ON article_semantic USING hnsw (vector halfvec_cosine_ops)"
    )
    execute(engine, "ANALYZE")


def as_stored(chunk: Chunk) -> dict[str, Any]:
    return {
        "id": chunk.row,
        "ordinal": chunk.ordinal,
        "content": chunk.content,
        "vector": chunk.vector.tolist(),
        "content_hash": hashing.content_hash(chunk.content),
        "encoder_id": Article.semantic.spec.encoder.id,
        "token_count": 1,
        "truncated": False,
    }


def all_pairs(chunks: Sequence[Chunk], least: float) -> RESULT:
    """Every pair of rows whose most similar chunks are that similar, by comparing all chunks."""
    vectors = np.stack([chunk.vector for chunk in chunks]).astype(np.float16).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ vectors.T
    found: RESULT = {}
    for (a, one), (b, other) in itertools.combinations(enumerate(chunks), 2):
        score = 1.0 if one.content == other.content else scores[a, b]
        pair = (min(one.row, other.row), max(one.row, other.row))
        if one.row != other.row and score >= least:
            found[pair] = max(score, found.get(pair, 0))
    return found


def near(center: NDArray[np.float32], distance: float, random: np.random.Generator) -> NDArray[np.float32]:
    """A vector whose distance to another is about that."""
    noise = random.standard_normal(DIMENSIONS).astype(np.float32)
    return center / np.linalg.norm(center) + noise / np.linalg.norm(noise) * np.float32(np.sqrt(2 * distance))


def varied() -> list[Chunk]:
    """A thousand rows: some alone, some in clusters, some with more chunks, 200 with one text, and some close to it."""
    random = np.random.default_rng(7)
    chunks: list[Chunk] = []
    row = 0
    for size in [1] * 300 + [2] * 50 + [5] * 20 + [30] * 4:
        center = random.standard_normal(DIMENSIONS).astype(np.float32)
        for _ in range(size):
            row += 1
            chunks.append(Chunk(row, f"text {row}", near(center, random.uniform(0, 0.15), random)))
    center = random.standard_normal(DIMENSIONS).astype(np.float32)
    for number in range(210):
        row += 1
        copy = number % 21 > 0
        chunks.append(
            Chunk(row, "one text" if copy else f"{row}", center if copy else near(center, number / 3000, random))
        )
    for number in range(0, 300, 3):  # further chunks, each close to a chunk of another row
        other = chunks[(number * 7 + 5) % 600]
        chunks.append(Chunk(number + 1, f"more {number}", near(other.vector, 0.001 * (number % 70), random), ordinal=8))
    chunks.append(Chunk(400, "one text", center, ordinal=9))
    return chunks


VARIED = varied()


@contextlib.contextmanager
def varied_database(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """A database with the chunks of `varied`."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        sync(engine)
        store(engine, VARIED)
        yield engine
        engine.dispose()
