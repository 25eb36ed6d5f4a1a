"""Searches by words, by both and by examples; and what is done to hits after SQL."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from pg_semantic import Hit, Lexical, Searcher, SemanticIndex, database, errors, search
from pg_semantic.rerankers import BatchingReranker, Scores, ScoreType
from pg_semantic.search import Convex, Diverse, Options, Rerank, Rrf
from tests.conftest import copy_of
from tests.db.library import encoder, execute, rows, sync

TEXTS = {
    1: "A harbour at dawn, with candles in the windows.",
    2: "Candle makers pour wax; a candle is a wick in wax. Candles, candles!",
    3: "The engine of a ship that leaves the harbour.",
    4: "Violins and violas play in the meadow.",
    5: "The meadow behind the harbour, where the engine driver sleeps.",
    6: "Glaciers calve into the sea.",
    7: "the of and",
}


class Base(orm.DeclarativeBase): ...


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    lang: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32")


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]

    semantic = SemanticIndex("text", encoder="hashed:32", lexical=None)


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    """A few notes; not written to by any test here."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            for number, text in TEXTS.items():
                session.add(Note(id=number, text=text, lang="en" if number % 2 else "de"))
            session.add(Plain(id=1, text="tea"))
            session.commit()
        sync(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def session(filled: sa.Engine) -> Iterator[Session]:
    with Session(filled) as opened:
        yield opened


def found(session: Session, query: Any, **how: Any) -> list[int]:
    return [hit.entity.id for hit in hits(session, query, **how)]


def hits(session: Session, query: Any, **how: Any) -> list[Hit[Note]]:
    return Searcher(encoder()).search(session, Note.semantic, query, **how)


EVERY_WAY: list[dict[str, Any]] = [
    {"mode": mode, "limit": limit, "offset": offset, "where": where, "options": options, "exact": exact}
    for mode in ("dense", "lexical", "hybrid")
    for limit, offset in ((1, 0), (3, 0), (3, 1))
    for where in ((), [Note.lang == "en"], [Note.lang == "de"])
    for options in (Options(), Options(passages=2, snippets=True), Options(match="all"), Options(fusion=Rrf(k=1)))
    for exact in (False, True)
]


def test_a_searcher_answers_as_if_it_had_never_been_asked_before(session: Session) -> None:
    texts, one = ("candles", "candles in the harbour"), Searcher(encoder())
    for text in texts:
        for how in EVERY_WAY:
            again = one.search(session, Note.semantic, text, **how)
            assert again == Searcher(encoder()).search(session, Note.semantic, text, **how), (text, how)
    other = orm.aliased(Note)
    assert one.search(session, Note.semantic.of(other), "candles") == one.search(session, Note.semantic, "candles")


@pytest.mark.parametrize(
    ("text", "match", "expected"),
    [
        ("candle", "any", {1, 2}),
        ("candles harbour", "any", {1, 2, 3, 5}),
        ("candles harbour", "all", {1}),
        ("engine driver", "phrase", {5}),
        ("driver engine", "phrase", set()),
        ('harbour -"engine driver"', "websearch", {1, 3}),
        ("violin or glacier", "websearch", {4, 6}),
        ("the of and", "any", set()),
        ("?!", "all", set()),
    ],
)
def test_rows_match_by_their_words_in_any_form(session: Session, text: str, match: Any, expected: set[int]) -> None:
    assert {row.id for row, _ in session.execute(search.lexical(Note.semantic, text, match=match))} == expected
    assert set(found(session, text, mode="lexical", options=Options(match=match))) == expected


def test_a_row_with_more_of_a_rare_word_comes_first(session: Session) -> None:
    best = session.execute(search.lexical(Note.semantic, "candles in the harbour")).all()
    assert [row.id for row, _ in best][:2] == [1, 2]
    scores = [score for _, score in best]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


def test_filters_apply_before_the_limit_in_every_leg(session: Session) -> None:
    german = [Note.lang == "de"]
    statement = search.lexical(Note.semantic, "candles harbour", limit=1).where(*german)
    assert [row.id for row, _ in session.execute(statement)] == [2]
    for mode in ("dense", "lexical", "hybrid"):
        assert found(session, "candles harbour", limit=1, mode=mode, where=german) == [2]
    both = search.hybrid(Note.semantic, encoder().encode_queries(["harbour"])[0], "harbour", where=german)
    assert {row.lang for row, _ in session.execute(both)} == {"de"}


def test_reciprocal_ranks_are_summed(session: Session) -> None:
    text, vector = "harbour engine", encoder().encode_queries(["harbour engine"])[0]
    by_meaning = found(session, text, exact=True)
    by_words = found(session, text, mode="lexical")
    expected = {
        row: 2 / (60 + 1 + by_meaning.index(row)) + (1 / (60 + 1 + by_words.index(row)) if row in by_words else 0)
        for row in by_meaning
    }
    statement = search.hybrid(Note.semantic, vector, text, fusion=Rrf(dense=2))
    scored = {row.id: score for row, score in session.execute(statement)}
    assert scored == pytest.approx(expected)
    assert list(scored) == sorted(expected, key=lambda row: (-expected[row], row))


def test_a_convex_combination_weighs_scores_on_one_scale(session: Session) -> None:
    how = Options(fusion=Convex(dense=3, lexical=1))
    best = hits(session, "harbour engine", mode="hybrid", options=how)
    dense = max(hit.scores["dense"] for hit in best) + 1
    lexical = max(hit.scores.get("lexical", 0) for hit in best)
    for hit in best:
        share = 0.75 * (hit.scores["dense"] + 1) / dense + 0.25 * hit.scores.get("lexical", 0) / lexical
        assert hit.score == hit.scores["fused"] == pytest.approx(share)


def test_a_leg_of_weight_zero_is_not_heard(session: Session) -> None:
    for fusion in (Rrf(lexical=0), Convex(lexical=0)):
        how = Options(fusion=fusion)
        assert found(session, "harbour", mode="hybrid", options=how) == found(session, "harbour", exact=True)


def test_rows_like_others_are_found_and_the_examples_are_not(session: Session) -> None:
    like = Note.semantic.similar_to(positive=[3, session.get_one(Note, 1)], negative=[6])
    assert set(found(session, like)) == TEXTS.keys() - {1, 3, 6}
    chunks = Note.semantic.tables.chunks.c
    stored = session.execute(sa.select(chunks.id, chunks.vector)).all()
    vectors = {row: np.asarray(vector, np.float64) for row, vector in stored}
    wanted = (vectors[3] + vectors[1]) - vectors[6]
    nearness = {row: vector @ wanted for row, vector in vectors.items() if row not in {1, 3, 6}}
    assert found(session, like) == sorted(nearness, key=lambda row: -nearness[row])
    statement = search.knn(Note.semantic, like, limit=1).where(Note.lang == "de")
    assert session.scalars(statement).one().lang == "de"
    given = encoder().encode_queries(["glaciers in the sea"])[0]
    assert found(session, Note.semantic.similar_to(positive=[given]), limit=1) == [6]
    assert found(session, Note.semantic.similar_to(positive=[999])) == []


def test_examples_that_cancel_out_or_are_of_another_table_find_nothing(session: Session) -> None:
    vector = encoder().encode_queries(["harbour"])[0]
    nowhere = Note.semantic.similar_to(positive=[vector, -vector])
    assert found(session, nowhere) == []
    assert session.execute(search.knn(Note.semantic, nowhere)).all() == []
    with pytest.raises(errors.QueryError, match="is not a row of 'note'"):
        Note.semantic.similar_to(positive=[session.get_one(Plain, 1)])
    other = Note.semantic.of(orm.aliased(Note))
    like = other.similar_to(positive=[session.get_one(Note, 3)])
    assert len(session.execute(search.knn(other, like, limit=2)).all()) == 2


def test_a_row_is_ranked_by_its_distance_in_any_statement(session: Session) -> None:
    vector = encoder().encode_queries(["harbour"])[0]
    distance = Note.semantic.distance(vector)
    statement = sa.select(Note.id, distance).where(Note.lang == "en").order_by(distance, Note.id)
    expected = session.execute(search.exact(Note.semantic, vector).where(Note.lang == "en")).all()
    found_by_distance = session.execute(statement).all()
    assert [key for key, _ in found_by_distance] == [row.id for row, _ in expected]
    assert [1 - far for _, far in found_by_distance] == pytest.approx([score for _, score in expected])


def test_an_index_is_joined_twice_by_an_alias(session: Session) -> None:
    vector = encoder().encode_queries(["harbour"])[0]
    other = orm.aliased(Note)
    statement = (
        search.exact(Note.semantic.of(other), vector, limit=3)
        .join(Note, sa.and_(Note.lang == other.lang, Note.id != other.id))
        .add_columns(Note.semantic.distance(vector))
    )
    for row, score, distance in session.execute(statement):
        assert isinstance(row, Note)
        assert 1 - distance <= 1
        assert -1 <= score <= 1
    by_words = session.execute(search.lexical(Note.semantic.of(other), "candles")).all()
    assert [row.id for row, _ in by_words] == [2, 1]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_searcher_takes_an_alias_and_a_session_of_many_engines(filled: sa.Engine, mode: Any) -> None:
    other = orm.aliased(Note)
    index, where = Note.semantic.of(other), [other.lang == "en"]
    with Session(binds={Base: filled}) as session:
        hits = Searcher(encoder()).search(session, index, "harbour", mode=mode, where=where)
        plain = Searcher(encoder()).search(session, Note.semantic, "harbour", mode=mode, where=[Note.lang == "en"])
    assert [hit.entity.id for hit in hits] == [hit.entity.id for hit in plain]
    assert hits


class Scored(Base):
    __tablename__ = "scored"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    score: Mapped[int]

    semantic = SemanticIndex("text", encoder="hashed:32")


def test_a_table_may_have_a_column_that_is_called_score(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Scored(id=1, text="tea", score=9), Scored(id=2, text="tea, tea and tea", score=1)])
        session.commit()
        sync(engine)
        vector = encoder().encode_queries(["tea"])[0]
        statements = (search.lexical(Scored.semantic, "tea"), search.hybrid(Scored.semantic, vector, "tea"))
        for statement in (*statements, search.knn(Scored.semantic, vector), search.exact(Scored.semantic, vector)):
            scores = [(score, row.score) for row, score in session.execute(statement)]
            assert len(scores) == 2
            assert scores[0][0] >= scores[1][0]
            assert {stored for _, stored in scores} == {9, 1}


