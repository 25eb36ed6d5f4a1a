"""Finds chunks that are alike: copies by the hash of their text, similar ones through the vector index.

`SimilarChunks.copies` reads no vector. `SimilarChunks.near` goes through all chunks in key order, in pages, and asks
the vector index for the k nearest chunks of each. If all of them are near, there may be more, so it asks again with k
doubled. Copies of a text would fill up every k, and an HNSW graph connects many equal vectors badly. So of each text,
only the first copy is looked up, and as soon as a result has two copies of a text, the next one leaves that text out.

Every statement is a plain SELECT with the privileges and the row-level security of the caller.
"""

import collections
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from pg_semantic import registry
from pg_semantic.database import own_transaction
from pg_semantic.index import distances, first_stage, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.key_range import KeyRange
from pg_semantic.search import generation_tracker, legs, scan_settings
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where

Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"

PAGE_CHUNKS = 1_000
NEAREST = 10
"""How many chunks to ask for at first."""
_MOST_FOUND = 10_000  # by one statement
_COPIED_TEXTS = 1_000  # per statement

# The planner expects a thousand scans to cost enough for compiling expressions, which takes longer than the scans.
_WITHOUT_JIT = sa.select(sa.func.set_config("jit", "off", sa.true()))


@dataclass(frozen=True, slots=True)
class CopiedText:
    """A chunk text that several rows have, by its content hash, and the keys of these rows as text."""

    content_hash: bytes
    rows: Sequence[str]


@dataclass(frozen=True, slots=True)
class ChunkText:
    """The text of a chunk, by its content hash, and the key of a row that has it, as text."""

    content_hash: bytes
    row: str


@dataclass(frozen=True, slots=True)
class NearTexts:
    """Two different texts of different rows, and the cosine similarity of their vectors."""

    first: ChunkText
    second: ChunkText
    score: float


