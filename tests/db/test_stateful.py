"""Writes, workers, lost leases and crashes in any order: what holds after every step, and at the end of all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import exc
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import Chunking, SemanticIndex, database, jobqueue
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index import hashing
from pg_semantic.jobqueue import Claim, Job
from pg_semantic.settings import Settings
from pg_semantic.worker import copy_rows, encode_chunks, read_rows, write_chunks
from pg_semantic.worker.batch import Batch
from pg_semantic.worker.batch_log import Progress
from pg_semantic.worker.write_size import WriteSizer
from tests.db.library import execute, generation_of, qualified, sync

pytestmark = pytest.mark.slow


class Base(DeclarativeBase): ...


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    lang: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", chunking=Chunking(max_tokens=8))


TABLES = qualified(Note.semantic.tables)
WORKERS = range(3)
LOCK_NOT_AVAILABLE = "55P03"
PATIENT: dict[str, Any] = {"max_attempts": 10_000, "retry_seconds": 1e-9}  # nothing is parked or waited for

# A paragraph is a chunk, so what a text asks for is known without the code under test.
PARAGRAPHS = [" ".join(f"{name}{number}" for number in range(8)) for name in ("ant", "bee", "cat", "dog", "elk")]

# All that an application does, the names in order of how much they ask of us.
STATEMENTS = {
    "edit": ["UPDATE note SET text = :text WHERE id = :key"],
    "edit several": ["UPDATE note SET text = :text WHERE id >= :key"],
    "upsert": ["INSERT INTO note VALUES (:key, :text, 'en') ON CONFLICT (id) DO UPDATE SET text = excluded.text"],
    "insert": ["INSERT INTO note VALUES (:key, :text, 'en')"],
    "delete": ["DELETE FROM note WHERE id = :key"],
    "replace": ["DELETE FROM note WHERE id = :key", "INSERT INTO note VALUES (:key, :text, 'en')"],
    "put back": ["WITH gone AS (DELETE FROM note WHERE id = :key RETURNING *) INSERT INTO note SELECT * FROM gone"],
    "change key": ["UPDATE note SET id = :other WHERE id = :key"],
    "change key and text": ["UPDATE note SET id = :other, text = :text WHERE id = :key"],
    "move along": ["UPDATE note SET id = id - 1 WHERE id > :key"],
    "swap": [
        "UPDATE note SET id = -100 WHERE id = :key",
        "UPDATE note SET id = :key WHERE id = :other",
        "UPDATE note SET id = :other WHERE id = -100",
    ],
}

workers = st.sampled_from(WORKERS)
keys = st.integers(1, 3)
texts = st.lists(st.sampled_from(PARAGRAPHS), max_size=3).map("\n\n".join) | st.none()
names = st.sampled_from([*STATEMENTS, *["edit", "replace", "put back"] * 2])
rarely = st.sampled_from([False] * 4 + [True])

# The steps of the machine: how often each is taken, its method and what is drawn for that.
STEPS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "write": (12, {"name": names, "key": keys, "other": keys, "text": texts, "stay_open": rarely}),
    "end": (3, {"commit": st.booleans()}),
    "edit_another_column": (1, {"key": keys}),
    "truncate": (1, {}),
    "work": (14, {"worker": workers, "breaks": rarely, "in_two": st.booleans()}),
    "crash": (1, {"worker": workers}),
    "give_back": (1, {"worker": workers}),
    "heartbeat": (1, {"worker": workers}),
    "lose_leases": (2, {}),
    "reap": (2, {}),
}


def _arguments(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(STEPS[name][1]))


steps = st.sampled_from([name for name, (often, _) in STEPS.items() for _ in range(often)]).flatmap(_arguments)

# Every row with what is stored for it, and whether it has a job.
STORED = """
    SELECT id, text, ARRAY(SELECT content FROM note_semantic AS chunk WHERE chunk.id = note.id ORDER BY ordinal),
           source_hash, EXISTS (SELECT FROM semantic.job WHERE key = note.id::text)
           OR EXISTS (SELECT FROM semantic.mark WHERE key = note.id::text)
    FROM note LEFT JOIN note_semantic_receipt USING (id)
