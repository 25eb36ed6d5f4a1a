"""No transaction that we began stays open while an encoder is loaded or works, nor through a whole table."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from pg_semantic import errors, evaluation, generations, search, training, tuning
from pg_semantic.encoders import BatchingEncoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.evaluation import Judgements
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.rerankers import BatchingReranker, ScoreType
from pg_semantic.search import generation_tracker
from pg_semantic.training import Mining, Pair
from pg_semantic.tuning import ChunkTuningOptions, RerankTuningOptions, TuningOptions
from tests.db.library import Article, encoder, execute, generation_of, sync

NAME = "article_semantic"
WORDS = ["harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern", "anchor", "thistle"]
QUERIES = [f"{first} {second}" for first in WORDS for second in WORDS if first < second]
JUDGED = Judgements({query: {str(number + 1): 1} for number, query in enumerate(QUERIES)})
OPEN = sa.text(
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
)


def fill(engine: sa.Engine) -> None:
    """One row per query."""
    with Session(engine) as session:
        session.add_all(Article(id=number + 1, title=query) for number, query in enumerate(QUERIES))
        session.commit()
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def idle(library: sa.Engine) -> Iterator[Callable[[], int]]:
    """Counts the transactions that are open and do nothing."""
    watcher = sa.create_engine(library.url, isolation_level="AUTOCOMMIT")
    with watcher.connect() as connection:
        yield lambda: int(connection.scalar(OPEN) or 0)
    watcher.dispose()


class CountingLoader:
    """Loads encoders, and counts the idle transactions meanwhile."""

    def __init__(self, idle: Callable[[], int]) -> None:
        self.idle = idle
        self.seen: list[int] = []

    def __call__(self, spec: EncoderSpec) -> BatchingEncoder:
        self.seen.append(self.idle())
        return generation_tracker.load(spec)


class WatchfulEncoder(HashedEncoder):
    """Counts the idle transactions whenever it encodes queries."""

    def __init__(self, idle: Callable[[], int]) -> None:
        super().__init__(32)
        self.idle = idle
        self.seen: list[int] = []

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.seen.append(self.idle())
        return super().encode_queries(texts)


class WatchfulReranker:
    """Counts the idle transactions whenever it scores passages."""

    reference = "watchful"
    score_type: ScoreType = "probability"

    def __init__(self, idle: Callable[[], int]) -> None:
        self.idle = idle
        self.seen: list[int] = []

    def score(self, _: str, passages: Sequence[str]) -> NDArray[np.float32]:
        self.seen.append(self.idle())
        return np.zeros(len(passages), np.float32)


def begin(engine: sa.Engine) -> None:
    live = generation_of(engine)
    other = dataclasses.replace(live.spec.encoder, reference="hashed:64", dimensions=64)
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=other))
    sync(engine)


def test_an_evaluation_loads_its_encoder_outside_of_a_transaction(library: sa.Engine, idle: Callable[[], int]) -> None:
    load = CountingLoader(idle)
    with Session(library) as session:
        evaluation.evaluate(session, Article.semantic, JUDGED, load=load)
        assert not session.in_transaction()
    assert load.seen == [0]


def test_the_callers_own_transaction_stays_open(library: sa.Engine, idle: Callable[[], int]) -> None:
    load = CountingLoader(idle)
    with Session(library) as session:
        session.execute(sa.text("SET LOCAL application_name = 'mine'"))
        evaluation.evaluate(session, Article.semantic, JUDGED, load=load)
        search.duplicates(session, Article.semantic)
        training.mine(session, Article.semantic, [Pair("violin", "1")], encoder=encoder())
        assert session.scalar(sa.text("SHOW application_name")) == "mine"
    assert load.seen == [1]


def test_objects_that_the_caller_keeps_are_not_expired(library: sa.Engine) -> None:
    with Session(library, expire_on_commit=False) as session:
        one = session.get_one(Article, 1)
        session.commit()
        evaluation.evaluate(session, Article.semantic, JUDGED)
        assert "title" in one.__dict__


@pytest.mark.parametrize(("level", "found"), [("READ COMMITTED", 0.0), ("REPEATABLE READ", 1.0)])
def test_an_evaluation_is_in_one_snapshot_if_transactions_are(library: sa.Engine, level: Any, found: float) -> None:
    def load(spec: EncoderSpec) -> BatchingEncoder:
        execute(library, "DELETE FROM article WHERE id = 1")
        return generation_tracker.load(spec)

    first = Judgements({QUERIES[0]: {"1": 1}})
    with Session(library.execution_options(isolation_level=level)) as session:
        report = evaluation.evaluate(session, Article.semantic, first, load=load)
        assert not session.in_transaction()
    assert report.base.measures["RR@10"] == found


def test_tuning_loads_its_encoder_outside_of_a_transaction(library: sa.Engine, idle: Callable[[], int]) -> None:
    load = CountingLoader(idle)
    with Session(library) as session:
        tuning.tune(session, Article.semantic, JUDGED, options=TuningOptions("nDCG@3"), load=load)
        assert session.in_transaction()  # records what was tuned on, when the caller commits
    assert load.seen == [0]


def test_tuning_a_reranker_loads_encodes_and_scores_outside_of_a_transaction(
    library: sa.Engine, idle: Callable[[], int]
) -> None:
    load, watchful, reranker = CountingLoader(idle), WatchfulEncoder(idle), WatchfulReranker(idle)
    some, options = JUDGED.only(QUERIES[:5]), RerankTuningOptions((3, 6), "nDCG@3")
    with Session(library) as session:
        tuning.tune_rerank_depth(session, Article.semantic, some, reranker=reranker, options=options, load=load)
        session.commit()
        tuning.tune_rerank_depth(session, Article.semantic, some, reranker=reranker, options=options, encoder=watchful)
    assert len(reranker.seen) == 20
    assert {*load.seen, *watchful.seen, *reranker.seen} == {0}


def test_tuning_the_chunk_size_encodes_outside_of_a_transaction(library: sa.Engine, idle: Callable[[], int]) -> None:
    watchful = WatchfulEncoder(idle)
    with Session(library) as session:
        options = ChunkTuningOptions((16,), "nDCG@3")
        tuning.tune_chunk_size(session, Article.semantic, JUDGED, options=options, encoder=watchful)
    assert watchful.seen == [0]


def test_a_comparison_and_the_gate_load_encoders_outside_of_a_transaction(
    library: sa.Engine, idle: Callable[[], int]
) -> None:
    begin(library)
    both = generations.find(library, NAME, "live"), generations.find(library, NAME, "next")
    load = CountingLoader(idle)
    generations.compare(library, both, QUERIES[:5], judged=JUDGED, load=load)
    assert load.seen == [0, 0]
    generations.require_relevance(library, NAME, JUDGED, worse_by=1, load=load)
    assert load.seen == [0, 0, 0, 0]


def test_mining_encodes_and_reranks_outside_of_a_transaction(library: sa.Engine, idle: Callable[[], int]) -> None:
    watchful, reranker = WatchfulEncoder(idle), WatchfulReranker(idle)
    pairs = [Pair(query, str(number + 1)) for number, query in enumerate(QUERIES)] * 2
    with Session(library) as session, BatchingReranker(reranker) as shared:
        training.mine(
            session, Article.semantic, pairs, encoder=watchful, options=Mining(rerank=shared, absolute_margin=0.0)
        )
        assert not session.in_transaction()
    assert watchful.seen == [0]
    assert set(reranker.seen) == {0}


@pytest.mark.parametrize(("level", "is_one"), [("READ COMMITTED", False), ("REPEATABLE READ", True)])
def test_duplicates_are_found_page_by_page_unless_a_transaction_is_a_snapshot(
    library: sa.Engine, idle: Callable[[], int], monkeypatch: pytest.MonkeyPatch, level: Any, is_one: bool
) -> None:
    monkeypatch.setattr(search.similar_chunks, "PAGE_CHUNKS", 10)
    began: list[Any] = []

    def listen(connection: sa.Connection) -> None:
        began.append(connection)

    engine = library.execution_options(isolation_level=level)
    sa.event.listen(engine, "begin", listen)
    with Session(engine) as session:
        found = search.duplicates(session, Article.semantic, least=0.3)
    assert found
    assert (len(began) == 1) == is_one


def test_a_transaction_of_the_connection_that_a_session_is_bound_to_is_not_ended(library: sa.Engine) -> None:
    elsewhere = Judgements({"harbour": {"999": 1}})
    with library.connect() as connection:
        connection.execute(sa.insert(Article).values(id=500, title="kept"))
        with Session(connection) as session, pytest.raises(errors.QueryError, match="There is nothing to measure"):
            evaluation.evaluate(session, Article.semantic, elsewhere, encoder=encoder())
        assert connection.scalar(sa.select(sa.func.count()).where(Article.id == 500)) == 1
        connection.rollback()
        assert connection.scalar(sa.select(sa.func.count()).where(Article.id == 500)) == 0
