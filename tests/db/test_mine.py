"""Mining: the negatives of `mine_hard_negatives`, from stored vectors alone, and behind every filter."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column

from pg_semantic import SemanticIndex, database, errors, evaluation, search, training
from pg_semantic.encoders import BatchingEncoder, Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.evaluation import Judgements
from pg_semantic.index import distances
from pg_semantic.index.chunking import Chunking
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import scan_settings, validation
from pg_semantic.training import Mining, Pair
from pg_semantic.training.mining import statements
from pg_semantic.training.mining.statements import AskedQuery, Searched
from tests.conftest import copy_of
from tests.db.library import Article, execute, rows, sync
from tests.hard_negatives import SETTINGS, Found, by_rules

WORDS = 60  # in the vocabulary
ROWS = 400


class Base(orm.DeclarativeBase): ...


class Doc(Base):
    __tablename__ = "doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    topic: Mapped[str | None]

    semantic = SemanticIndex("text", encoder="hashed:32", storage="vector", chunking=None)


class Part(Base):
    __tablename__ = "part"

    book: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", chunking=Chunking(max_tokens=8, overlap_tokens=0))


class Counting(HashedEncoder):
    """Counts what it encodes."""

    def __init__(self) -> None:
        super().__init__(32)
        self.documents: list[str] = []
        self.queries: list[str] = []

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.documents += texts
        return super().encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.queries += texts
        return super().encode_queries(texts)


class WithoutDirection(HashedEncoder):
    """Finds nothing in the query "nothing"."""

    def __init__(self) -> None:
        super().__init__(32)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return super().encode_queries(texts) * np.array([[text != "nothing"] for text in texts], np.float32)


class LateAnswer(HashedEncoder):
    """Lets something happen when it encodes queries."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__(32)
        self.happens = happens

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.happens()
        return super().encode_queries(texts)


ENCODER = HashedEncoder(32)


def sentence(seed: int) -> str:
    random = np.random.default_rng(seed)
    return " ".join(f"word{number}" for number in random.integers(0, WORDS, 9))


TEXTS = {str(number): sentence(number) for number in range(ROWS)}
QUERIES = [sentence(10_000 + number) for number in range(30)]


def positives() -> Mapping[str, Sequence[str]]:
    """One to three rows for each query, mostly near ones."""
    random, keys = np.random.default_rng(5), list(TEXTS)
    documents = ENCODER.encode_documents(list(TEXTS.values()))
    found = {}
    for number, query in enumerate(QUERIES):
        order = np.argsort(-(documents @ ENCODER.encode_queries([query])[0]))
        far = ROWS if number % 5 == 0 else 20
        found[query] = [keys[order[rank]] for rank in random.choice(far, size=1 + number % 3, replace=False)]
    return found


