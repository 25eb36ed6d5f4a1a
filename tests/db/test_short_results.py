"""However selective the filter and wherever it stands: as many rows as there are, and the nearest of them."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from pg_semantic import BoundIndex, Compressed, SemanticIndex, database, generations, search
from tests.conftest import copy_of
from tests.db.library import encoder, execute, generation_of, sync

ROWS, OWNERS = 20_000, 1_000
WORDS = [
    f"{first}{second}" for first in ("har", "can", "mea", "eng", "vio", "gla", "pep", "lan") for second in "abcdefgh"
]
SHARES = {"100 %": 1000, "50 %": 500, "10 %": 100, "1 %": 10, "0.1 %": 1}
QUERIES = ("hara canb meac", "engd", "vioe glaf pepg lanh hara")
ROUNDING = 1e-3  # the vector index orders by what it has of a vector, 16-bit numbers at length 1
PAGES = [(limit, offset) for limit in (1, 10, 100) for offset in (0, 50, 500)]


class Base(orm.DeclarativeBase): ...


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("owner.id"))
    text: Mapped[str]
    owner: Mapped[Owner] = orm.relationship()

    semantic = SemanticIndex("text", encoder="hashed:32", lexical=None)
    prefix = SemanticIndex("text", encoder="hashed:32", lexical=None, storage=Compressed(prefix=20))
    signs = SemanticIndex("text", encoder="hashed:32", lexical=None, storage=Compressed(bits=True))


Statement: TypeAlias = "sa.Select[Note, float]"
Build: TypeAlias = "Callable[..., Statement]"
Vector = NDArray[np.float32]
Ranking = list[tuple[float, int]]
Filtered: TypeAlias = "Callable[[Statement, int], Statement]"

# Notes of owners 1 to so many of a thousand, who have twenty notes each.
WAYS: dict[str, Filtered] = {
    "on the source": lambda statement, share: statement.where(Note.owner_id <= share),
    "through a join": lambda statement, share: statement.join(Note.owner).where(Owner.id <= share),
    "through EXISTS": lambda statement, share: statement.where(Note.owner.has(Owner.id <= share)),
    "under row-level security": lambda statement, _: statement,
}


@dataclass(frozen=True)
class Library:
    engine: sa.Engine
    role: str


@pytest.fixture(scope="module", params=[1, 8], ids=["whole", "in eight partitions"])
def library(server: sa.URL, template: str, request: pytest.FixtureRequest) -> Iterator[Library]:
    """Twenty thousand notes with a policy; not written to by any test here."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        role = f"reader_{str(engine.url.database)[-8:]}"
        Base.metadata.create_all(engine)
        random = np.random.default_rng(7)
        texts = [" ".join(random.choice(WORDS, random.integers(3, 12))) for _ in range(ROWS)]
        with engine.begin() as connection:
            connection.execute(sa.insert(Owner), [{"id": number} for number in range(1, OWNERS + 1)])
            notes = [{"id": n, "owner_id": n % OWNERS + 1, "text": text} for n, text in enumerate(texts)]
            connection.execute(sa.insert(Note), notes)
        if request.param > 1:
            live = generation_of(engine, "note_semantic")
            generations.begin(engine, live, dataclasses.replace(live.spec, partitions=request.param))
            generations.switch(engine, "note_semantic", least=0, force=True)
        sync(engine)
        execute(engine, "ANALYZE")
        execute(engine, f"CREATE ROLE {role}")
        execute(engine, f"GRANT SELECT ON note, note_semantic, note_prefix, note_signs TO {role}")
        execute(engine, "ALTER TABLE note ENABLE ROW LEVEL SECURITY")
        mine = "owner_id <= CAST(current_setting('app.share') AS integer)"
        execute(engine, f"CREATE POLICY mine ON note FOR SELECT TO {role} USING ({mine})")
        yield Library(engine, role)
        execute(engine, f"DROP OWNED BY {role}")
        execute(engine, f"DROP ROLE {role}")
        engine.dispose()


# The least recall: of whole vectors, of the first 20 of 32 dimensions, and of signs, whose 32 bits say little.
INDEXES = [(Note.semantic, 0.95), (Note.prefix, 0.85), (Note.signs, 0.25)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("index", "least"), INDEXES, ids=["whole", "prefix", "signs"])
def test_a_search_gives_as_many_rows_as_there_are_and_the_nearest_of_them(
    library: Library, way: str, share: str, *, index: BoundIndex[Note], least: float
) -> None:
    matching = SHARES[share] * ROWS // OWNERS
    # There a plan that computes distances and one that walks the index leave scores that are nearly equal as they come.
    before_17 = (library.engine.dialect.server_version_info or (0,)) < (17,)
    recalls: dict[int, list[float]] = defaultdict(list)
    with orm.Session(library.engine) as session:
        if "security" in way:
            session.execute(sa.text(f"SET LOCAL ROLE {library.role}; SET LOCAL app.share = {SHARES[share]}"))
        for vector in encoder().encode_queries(list(QUERIES)):

            def ranking(build: Build, limit: int, offset: int = 0, vector: Vector = vector) -> Ranking:
                statement = WAYS[way](build(index, vector, limit=limit, offset=offset), SHARES[share])
                scored = statement.with_only_columns(Note.id, statement.selected_columns["score"])
                return [(score, key) for key, score in session.execute(scored)]

            truth = ranking(search.exact, 600)
            for limit, offset in PAGES:
                page, whole = ranking(search.knn, limit, offset), ranking(search.knn, limit + offset)
                assert len(page) == min(limit, max(0, matching - offset))
                assert len({key for _, key in whole}) == len(whole) == min(limit + offset, matching)
                assert all(a[0] > b[0] - ROUNDING for a, b in itertools.pairwise(whole))
                last = truth[: limit + offset][-1][0]
                recalls[limit + offset].append(float(np.mean([score >= last - 1e-6 for score, _ in whole])))
                if index is not Note.semantic:
                    continue  # another plan finds other candidates
                again = ranking(search.knn, limit, offset)
                assert page == again or before_17
                assert [score for score, _ in page] == pytest.approx([score for score, _ in again], abs=ROUNDING)
                assert [score for score, _ in page] == pytest.approx(
                    [score for score, _ in whole[offset:]], abs=ROUNDING
                )
    assert min(map(np.mean, recalls.values())) >= least, {k: np.mean(found) for k, found in recalls.items()}