@dataclass(frozen=True, slots=True)
class AskedChunk:
    """A chunk to find the nearest chunks of: its place (key and ordinal), and the texts to leave out, its own too."""

    place: str
    text: ChunkText
    without: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SimilarChunks:
    """The chunks of one generation that a session sees and whose rows match the filters.

    Attributes:
        pauses: Whether each page is read in a transaction of its own, so that none stays open for long.
    """

    session: orm.Session
    index: BoundIndex[Any]
    where: Where
    pauses: bool = False

    @classmethod
    def live(cls, session: orm.Session, index: BoundIndex[Any], where: Where) -> "SimilarChunks":
        """Returns those of the live generation, whatever its encoder: no query is encoded.

        Raises:
            errors.IndexNotFound: The index has not been created.
            errors.QueryError: ``where`` is not valid.
        """
        conditions = legs.conditions(where)
        legs.require_own(index, conditions)
        mapper = sa.inspect(index.entity, raiseerr=True).mapper
        pauses = own_transaction.can_pause(session, {"mapper": mapper})
        generation, _ = generation_tracker.read_live(session, index)
        return cls(session, Target(generation, generation.tables, None).bound(index), conditions, pauses)

    def copies(self, *, most_rows: int | None = None) -> Iterator[CopiedText]:
        """Yields each text that several rows have, in the order of the hashes.

        Args:
            most_rows: How many rows of each text to return; None for all.
        """
        chunks = self.index.tables.chunks.c
        copied = sa.select(chunks.content_hash).group_by(chunks.content_hash).having(sa.func.count() > 1)
        page = copied.order_by(chunks.content_hash).limit(_COPIED_TEXTS)
        hashes = self._execute(page).scalars().all()
        while hashes:
            for content_hash, rows in self._execute(self._rows_with(hashes, most_rows)):
                yield CopiedText(content_hash, rows)
            self._pause()
            hashes = self._execute(page.where(chunks.content_hash > hashes[-1])).scalars().all()

    def near(
        self,
        *,
        copied: Container[bytes],
        least: Callable[[], float],
        most_rows: int | None = None,
        on_rows: Callable[[int], object] = lambda _: None,
    ) -> Iterator[NearTexts]:
        """Yields texts that are near each other, most pairs twice: once from each side.

        Args:
            copied: The hashes of the texts that several rows have. Only the first copy of each is looked up.
            least: Returns the least cosine similarity; it may grow meanwhile.
            most_rows: How many near rows of each chunk are enough; None for all.
            on_rows: Called after each page with the number of rows that it completed.
        """
        for page in self.pages(copied=copied, on_rows=on_rows):
            asked, count = page, NEAREST
            while asked:
                again = []
                for one, near in self.nearest(asked, count=count, least=least):
                    yield from near
                    if len(near) == count and (most_rows is None or len({n.second.row for n in near}) < most_rows):
                        again.append(without_copies(one, near))
                asked, count = again, 2 * count

    def pages(
        self, *, copied: Container[bytes], on_rows: Callable[[int], object] = lambda _: None
    ) -> Iterator[list[AskedChunk]]:
        """Yields all chunks to look up, page by page in key order; the arguments are those of `near`."""
        after, row, done = None, None, set[bytes]()
        while page := self._page(after):
            asked = []
            for one in page:
                if one.text.content_hash in copied and one.text.content_hash in done:
                    continue
                if one.text.content_hash in copied:
                    done.add(one.text.content_hash)
                asked.append(one)
            yield asked
            rows = [one.text.row for one in page]
            on_rows(len(dict.fromkeys(rows)) - (row == rows[0]))
            after, row = page[-1].place, rows[-1]
            self._pause()

    def _pause(self) -> None:
        if self.pauses:
            self.session.commit()

    def nearest(
        self, asked: Sequence[AskedChunk], *, count: int, least: Callable[[], float]
    ) -> Iterator[tuple[AskedChunk, list[NearTexts]]]:
        """Yields each of the asked chunks with up to ``count`` of the nearest ones, if they are near."""
        for part in _parts(asked, max(1, _MOST_FOUND // count)):
            self._execute(_WITHOUT_JIT)  # until the end of the transaction
            found = self._nearest(part, count, least())
            for one in part:
                yield one, found.get(one.place, [])
            self._pause()

    def _nearest(self, asked: Sequence[AskedChunk], nearest: int, least: float) -> dict[str, list[NearTexts]]:
        texts = {one.place: one.text for one in asked}
        found = collections.defaultdict(list)
        for place, row, content_hash, score in self._execute(self._nearest_chunks(asked, nearest, least)):
            found[place].append(NearTexts(texts[place], ChunkText(content_hash, row), score))
        return found

    def _nearest_chunks(self, asked: Sequence[AskedChunk], nearest: int, least: float) -> Statement:
        """Selects place, row, hash and score of the chunks that are near the asked ones: up to k for each."""
        one = self._asked_chunks(asked, nearest)
        other = self.index.tables.chunks.alias("other")
        vector = one.c.aimed if self.index.spec.compressed is None else one.c.vector
        distance = distances.distance(other.c.vector, vector)
        order, count = self._first_stage(one, other, nearest)
        same_row = (column == one.c[f"key_{number}"] for number, column in enumerate(self._key(other)))
        near = (
            self._chunks(other, self._row(other), other.c.content_hash, distance.label("distance"))
            .where(other.c.content_hash != sa.all_(one.c.without), ~sa.and_(*same_row), self._is_stored(other))
            .order_by(order)
            .limit(count)
            .correlate(one)
            .lateral("near")
        )
        if self.index.spec.compressed is not None:
            near = sa.select(near).order_by(near.c.distance).limit(nearest).correlate(one).lateral("nearest")
        found = sa.select(one.c.place, near.c.row_key, near.c.content_hash, (1 - near.c.distance).label("score"))
        return found.join(near, sa.true()).where(near.c.distance <= 1 - least)

    def _first_stage(
        self, one: sa.FromClause, other: sa.FromClause, nearest: int
    ) -> tuple[sa.ColumnElement[float], sa.ColumnElement[int] | int]:
        """Returns what the vector index orders by, and how many chunks to take in that order."""
        tables = self.index.tables
        if tables.spec.compressed is None:
            return distances.distance(other.c.vector, one.c.aimed), nearest
        return first_stage.distance(tables, other, one.c.aimed), first_stage.candidates(tables, nearest)

    def _is_stored(self, other: sa.FromClause) -> sa.ScalarSelect[bool]:
        """Returns a condition that holds for every chunk, and that the planner takes for a lookup.

        The planner believes that a distance costs no more than an addition. Without this condition, it would compute
        all distances for each of a thousand chunks until the table has tens of thousands of rows.
        """
        same = self.index.tables.chunks.alias("same")
        is_same = (a == b for a, b in zip(self._place(same), self._place(other), strict=True))
        return sa.select(same.c.ordinal == other.c.ordinal).where(*is_same).correlate(other).scalar_subquery()

    def _asked_chunks(self, asked: Sequence[AskedChunk], nearest: int) -> sa.CTE:
        """Returns the asked chunks with their vectors. Reading a vector applies the settings of the scan."""
        without = [_array_literal(one.without) for one in asked]
        bind = sa.bindparam(None, without, type_=ARRAY(sa.Text))
        chunks = self.index.tables.chunks.alias("asked_chunk")
        place = self._place(chunks)
        table = keys.key_table([one.place for one in asked], len(place), without=bind)
        vector = self._with_settings(first_stage.of_chunk(self.index.tables, chunks), nearest)
        found = sa.select(
            table.c.key.label("place"),
            *(column.label(f"key_{number}") for number, column in enumerate(place[:-1])),
            sa.cast(table.c.without, ARRAY(sa.LargeBinary)).label("without"),
            vector.correlate(chunks).label("aimed"),
            *([] if self.index.spec.compressed is None else [chunks.c.vector]),
        )
        return found.join(chunks, keys.matches_key_table(table, place)).cte("asked").prefix_with("MATERIALIZED")

    def _with_settings(self, vector: sa.ColumnElement[Any], nearest: int) -> sa.ScalarSelect[Any]:
        tables = self.index.tables
        if tables.spec.compressed is not None:
            return scan_settings.with_width(vector, first_stage.width(tables, nearest), order="relaxed_order")
        chosen = registry.ef_search_of(tables)
        return scan_settings.with_scan_settings(vector, wanted=nearest, order="relaxed_order", ef_search=chosen)

    def _page(self, after: str | None) -> list[AskedChunk]:
        chunks = self.index.tables.chunks
        place = self._place(chunks)
        page = (
            self._chunks(chunks, keys.as_text(place).label("place"), self._row(chunks), chunks.c.content_hash)
            .where(KeyRange(after, None).of(place), *distances.same_table(self.index.tables))
            .order_by(*place)
            .limit(PAGE_CHUNKS)
        )
        return [
            AskedChunk(place, ChunkText(content_hash, row), frozenset([content_hash]))
            for place, row, content_hash in self._execute(page)
        ]

    def _rows_with(self, hashes: Sequence[bytes], most_rows: int | None) -> Statement:
        """Selects the hashes that several rows have, with these rows in an array."""
        chunks = self.index.tables.chunks
        row = keys.as_text(self._key(chunks))
        rows = sa.func.array_agg(aggregate_order_by(sa.distinct(row), row), type_=ARRAY(sa.Text))
        return (
            self._chunks(chunks, chunks.c.content_hash, rows if most_rows is None else rows[1:most_rows])
            .where(chunks.c.content_hash.in_(hashes), *distances.same_table(self.index.tables))
            .group_by(chunks.c.content_hash)
            .having(sa.func.count(sa.distinct(row)) > 1)
            .order_by(chunks.c.content_hash)
        )

    def _chunks(self, chunks: sa.FromClause, *columns: sa.ColumnElement[Any]) -> Statement:
        """Selects columns of the chunks whose rows match the filters."""
        same_row = sa.and_(*(a == b for a, b in zip(self._key(chunks), self.index.tables.source_key, strict=True)))
        rows = sa.select(self.index.entity).join(chunks, same_row).where(*self.where)
        return rows.with_only_columns(*columns, maintain_column_froms=True)

    def _key(self, chunks: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        return [chunks.c[column.name] for column in self.index.spec.key]

    def _place(self, chunks: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """Returns the columns of the primary key of the chunk table."""
        return [*self._key(chunks), chunks.c.ordinal]

    def _row(self, chunks: sa.FromClause) -> sa.ColumnElement[str]:
        return keys.as_text(self._key(chunks)).label("row_key")

    def _execute(self, statement: Statement) -> "sa.Result[*tuple[Any, ...]]":
        mapper = sa.inspect(self.index.entity, raiseerr=True).mapper
        return self.session.execute(statement, bind_arguments={"mapper": mapper})


def without_copies(asked: AskedChunk, near: Sequence[NearTexts]) -> AskedChunk:
    """Returns what to ask next: the texts with several copies in the result are left out, because they are known."""
    counts = collections.Counter(one.second.content_hash for one in near)
    copied = {content_hash for content_hash, count in counts.items() if count > 1}
    return AskedChunk(asked.place, asked.text, asked.without | copied)


def _array_literal(hashes: frozenset[bytes]) -> str:
    """Returns hashes as the text of a bytea[], because Postgres has no arrays of arrays of different lengths."""
    return "{" + ",".join(f'"\\\\x{one.hex()}"' for one in sorted(hashes)) + "}"


def _parts(asked: Sequence[AskedChunk], size: int) -> Iterator[Sequence[AskedChunk]]:
    for start in range(0, len(asked), size):
        yield asked[start : start + size]