POSITIVES = positives()
PAIRS = [Pair(query, key) for query, keys in POSITIVES.items() for key in keys]
PLAIN: dict[str, Any] = {"not_nearer_than": None}


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """All texts, synced; for tests that leave no trace."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Doc(id=int(key), text=text, topic=f"t{int(key) % 7}") for key, text in TEXTS.items())
            session.commit()
        sync(engine)
        execute(engine, "ANALYZE")
        yield engine
        engine.dispose()


@pytest.fixture
def session(filled: sa.Engine) -> Iterator[Session]:
    with Session(filled) as opened:
        yield opened


@pytest.fixture
def empty(engine: sa.Engine) -> sa.Engine:
    """The tables without rows."""
    Base.metadata.create_all(engine)
    return engine


def mine(session: Session, pairs: Sequence[Pair] = PAIRS, **given: Any) -> training.Mined:
    return training.mine(session, Doc.semantic, pairs, encoder=ENCODER, **given)


def negatives(mined: training.Mined) -> Found:
    return {pair.query: [negative.key for negative in pair.negatives] for pair in mined.pairs}


def vectors(texts: Mapping[str, str]) -> Mapping[str, NDArray[np.float32]]:
    return dict(zip(texts, ENCODER.encode_documents(list(texts.values())), strict=True))


def expected(**settings: Any) -> Found:
    queries = dict(zip(QUERIES, ENCODER.encode_queries(QUERIES), strict=True))
    return by_rules(queries, vectors(TEXTS), POSITIVES, **settings)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_exact_mining_finds_the_negatives_of_sentence_transformers(session: Session, settings: dict[str, Any]) -> None:
    mined = mine(session, exact=True, options=Mining(**settings, **PLAIN))
    assert negatives(mined) == expected(**settings)
    assert len(mined.pairs) == len(PAIRS)
    assert {(pair.query, pair.positive.key) for pair in mined.pairs} == {(pair.query, pair.key) for pair in PAIRS}


def test_scores_are_cosine_similarities_and_the_report_counts_what_happened(session: Session) -> None:
    mined = mine(session, exact=True, options=Mining(relative_margin=0.1))
    stored = vectors(TEXTS)
    for pair in mined.pairs:
        asked = ENCODER.encode_queries([pair.query])[0]
        for passage in (pair.positive, *pair.negatives):
            assert passage.score == pytest.approx(float(stored[passage.key] @ asked), abs=1e-5)
        assert [one.score for one in pair.negatives] == sorted((one.score for one in pair.negatives), reverse=True)
    report = mined.report
    found = negatives(mined)
    assert (report.queries, report.pairs, report.gone) == (len(QUERIES), len(PAIRS), 0)
    assert report.negatives == sum(map(len, found.values()))
    assert report.mined == sum(map(bool, found.values()))
    assert report.short == sum(len(keys) < 3 for keys in found.values())
    assert set(report.dropped) == {"relative_margin", "not_nearer_than"}
    assert 0 < report.dropped["relative_margin"] < report.candidates
    assert report.positive_scores is not None
    assert report.positive_scores.highest == max(pair.positive.score for pair in mined.pairs)
    assert report.negative_scores is not None
    assert report.negative_scores.median == pytest.approx(
        np.median([one.score for pair in {pair.query: pair for pair in mined.pairs}.values() for one in pair.negatives])
    )
    assert len(report.examples) == 10
    assert set(report.examples) <= set(mined.pairs)
    assert mine(session, exact=True, options=Mining(relative_margin=0.1)).report.examples == report.examples


def test_queries_are_encoded_once_each_and_documents_never(session: Session) -> None:
    encoder = Counting()
    for mode in ("dense", "lexical", "hybrid"):
        training.mine(session, Doc.semantic, PAIRS, encoder=encoder, mode=mode)
    assert encoder.documents == []
    assert sorted(encoder.queries) == sorted(QUERIES * 3)


def test_mining_reads_one_search_per_query_and_no_source_text(filled: sa.Engine) -> None:
    statements: list[str] = []

    def listen(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    sa.event.listen(filled, "before_cursor_execute", listen)
    try:
        with Session(filled) as session:
            mine(session)
    finally:
        sa.event.remove(filled, "before_cursor_execute", listen)
    assert sum("MATERIALIZED" in one for one in statements) == len(QUERIES)
    assert len(statements) < 2 * len(QUERIES) + 10
    assert not any("doc.text" in one for one in statements)


def test_the_index_scan_finds_what_the_exact_search_finds(session: Session) -> None:
    assert negatives(mine(session)) == negatives(mine(session, exact=True))


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_candidates_come_through_the_vector_index_of_a_large_table(many_articles: sa.Engine, mode: Any) -> None:
    index = Article.semantic
    searched = Searched(index, [], mode, 32, None, contents=False)
    vector = distances.query_vector(index.spec, ENCODER.encode_queries(["violin glacier"])[0])
    query = AskedQuery(sa.literal("violin glacier", sa.Text), vector)
    with many_articles.connect() as connection:
        walked, computed = (
            search.explain(connection, statements.candidates(searched, query, ["7"], exact=exact))
            for exact in (False, True)
        )
    assert walked.uses_vector_index
    assert not computed.uses_vector_index


@pytest.fixture
def short_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index scans that give up after the first chunks."""
    settings = {"hnsw.ef_search": "1", "hnsw.iterative_scan": "off"}
    monkeypatch.setattr(scan_settings, "scan_settings", lambda *_, **__: settings)


@pytest.mark.usefixtures("short_scans")
def test_a_scan_that_ends_too_early_is_completed(session: Session) -> None:
    session.execute(sa.text("SET LOCAL enable_seqscan = off"))
    assert negatives(mine(session)) == negatives(mine(session, exact=True))