"""


@dataclass(frozen=True)
class Place:
    """A database; an application gives up on a lock after a moment, an onlooker sees what is committed."""

    engine: sa.Engine
    application: sa.Engine
    onlooker: sa.Connection
    generation_id: int


@pytest.fixture
def place(engine: sa.Engine) -> Iterator[Place]:
    Base.metadata.create_all(engine)
    sync(engine)  # the backfill, of nothing
    for table in ("note", "note_semantic", "note_semantic_receipt", "semantic.job", "semantic.mark"):
        execute(engine, f"ALTER TABLE {table} SET (autovacuum_enabled = false)")  # its locks are not those looked for
    application = sa.create_engine(engine.url, connect_args={"options": "-c lock_timeout=10ms"})
    with engine.connect() as onlooker:
        onlooker.execution_options(isolation_level="AUTOCOMMIT")
        yield Place(engine, application, onlooker, generation_of(engine, "note_semantic").id)
    application.dispose()


class Counting(HashedEncoder):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(32)
        self.given: list[str] = []

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.given += texts
        return super().encode_documents(texts)


@dataclass
class Hand:
    """What a worker has in hand: a claim, then the batch that was read of it, then an open transaction."""

    claim: Claim | None = None
    batch: Batch | None = None
    writing: sa.Connection | None = None


class Machine(RuleBasedStateMachine):
    """One application with a transaction that may stay open, and workers that are slow, die and lose their leases.

    One rule with weights: of many rules hypothesis leaves some out of each example, which makes most examples dull.
    A step that has nothing to do does nothing, so that what comes next never depends on what the server did.
    """

    place: ClassVar[Place]

    def __init__(self) -> None:
        super().__init__()
        self.engine = self.place.engine
        self.encoder = Counting()
        self.hands = {worker: Hand() for worker in WORKERS}
        self.held: sa.Connection | None = None
        execute(self.engine, "TRUNCATE note CASCADE")
        execute(self.engine, "TRUNCATE semantic.job, semantic.mark")
        for key in (1, 2, 3):
            execute(self.engine, "INSERT INTO note VALUES (:key, :text, 'en')", key=key, text=PARAGRAPHS[key])

    @rule(step=steps)
    def take(self, step: tuple[str, dict[str, Any]]) -> None:
        name, arguments = step
        getattr(self, name)(**arguments)

    # The application.

    def write(self, name: str, key: int, other: int, text: str | None, stay_open: bool) -> None:
        binds = {"key": key, "other": other, "text": text}
        if stay_open:
            self.held = self.held or self.place.application.connect()
            if not self._applied(self.held, STATEMENTS[name], binds):
                self.end(commit=False)
        else:
            self._write_at_once(STATEMENTS[name], binds)

    def truncate(self) -> None:
        """Not in a transaction that stays open: TRUNCATE locks out those who only read, as this thread does."""
        self._write_at_once(["TRUNCATE note CASCADE"], {})

    def end(self, commit: bool) -> None:
        if self.held:
            self.held.commit() if commit else self.held.rollback()
            self.held.close()
            self.held = None

    def edit_another_column(self, key: int) -> None:
        before = self._jobs()
        self._write_at_once(["UPDATE note SET lang = lang || 'x', text = text WHERE id = :key"], {"key": key})
        assert self._jobs() == before, "a job was made although no text changed"

    def _write_at_once(self, statements: Sequence[str], binds: dict[str, Any]) -> None:
        with self.place.application.connect() as connection:
            if self._applied(connection, statements, binds):
                connection.commit()

    def _applied(self, connection: sa.Connection, statements: Sequence[str], binds: dict[str, Any]) -> bool:
        """Whether the statements went through; they may fail for reasons of the application's own."""
        try:
            for statement in statements:
                connection.execute(sa.text(statement), binds)
        except exc.IntegrityError:
            return False
        except exc.OperationalError as error:
            if database.sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            in_transaction = [
                self.held is not connection and self.held,
                *(hand.writing for hand in self.hands.values()),
            ]
            assert any(in_transaction), "a writer waited, and nobody was writing"
            return False
        return True

    # The workers.

    def work(self, worker: int, breaks: bool, in_two: bool) -> None:
        """What a worker does next: claim, read and encode, write; or to end the write that it has begun."""
        hand = self.hands[worker]
        if hand.claim is None:
            self._claim(hand)
        elif hand.batch is None:
            self._read(hand, hand.claim, breaks=breaks)
        elif hand.writing is None and in_two:
            hand.writing = self.engine.connect()
            _write(hand.writing, hand.batch)
        else:
            if hand.writing is None:
                write_chunks.write(self.engine, hand.batch, settings=Settings(**PATIENT))
            self._end_write(hand, commit=True)
            self.give_back(worker)

    def crash(self, worker: int) -> None:
        self._end_write(self.hands[worker], commit=False)
        self.hands[worker] = Hand()

    def give_back(self, worker: int) -> None:
        """Leaves the hand as it is when a writer has some of its jobs locked, to give them back another time."""
        hand = self.hands[worker]
        if hand.claim and not hand.writing:
            keys_ = [job.key for job in hand.claim.jobs]
            others = self._jobs(but_of=hand.claim)
            if not write_chunks.give_back(self.engine, hand.claim, keys_, at_once=True):
                self.hands[worker] = Hand()
            assert others <= self._jobs(but_of=hand.claim), "what another worker has claimed was given back"

    def heartbeat(self, worker: int) -> None:
        if claim := self.hands[worker].claim:
            with self.engine.begin() as connection:
                jobqueue.heartbeat(connection, [claim.token], lease_seconds=60)

    def lose_leases(self) -> None:
        execute(
            self.engine,
            "UPDATE semantic.job SET lease_until = now() - interval '1 second' WHERE (generation_id, key) IN "
            "(SELECT generation_id, key FROM semantic.job WHERE state = 'processing' FOR UPDATE SKIP LOCKED)",
        )

    def reap(self) -> None:
        with self.engine.begin() as connection:
            jobqueue.reap(connection, max_attempts=10_000, retry_seconds=0)

    def _claim(self, hand: Hand) -> None:
        with self.engine.begin() as connection:
            jobqueue.fold(connection, self.place.generation_id)
            claim = jobqueue.claim(connection, self.place.generation_id, rows=2, lease_seconds=60)
        hand.claim = claim if claim.jobs else None

    def _read(self, hand: Hand, claim: Claim, *, breaks: bool) -> None:
        stored = {content for (content,) in self._seen("SELECT content FROM note_semantic")}
        self.encoder.given.clear()
        hand.batch = read_rows.read(self.engine, TABLES, claim, counter=self.encoder)
        encode_chunks.encode(hand.batch, self.encoder)
        assert len(self.encoder.given) == len(set(self.encoder.given)), "a text was encoded twice"
        assert stored.isdisjoint(self.encoder.given), "a text was encoded that has a vector"
        if breaks:
            hand.batch.broken.update(dict.fromkeys(hand.batch.vectors, "the encoder choked"))

    def _end_write(self, hand: Hand, *, commit: bool) -> None:
        if hand.writing:
            hand.writing.commit() if commit else hand.writing.rollback()
            hand.writing.close()
            hand.writing = None

    def _jobs(self, *, but_of: Claim | None = None) -> set[tuple[Any, ...]]:
        found = self._seen(
            "SELECT key, version, claim FROM semantic.job UNION ALL SELECT key, 0, NULL FROM semantic.mark"
        )
        return {job for job in found if but_of is None or job[2] != but_of.token}

    def _seen(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.place.onlooker.execute(sa.text(statement))]

    # What must hold.

    @invariant()
    def every_row_is_true_or_has_a_job(self) -> None:
        for key, text, contents, source_hash, has_job in self._seen(STORED):
            expected = text.split("\n\n") if text else []
            is_true = contents == expected and source_hash == hashing.content_hash(text or "")
            assert is_true or has_job, f"row {key} is stale: {contents} for {expected}, and no job will mend it"

    @invariant()
    def nothing_outlives_its_row(self) -> None:
        kept = "SELECT id FROM note_semantic UNION SELECT id FROM note_semantic_receipt"
        assert self._seen(f"{kept} EXCEPT SELECT id FROM note") == []

    def teardown(self) -> None:
        try:
            self._let_all_end()
            self._converges()
            self._has_nothing_left_to_do()
        finally:
            self.end(commit=False)
            for worker in WORKERS:
                self.crash(worker)

    def _let_all_end(self) -> None:
        self.end(commit=True)
        for hand in self.hands.values():
            self._end_write(hand, commit=True)
        self.lose_leases()

    def _run(self) -> Progress:
        return sync(self.engine, lambda *_, **__: self.encoder, poll_seconds=0.001, **PATIENT)

    def _converges(self) -> None:
        self._run()
        assert self._jobs() == set()
        self.every_row_is_true_or_has_a_job()
        self.nothing_outlives_its_row()
        encoder = HashedEncoder(32)
        with self.engine.connect() as connection:
            for content, vector in connection.execute(sa.select(TABLES.chunks.c.content, TABLES.chunks.c.vector)):
                assert vector == pytest.approx(encoder.encode_documents([content])[0].tolist(), abs=1e-3)

    def _has_nothing_left_to_do(self) -> None:
        written = "SELECT id, xmin::text FROM note_semantic UNION ALL SELECT id, xmin::text FROM note_semantic_receipt"
        before = sorted(self._seen(written))
        with self.engine.begin() as connection:
            everything = list(connection.scalars(sa.text("SELECT id::text FROM note")))
            jobqueue.enqueue(connection, self.place.generation_id, everything)
        assert self._run().chunks_encoded == 0
        assert sorted(self._seen(written)) == before, "what was right was written again"