class ByLength:
    """A reranker that takes the shortest passage for the best; with a gate it waits until that opens."""

    reference = "by length"
    score_type: ScoreType = "logit"

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate

    def score(self, query: str, passages: Sequence[str]) -> Scores:  # noqa: ARG002 - the protocol's
        if self.gate:
            self.gate.wait(10)
        return -np.array([len(passage) for passage in passages], np.float32)


def test_reranked_hits_are_in_the_order_of_the_reranker(session: Session) -> None:
    with BatchingReranker(ByLength()) as reranker:
        how = Options(rerank=Rerank(reranker))
        best = hits(session, "harbour", limit=3, offset=1, options=how)
    assert [hit.entity.id for hit in best] == sorted(TEXTS, key=lambda row: len(TEXTS[row]))[1:4]
    assert all(hit.score == hit.scores["rerank"] == -len(hit.passage) for hit in best)


def test_only_the_best_are_reranked_and_never_less_than_the_page(session: Session) -> None:
    with BatchingReranker(ByLength()) as reranker:
        first = found(session, "harbour", limit=2, exact=True)
        assert set(found(session, "harbour", limit=2, options=Options(rerank=Rerank(reranker, depth=1)))) == set(first)


def test_a_reranker_that_is_late_leaves_the_hits_as_they_were(session: Session) -> None:
    gate = threading.Event()
    with BatchingReranker(ByLength(gate)) as reranker:
        how = Options(rerank=Rerank(reranker, seconds=0.05))
        best = hits(session, "harbour", limit=3, options=how)
        least = Options(rerank=Rerank(reranker, seconds=0.05), min_score=100.0)
        late = found(session, "harbour", limit=3, options=least)
        gate.set()
    assert [hit.entity.id for hit in best] == found(session, "harbour", limit=3) == late
    assert not any("rerank" in hit.scores for hit in best)