def test_filters_apply_to_negatives_and_to_positives(session: Session) -> None:
    mined = mine(session, where=[Doc.topic == "t1"], options=Mining(negatives=5))
    keys = {one.key for pair in mined.pairs for one in (pair.positive, *pair.negatives)}
    assert keys
    assert {int(key) % 7 for key in keys} == {1}
    assert mined.report.gone == sum(int(pair.key) % 7 != 1 for pair in PAIRS)


def test_negatives_of_a_positives_group_are_dropped(session: Session) -> None:
    mined = mine(session, options=Mining(group=Doc.topic))
    for pair in mined.pairs:
        groups = {int(key) % 7 for key in POSITIVES[pair.query]}
        assert not groups & {int(one.key) % 7 for one in pair.negatives}
    assert mined.report.dropped["group"] > 0


def test_rows_with_nearly_the_text_of_a_positive_are_dropped_and_unknown_groups_are_not_equal(empty: sa.Engine) -> None:
    texts = {1: "red apple pie", 2: "red apple pie", 3: "red apple pie recipe", 4: "green pear", 5: "blue sky"}
    with Session(empty) as session:
        session.add_all(Doc(id=number, text=text, topic=None) for number, text in texts.items())
        session.commit()
        sync(empty)
        pairs = [Pair("apple pie", "1")]
        kept = mine(session, pairs, options=Mining(negatives=4, not_nearer_than=None, group=Doc.topic))
        strict = mine(session, pairs, options=Mining(negatives=4, not_nearer_than=0.8))
        equal = mine(session, pairs, options=Mining(negatives=4, not_nearer_than=1))
    assert set(negatives(kept)["apple pie"]) == {"2", "3", "4", "5"}
    assert set(negatives(strict)["apple pie"]) == {"4", "5"}
    assert set(negatives(equal)["apple pie"]) == {"3", "4", "5"}
    assert strict.report.dropped == {"not_nearer_than": 2}


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_negatives_by_words_are_ranked_as_in_a_search_and_scored_by_meaning(session: Session, mode: Any) -> None:
    stored = vectors(TEXTS)
    loose = mine(session, mode=mode, options=Mining(negatives=10, **PLAIN))
    strict = mine(session, mode=mode, options=Mining(negatives=10, relative_margin=0.2, **PLAIN))
    for pair in strict.pairs:
        asked = ENCODER.encode_queries([pair.query])[0]
        least = min(float(stored[key] @ asked) for key in POSITIVES[pair.query])
        assert all(one.score == pytest.approx(float(stored[one.key] @ asked), abs=1e-5) for one in pair.negatives)
        assert all(one.score <= least - abs(least) * 0.2 for one in pair.negatives)
    for query, found in negatives(loose).items():
        if mode == "lexical":
            ranked = search.lexical(Doc.semantic, query, limit=20)
        else:
            ranked = search.hybrid(Doc.semantic, ENCODER.encode_queries([query])[0], query, limit=20)
        keys = [str(doc.id) for doc in session.scalars(ranked)]
        assert found == [key for key in keys if key not in POSITIVES[query]][:10]


class ByFirstWord:
    """Scores a passage by the number of its first word, whatever the query."""

    reference, score_type = "by first word", "probability"

    def __init__(self) -> None:
        self.asked = 0

    def score(self, _: str, passages: Sequence[str]) -> NDArray[np.float32]:
        self.asked += len(passages)
        return np.array([int(one.split()[0].removeprefix("word")) / WORDS for one in passages], np.float32)


def test_the_rerankers_scores_decide_if_a_margin_or_bound_is_set_and_only_then(session: Session) -> None:
    reranker = ByFirstWord()
    with BatchingReranker(reranker) as shared:  # type: ignore[arg-type]
        plain = mine(session, options=Mining(rerank=shared, range_max=33, **PLAIN))
        assert reranker.asked == 0
        assert negatives(plain) == negatives(mine(session, options=Mining(range_max=33, **PLAIN)))
        mined = mine(session, options=Mining(rerank=shared, max_score=0.5, **PLAIN))
    assert (plain.report.reranked, mined.report.reranked) == (False, True)
    first = {key: int(text.split()[0].removeprefix("word")) / WORDS for key, text in TEXTS.items()}
    for pair in mined.pairs:
        assert pair.positive.score == pytest.approx(first[pair.positive.key])
        scores = [one.score for one in pair.negatives]
        assert scores == pytest.approx([first[one.key] for one in pair.negatives])
        assert scores == sorted(scores, reverse=True)
        assert max(scores, default=0) <= 0.5