def machine_at(place: Place) -> type[Machine]:
    return type("MachineHere", (Machine,), {"place": place})


def _write(connection: sa.Connection, batch: Batch) -> None:
    """A batch's write in one transaction that is left open."""
    connection.execute(sa.text("SET LOCAL lock_timeout = '10ms'"))
    write_chunks._finish_idle(connection, batch, batch.idle_jobs)
    rows = [row for row in batch.rows if batch.failure(row) is None]
    records = copy_rows.make(connection.engine, batch, rows)
    write_chunks._write_rows(connection, batch, rows, records=records, size=WriteSizer(1.0))


SETTINGS = hypothesis.settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],  # to make a failure small takes minutes: add Phase.shrink by hand
)


def test_no_order_of_writes_work_and_crashes_leaves_a_vector_untrue(place: Place) -> None:
    run_state_machine_as_test(machine_at(place), settings=SETTINGS)


def test_a_write_that_compares_nothing_is_found_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def hold(connection: sa.Connection, claimed: Claim, jobs: Sequence[Job]) -> set[str]:
        there = sa.text("SELECT key FROM semantic.job WHERE key = ANY(:keys) ORDER BY key FOR UPDATE SKIP LOCKED")
        return set(connection.scalars(there, {"keys": [job.key for job in jobs]}))

    monkeypatch.setattr(jobqueue, "hold", hold)
    with pytest.raises(AssertionError, match="is stale"):
        run_state_machine_as_test(machine_at(place), settings=SETTINGS)