def test_diverse_hits_leave_out_what_is_alike(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, 'candle wax', 'en'), (2, 'candle wax', 'en'), (3, 'candle sea', 'en')")
    sync(engine)
    with Session(engine) as session:
        assert found(session, "candle wax", limit=2) == [1, 2]
        assert found(session, "candle wax", limit=2, options=Options(diverse=Diverse(relevance=0.3))) == [1, 3]


def test_hits_below_the_least_score_are_left_out(session: Session) -> None:
    best = hits(session, "harbour", exact=True)
    kept = hits(session, "harbour", exact=True, options=Options(min_score=best[2].score))
    assert [hit.entity.id for hit in kept] == [hit.entity.id for hit in best[:3]]


def test_the_words_that_were_searched_for_are_marked(session: Session) -> None:
    [hit] = hits(session, "a candle", mode="lexical", limit=1, options=Options(snippets=True))
    assert hit.snippet is not None
    assert hit.snippet.html().startswith("<mark>Candle</mark> makers pour wax; a <mark>candle</mark>")


def test_an_index_without_words_says_so(session: Session) -> None:
    with pytest.raises(errors.QueryError, match=r"lexical=None"):
        search.lexical(Plain.semantic, "tea")
    [hit] = Searcher(encoder()).search(session, Plain.semantic, "tea", options=Options(snippets=True))
    assert hit.snippet is not None
    assert hit.snippet.html() == "<mark>tea</mark>"