def test_the_passage_of_a_row_is_its_chunk_nearest_to_the_query_whatever_the_key(empty: sa.Engine) -> None:
    first, second = "red apple pie with sugar and lemon juice.", "a violin plays slow music in the hall."
    with Session(empty) as session:
        session.add_all(
            [
                Part(book="a", number=1, text=f"{first}\n\n{second}"),
                Part(book="a", number=2, text=f"{second}\n\n{first.replace('sugar', 'butter')}"),
                Part(book='"b', number=1, text="an engine and a lantern stand in the harbour."),
            ]
        )
        session.commit()
        sync(empty)
        pairs = [Pair("violin music", '["a","1"]'), Pair("apple pie", '["a", "2"]')]
        mined = training.mine(session, Part.semantic, pairs, encoder=ENCODER, options=Mining(not_nearer_than=None))
        stored = {
            (str(key), ordinal): content
            for *key, ordinal, content in rows(empty, "SELECT book, number, ordinal, content FROM part_semantic")
        }
    violin, apple = mined.pairs
    assert stored[str(["a", 1]), violin.positive.ordinal] == second
    assert stored[str(["a", 2]), apple.positive.ordinal].startswith("red apple pie")
    assert [one.key for one in violin.negatives] == ['["a", "2"]', '["\\"b", "1"]']
    assert stored[str(["a", 2]), violin.negatives[0].ordinal] == second
    assert apple.negatives[0].key == '["a", "1"]'
    assert stored[str(["a", 1]), apple.negatives[0].ordinal] == first


def test_keys_in_another_spelling_are_positives_and_rows_that_are_gone_are_counted(session: Session) -> None:
    query, key = PAIRS[0].query, PAIRS[0].key
    given = [Pair(query, f"00{key}"), Pair(query, key), Pair(query, "4000"), Pair(query, "x"), Pair("lost", "4000")]
    mined = mine(session, given)
    assert [pair.positive.key for pair in mined.pairs] == [key]
    assert key not in negatives(mined)[query]
    assert (mined.report.queries, mined.report.pairs) == (2, 5)
    assert mined.report.gone == 4


def test_pairs_that_are_all_gone_give_an_empty_result(session: Session) -> None:
    mined = mine(session, [Pair("lost", "4000")])
    assert mined.pairs == ()
    assert (mined.report.gone, mined.report.positive_scores, mined.report.examples) == (1, None, ())


def test_queries_that_their_answers_quote_are_counted(session: Session) -> None:
    quoted = " ".join(TEXTS["7"].split()[2:6])
    report = mine(session, [Pair(quoted, "7"), Pair(QUERIES[0], "7")]).report
    assert report.quoted == 1


def test_held_out_queries_are_refused_by_number_and_not_by_text(empty: sa.Engine) -> None:
    texts = {number: sentence(number) for number in range(20)}
    judged = Judgements({QUERIES[number]: {str(number): 1} for number in range(10)})
    with Session(empty) as session:
        session.add_all(Doc(id=number, text=text) for number, text in texts.items())
        session.commit()
        sync(empty)
        split = evaluation.split(session, Doc.semantic, judged, held_out=0.3)
        held_out = training.from_judgements(split.held_out)
        allowed = training.from_judgements(split.train)
        assert held_out
        with pytest.raises(errors.QueryError, match=f"^{len(held_out)} of {len(judged)} queries are held out") as told:
            mine(session, [*allowed, *held_out])
        with pytest.raises(errors.QueryError, match="held out"):
            mine(session, [Pair(held_out[0].query.upper(), "1")])
        assert not any(pair.query in str(told.value) for pair in held_out)
        assert mine(session, allowed).report.queries == len(allowed)


@pytest.fixture
def tenants(empty: sa.Engine) -> tuple[sa.Engine, str]:
    """Rows of two tenants, and a role that sees those of t0 only."""
    role = f"reader_{uuid.uuid4().hex}"
    with Session(empty) as session:
        session.add_all(Doc(id=number, text=sentence(number), topic=f"t{number % 2}") for number in range(60))
        session.commit()
    execute(empty, f"CREATE ROLE {role}; GRANT SELECT ON doc TO {role}")
    execute(empty, "ALTER TABLE doc ENABLE ROW LEVEL SECURITY")
    execute(empty, "CREATE POLICY own ON doc USING (topic = 't0')")
    sync(empty)
    return empty, role


def test_tenants_stay_apart(tenants: tuple[sa.Engine, str]) -> None:
    engine, role = tenants
    pairs = [Pair(QUERIES[0], "0"), Pair(QUERIES[1], "1"), Pair(QUERIES[0], "3")]
    with Session(engine) as session:
        with pytest.raises(errors.QueryError, match="row-level security"):
            mine(session, pairs)
        filtered = mine(session, pairs, where=[Doc.topic == "t0"])
        session.execute(sa.text(f"SET LOCAL ROLE {role}"))
        mined = mine(session, pairs)
        assert mined.pairs == filtered.pairs
    assert [pair.positive.key for pair in mined.pairs] == ["0"]
    assert mined.report.gone == 2
    assert len(mined.pairs[0].negatives) == 3
    assert {int(one.key) % 2 for one in mined.pairs[0].negatives} == {0}


def test_a_role_without_privileges_on_the_registry_is_told_of_held_out_queries(tenants: tuple[sa.Engine, str]) -> None:
    engine, role = tenants
    with Session(engine) as session:
        evaluation.split(session, Doc.semantic, Judgements({QUERIES[0]: {"0": 1}}), held_out=1)
        session.commit()
        session.execute(sa.text(f"SET LOCAL ROLE {role}"))
        with pytest.raises(errors.QueryError, match="1 of 2 queries are held out"):
            mine(session, [Pair(QUERIES[0], "0"), Pair(QUERIES[1], "2")])
        assert mine(session, [Pair(QUERIES[1], "2")]).report.mined == 1


def test_a_query_without_direction_is_left_out_and_counted(session: Session) -> None:
    pairs = [*PAIRS, Pair("nothing", "1")]
    mined = training.mine(session, Doc.semantic, pairs, encoder=WithoutDirection())
    assert mined.report.zero == 1
    assert negatives(mined) == negatives(mine(session))


def test_the_depth_of_a_query_is_that_of_its_own_positives(session: Session, filled: sa.Engine) -> None:
    limits: list[int] = []

    def listen(_: Any, __: Any, statement: str, given: Mapping[str, Any], *___: Any) -> None:
        if "MATERIALIZED" in statement:
            numbers = {name: value for name, value in given.items() if isinstance(value, int)}
            limits.append(max(value for name, value in numbers.items() if name.startswith("param_")))

    many = [Pair(QUERIES[0], key) for key in list(TEXTS)[:200]]
    sa.event.listen(filled, "before_cursor_execute", listen)
    try:
        mine(session, [*many, Pair(QUERIES[1], "5")], options=Mining(**PLAIN))
    finally:
        sa.event.remove(filled, "before_cursor_execute", listen)
    assert limits[0] > 200
    assert limits[-1] < 100


def late_row(engine: sa.Engine, answer: Pair) -> None:
    """Adds the row that answers a query, with the text of the query, and its vectors."""
    execute(engine, "INSERT INTO doc (id, text) VALUES (:id, :text)", id=int(answer.key), text=answer.query)
    sync(engine)


@pytest.mark.parametrize("key", ["500", "0500"])
@pytest.mark.parametrize("spelled", [str, str.upper])
def test_an_answer_that_gets_its_vectors_meanwhile_is_not_a_negative(
    empty: sa.Engine, key: str, spelled: Callable[[str], str]
) -> None:
    with Session(empty) as session:
        session.add_all(Doc(id=number, text=sentence(number)) for number in range(20))
        session.commit()
        sync(empty)
        query = QUERIES[0]
        encoder = LateAnswer(lambda: late_row(empty, Pair(query, "500")))
        pairs = [Pair(query, "1"), Pair(spelled(query), key)]
        options = Mining(negatives=20, not_nearer_than=None)
        mined = training.mine(session, Doc.semantic, pairs, encoder=encoder, options=options)
    assert mined.pairs
    assert all(negative.key != "500" for pair in mined.pairs for negative in pair.negatives)