def test_a_searcher_without_an_encoder_searches_by_words_and_examples(session: Session) -> None:
    searcher = Searcher()
    assert searcher.search(session, Note.semantic, "glaciers", mode="lexical")[0].entity.id == 6
    assert len(searcher.search(session, Note.semantic, Note.semantic.similar_to(positive=[1]))) == 6
    with pytest.raises(errors.QueryError, match="no encoder"):
        searcher.search(session, Note.semantic, "glaciers")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (lambda: Options(passages=0), "passages=0"),
        (lambda: Options(fusion="rrf"), r"must be Rrf\(\)"),  # type: ignore[arg-type]
        (lambda: Options(load=orm.defer(Note.lang)), "takes a list"),  # type: ignore[arg-type]
        (lambda: search.lexical(Note.semantic, None), "not NoneType"),  # type: ignore[arg-type]
        (lambda: search.lexical(Note.semantic, "tea", limit=2.5), "whole numbers"),  # type: ignore[arg-type]
        (lambda: search.hybrid(Note.semantic, [1.0] * 32, "tea", depth=10**7), "depth=10000000"),
        (lambda: Note.semantic.similar_to(positive="tea"), r"positive=\[key\]"),
        (lambda: Rrf(k=-1), "k=-1"),
        (lambda: Rrf(dense=0, lexical=0), "weights|more than 0"),
        (lambda: Convex(dense=-1), "dense=-1"),
        (lambda: Diverse(relevance=2), "relevance=2"),
        (lambda: Lexical(k1=-1), "k1=-1"),
        (lambda: Rerank(ByLength()), "takes a BatchingReranker"),  # type: ignore[arg-type]
        (lambda: search.lexical(Note.semantic, "tea", match="every"), "any, all, phrase, websearch"),  # type: ignore[arg-type]
        (lambda: Note.semantic.similar_to(positive=[]), "pass at least one"),
        (lambda: Note.semantic.similar_to(positive=[(1, 2)]), r"pass \(id\)"),
        (lambda: Note.semantic.similar_to(positive=[Note(text="new")]), "flush the session"),
    ],
)
def test_what_makes_no_sense_is_refused(options: Any, complaint: str) -> None:
    with pytest.raises((errors.QueryError, errors.DeclarationError), match=complaint):
        options()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"index": Note}, "not a semantic index"),
        ({"query": [0.1] * 32}, r"search\.knn"),
        ({"options": {"passages": 2}}, "must be Options"),
        ({"session": AsyncSession()}, "use AsyncSearcher"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_with_what_to_give(
    session: Session, given: dict[str, Any], complaint: str
) -> None:
    asked: dict[str, Any] = {"session": session, "index": Note.semantic, "query": "tea"} | given
    with pytest.raises(errors.QueryError, match=complaint):
        Searcher(encoder()).search(**asked)


def test_a_page_may_reach_as_far_as_any(session: Session) -> None:
    assert len(found(session, "harbour", mode="hybrid", limit=1_000_000)) == len(TEXTS)


def test_conditions_are_given_in_a_list(session: Session) -> None:
    with pytest.raises(errors.QueryError, match="a list of conditions"):
        found(session, "tea", where=Note.lang == "de")


def test_entities_are_loaded_with_options_of_the_orm(session: Session) -> None:
    [hit] = hits(session, "harbour", limit=1, options=Options(load=[orm.defer(Note.lang)]))
    assert "lang" in sa.inspect(hit.entity).unloaded


def test_an_unknown_mode_is_refused(session: Session) -> None:
    with pytest.raises(errors.QueryError, match="dense, lexical, hybrid"):
        found(session, "tea", mode="semantic")


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "empty"), ("tea\0", "NUL"), ("\ud800", "surrogate"), ("x" * 100_001, "100001 characters")],
)
def test_a_text_that_can_not_be_searched_for_is_refused(session: Session, mode: Any, text: str, complaint: str) -> None:
    with pytest.raises(errors.QueryError, match=complaint):
        found(session, text, mode=mode)