def test_another_encoder_is_refused(session: Session) -> None:
    for encoder in (HashedEncoder(16), HashedEncoder(32, query_prompt="query: ")):
        with pytest.raises(errors.EncoderMismatch, match="doc_semantic"):
            training.mine(session, Doc.semantic, PAIRS, encoder=encoder)


def test_the_encoder_of_a_searcher_can_be_shared(session: Session) -> None:
    with BatchingEncoder(ENCODER) as shared:
        mined = training.mine(session, Doc.semantic, PAIRS, encoder=shared)
    assert negatives(mined) == negatives(mine(session))


def test_invalid_arguments_are_refused(session: Session) -> None:
    with pytest.raises(errors.QueryError, match="no pairs"):
        mine(session, [])
    with pytest.raises(errors.QueryError, match="mode='sparse'"):
        mine(session, mode="sparse")
    with pytest.raises(errors.QueryError, match="condition on part"):
        mine(session, options=Mining(group=Part.text))
    with pytest.raises(errors.QueryError, match="NUL"):
        mine(session, [Pair("a\0b", "1")])


def test_progress_is_reported_for_every_query(session: Session) -> None:
    calls: list[int] = []
    mine(session, [*PAIRS, Pair("lost", "4000")], on_query=lambda: calls.append(1))
    assert len(calls) == len(QUERIES) + 1


def test_a_column_asks_for_its_row(empty: sa.Engine) -> None:
    with Session(empty) as session:
        session.add_all(
            [
                Doc(id=1, text="an apple", topic=" fruit "),
                Doc(id=2, text="a sky", topic=" "),
                Doc(id=3, text="a pear", topic=None),
                Doc(id=4, text="a red plum", topic="red"),
                Doc(id=5, text="a log", topic="line " * validation.MOST_CHARACTERS),
            ]
        )
        session.commit()
        sync(empty)
        assert training.from_column(session, Doc.semantic, Doc.topic) == [Pair("fruit", "1"), Pair("red", "4")]
        assert training.from_column(session, Doc.semantic, Doc.topic, where=[Doc.id > 1]) == [Pair("red", "4")]
        assert training.from_column(session, Doc.semantic, Doc.topic, limit=1) == [Pair("fruit", "1")]
        quoted = training.from_column(session, Doc.semantic, Doc.text)
        assert mine(session, quoted).report.quoted == 5
        with pytest.raises(errors.QueryError, match="condition on part"):
            training.from_column(session, Doc.semantic, Part.text)
        with pytest.raises(errors.QueryError, match="limit=0"):
            training.from_column(session, Doc.semantic, Doc.topic, limit=0)


def test_pairs_come_from_a_statement_on_any_tables(empty: sa.Engine) -> None:
    execute(empty, "CREATE TABLE asked (words text, book text, number integer)")
    execute(empty, "INSERT INTO asked VALUES ('how', 'a', 7), (' ', 'a', 7), (NULL, 'a', 7), ('why', 'b', 1)")
    asked = sa.table("asked", sa.column("words", sa.Text), sa.column("book", sa.Text), sa.column("number", sa.Integer))
    with Session(empty) as session:
        ordered = sa.select(asked.c.words, asked.c.book, asked.c.number).order_by(asked.c.words)
        found = training.from_select(session, Part.semantic, ordered)
        assert set(found) == {Pair("how", '["a", "7"]'), Pair("why", '["b", "1"]')}
        assert set(training.from_select(session, Part.semantic, "SELECT words, book, number FROM asked")) == set(found)
        single = training.from_select(session, Doc.semantic, "SELECT words, number FROM asked WHERE words = 'how'")
        assert single == [Pair("how", "7")]
        with pytest.raises(errors.QueryError, match="3 columns"):
            training.from_select(session, Doc.semantic, sa.select(asked))