HOSTILE = [
    "word " * 10_000,
    " ".join(f"word{number}" for number in range(10_000)),
    "the of and",
    "?!… --",
    "'; DROP TABLE note; --",
    "a & | ! <-> ( : * \\ '' \\'",
    "a:* <2> !b | (c & 'd')",
    "https://example.org/a/b?c=d&e=f#g",
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈",
    "%s %(name)s :name $1 {0}",
    "\x01\x02\x1f \u202e\u200b \ufeff \ue000\ue001",
    *(Path(__file__).parent / "languages.txt").read_text("utf-8").splitlines(),
]


@pytest.mark.parametrize("match", ["any", "all", "phrase", "websearch"])
def test_no_text_breaks_a_search_or_out_of_it(filled: sa.Engine, match: Any) -> None:
    assert len(HOSTILE) > 60
    with Session(filled) as session:
        for text in HOSTILE:
            for mode in ("lexical", "hybrid"):
                how = Options(match=match, snippets=True)
                try:
                    assert len(found(session, text, mode=mode, options=how)) <= len(TEXTS)
                except errors.QueryError as error:
                    assert "takes at most 10000 characters" in str(error)  # noqa: PT017 - of two texts
                    assert len(text) > 10_000
    assert rows(filled, "SELECT count(*) FROM note") == [(len(TEXTS),)]


def test_a_phrase_too_long_for_the_server_is_said_to_be_so(session: Session) -> None:
    text = " ".join(f"a{number}-b{number}" for number in range(6_500))  # three lexemes each
    with pytest.raises(errors.QueryError, match="shorten it, or use match='any'"):
        found(session, text, mode="lexical", options=Options(match="phrase"))
    longest = text[:10_000].rpartition(" ")[0]
    assert found(session, longest, mode="lexical", options=Options(match="phrase")) == []


def test_words_follow_an_edit_and_a_delete(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    execute(engine, "INSERT INTO note VALUES (1, 'a lantern', 'en'), (2, 'an anchor', 'en')")
    sync(engine)
    execute(engine, "UPDATE note SET text = 'a thistle' WHERE id = 1")
    execute(engine, "DELETE FROM note WHERE id = 2")
    sync(engine)
    with Session(engine) as session:
        texts = ("lantern", "thistle", "anchor")
        counts = [len(session.execute(search.lexical(Note.semantic, text)).all()) for text in texts]
    assert counts == [0, 1, 0]
