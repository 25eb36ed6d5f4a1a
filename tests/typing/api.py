"""The public types, pinned: mypy checks this file and nothing runs it."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, assert_type

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from pg_semantic import (
    AsyncSearcher,
    BoundIndex,
    Chunking,
    Compressed,
    Hit,
    Hnsw,
    Searcher,
    SemanticIndex,
    encoders,
    evaluation,
    search,
    training,
)
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.evaluation import Judgements
from pg_semantic.index.chunk_class import Chunk
from pg_semantic.rerankers import BatchingReranker, Reranker
from pg_semantic.search import Convex, Diverse, Options, Passage, Rerank, Rrf, Snippet
from pg_semantic.training import QueryTraining, RerankerTraining, StaticTraining


class Base(DeclarativeBase): ...


class Searchable:
    text: Mapped[str]
    semantic = SemanticIndex("text", encoder="hashed:8")


class Article(Base):
    __tablename__ = "article"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    semantic = SemanticIndex(
        "body",
        encoder="sentence-transformers/all-MiniLM-L6-v2",
        chunking=Chunking(max_tokens=128, overlap_tokens=16),
        storage="vector",
        hnsw=Hnsw(m=24, ef_construction=128),
    )
    short = SemanticIndex("body", encoder="hashed:8", storage=Compressed(prefix=4))


class Note(Searchable, Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


def a_class_has_a_bound_index_of_its_own_kind(article: Article) -> None:
    assert_type(Article.semantic, BoundIndex[Article])
    assert_type(Note.semantic, BoundIndex[Note])
    assert_type(Article.semantic.entity, type[Article])
    assert_type(Article.semantic.name, str)
    assert_type(article.semantic, SemanticIndex)


def a_chunk_has_typed_columns(chunk: Chunk) -> None:
    assert_type(Article.semantic.Chunk, type[Chunk])
    assert_type(chunk.content, str)
    assert_type(chunk.ordinal, int)
    assert_type(chunk.vector, list[float])


def an_encoder_makes_arrays() -> None:
    encoder = encoders.load("hashed:8", dimensions=8)
    assert_type(encoder, Encoder)
    assert_type(encoder.encode_queries(["tea"]), Vectors)
    assert_type(encoder.count_tokens(["tea"]), list[int])


def a_statement_selects_rows_and_scores(session: Session, vector: list[float]) -> None:
    statement = search.knn(Article.semantic, vector, limit=5, offset=5)
    assert_type(statement, sa.Select[Article, float])
    assert_type(search.exact(Article.semantic, np.array(vector)), sa.Select[Article, float])
    assert_type(statement.where(Article.id > 7), sa.Select[Article, float])
    assert_type(session.execute(statement).all(), Sequence[Row[Article, float]])
    for article, score in session.execute(statement):
        assert_type(article, Article)
        assert_type(score, float)


def words_and_both_together_rank_with_the_same_types(session: Session, vector: list[float]) -> None:
    assert_type(search.lexical(Article.semantic, "tea", match="phrase", limit=5), sa.Select[Article, float])
    for fusion in (Rrf(k=10, dense=0.5), Convex(lexical=0.3)):
        statement = search.hybrid(Article.semantic, vector, "tea", where=[Article.id > 7], fusion=fusion, depth=200)
        assert_type(statement, sa.Select[Article, float])
        assert_type(search.exactly(statement), sa.Select[Article, float])
        for article, score in session.execute(statement):
            assert_type(article, Article)
            assert_type(score, float)


def rows_are_a_query_too(session: Session, article: Article, vector: list[float]) -> None:
    like = Article.semantic.similar_to(positive=[article, 7], negative=[vector])
    assert_type(search.knn(Article.semantic, like), sa.Select[Article, float])
    assert_type(search.exact(Article.semantic, like), sa.Select[Article, float])
    assert_type(Searcher().search(session, Article.semantic, like), list[Hit[Article]])


def distance_is_a_column_of_any_statement(session: Session, vector: list[float]) -> None:
    distance = Article.semantic.distance(vector)
    assert_type(distance, sa.ColumnElement[float])
    assert_type(sa.select(Article.id, distance).order_by(distance), sa.Select[int, float])
    assert_type(session.scalars(sa.select(Article).where(distance < 0.4)).all(), Sequence[Article])


def an_alias_has_the_index_too(session: Session, vector: list[float]) -> None:
    other = aliased(Article)
    assert_type(Article.semantic.of(other), BoundIndex[Article])
    assert_type(search.knn(Article.semantic.of(other), vector).where(other.id > 7), sa.Select[Article, float])
    assert_type(Searcher().search(session, Article.semantic.of(other), "tea", mode="lexical"), list[Hit[Article]])


def each_mode_gives_hits(session: Session, encoder: Encoder, mode: Literal["dense", "lexical", "hybrid"]) -> None:
    options = Options(fusion=Convex(), match="all", depth=50, min_score=0.1, passages=3)
    hits = Searcher(encoder).search(session, Article.semantic, "tea", mode=mode, options=options)
    assert_type(hits, list[Hit[Article]])


def a_statement_is_explained(session: Session, connection: sa.Connection, vector: list[float]) -> None:
    plan = search.explain(session, search.knn(Article.semantic, vector).where(Article.id > 7))
    assert_type(plan, search.Plan)
    assert_type(search.explain(connection, sa.select(Article.id), analyze=True), search.Plan)
    assert_type(plan.uses_vector_index, bool)
    assert_type(plan.reasons, tuple[str, ...])


def rows_that_are_alike_are_found(session: Session) -> None:
    pairs = search.duplicates(session, Article.semantic, least=0.9, limit=10, where=[Article.id > 7])
    assert_type(pairs, list[search.Duplicate[Article]])
    assert_type(pairs[0].first, Article)
    assert_type(pairs[0].score, float)
    groups = search.groups(session, Article.semantic, least=0.9, smallest=3, on_rows=print)
    assert_type(groups, list[search.Group[Article]])
    assert_type(groups[0].members, tuple[Article, ...])
    assert_type(groups[0].medoid, Article)
    clusters = search.clusters(session, Article.semantic, count=3, sample=100, seed=1, where=[Article.id > 7])
    assert_type(clusters, list[search.Cluster[Article]])
    assert_type(clusters[0].medoid, Article)


def recall_is_measured(session: Session, vector: list[float]) -> None:
    where = {"all": (), "late": [Article.id > 7]}
    report = search.recall(session, Article.semantic, sample=50, limit=5, where=where, seed=1)
    assert_type(report, search.RecallReport)
    assert_type(search.recall(session, Article.semantic, queries=[vector, np.array(vector)]), search.RecallReport)
    assert_type(report.classes, tuple[search.ClassRecall, ...])
    assert_type(report.worst.recall, float)
    report.require(0.95)


def judgements_are_read_and_split(session: Session, connection: sa.Connection) -> None:
    judged = Judgements.read("judged.csv").merged(Judgements.read("beir", split="train"))
    assert_type(judged, Judgements)
    assert_type(Judgements.select(session, Article.semantic, sa.select(Note.text, Article.id)), Judgements)
    assert_type(Judgements.clicks(connection, Article.semantic, "SELECT 'tea', 7, 1, true"), Judgements)
    assert_type(judged.resolved(connection, Article.semantic), tuple[Judgements, int])
    parts = evaluation.split(session, Article.semantic, judged, held_out=0.2, seed=1)
    assert_type(parts, evaluation.Split)
    assert_type(parts.train, Judgements)
    trained = evaluation.without_held_out(session, Article.semantic, judged, and_rows=parts.held_out)
    assert_type(trained.judgements, Judgements)


async def an_async_session_does_both(session: AsyncSession, vector: list[float]) -> None:
    assert_type(await session.run_sync(search.explain, search.knn(Article.semantic, vector)), search.Plan)
    assert_type(await session.run_sync(search.recall, Article.semantic, sample=50), search.RecallReport)
    statement = sa.select(Note.text, Article.id)
    assert_type(await session.run_sync(Judgements.select, Article.semantic, statement), Judgements)
    assert_type(await session.run_sync(search.duplicates, Article.semantic), list[search.Duplicate[Article]])


async def hits_are_reranked_chosen_and_shown(session: AsyncSession, encoder: Encoder, reranker: Reranker) -> None:
    shared = BatchingReranker(reranker, waiting=10)
    options = Options(rerank=Rerank(shared, depth=20, seconds=0.5), diverse=Diverse(relevance=0.5), snippets=True)
    hits = await AsyncSearcher(encoder).search(session, Article.semantic, "tea", options=options)
    assert_type(hits, list[Hit[Article]])
    assert_type(hits[0].snippet, Snippet | None)
    assert_type(hits[0].vector, NDArray[np.float32] | None)


def a_search_gives_hits(session: Session, encoder: Encoder) -> None:
    hits = Searcher(encoder).search(session, Article.semantic, "tea", limit=5, where=[Article.id > 7], exact=True)
    assert_type(hits, list[Hit[Article]])
    hit_has_typed_parts(hits[0])


async def an_encoder_is_shared_by_searchers(encoder: Encoder) -> None:
    with encoders.BatchingEncoder(encoder, batch=8, waiting=100, remembered=0) as queries:
        assert_type(queries.encode("tea"), NDArray[np.float32])
        assert_type(await queries.encode_async("tea"), NDArray[np.float32])
        assert_type(Searcher(queries).encoder, encoders.BatchingEncoder | None)
        AsyncSearcher(queries)


async def a_search_in_an_async_session_gives_the_same(session: AsyncSession, encoder: Encoder) -> None:
    searcher = AsyncSearcher(encoder)
    assert_type(await searcher.search(session, Note.semantic, "tea"), list[Hit[Note]])
    assert_type(await searcher.search(session, Note.semantic, "tea", mode="hybrid"), list[Hit[Note]])
    like = Note.semantic.similar_to(positive=[7])
    assert_type(await searcher.search(session, Note.semantic, like, options=Options(passages=2)), list[Hit[Note]])


async def a_statement_in_an_async_session_has_the_same_rows(session: AsyncSession, vector: list[float]) -> None:
    statement = search.hybrid(Note.semantic, vector, "tea")
    assert_type((await session.execute(statement)).all(), Sequence[Row[Note, float]])
    assert_type(await session.run_sync(search.explain, statement), search.Plan)
    async for note, score in await session.stream(statement):
        assert_type(note, Note)
        assert_type(score, float)


def hit_has_typed_parts(hit: Hit[Article]) -> None:
    assert_type(hit.entity, Article)
    assert_type(hit.score, float)
    assert_type(hit.scores, Mapping[str, float])
    assert_type(hit.passage, str)
    assert_type(hit.passages, tuple[Passage, ...])
    assert_type(hit.ordinal, int)


def an_encoder_is_trained(session: Session, judged: Judgements) -> None:
    chosen = QueryTraining(kind="encoder", held_out=0.1, seconds=600)
    pairs = training.from_judgements(judged)
    report = training.train_query_side(session, Article.semantic, pairs, out=Path("encoder"), options=chosen)
    assert_type(report, training.TrainingReport)
    assert_type(report.folder, Path | None)
    assert_type(report.held_out, training.Gain)
    assert_type(report.trained_on, training.Gain | None)


def a_whole_encoder_is_trained(session: Session, mined: training.Mined) -> None:
    chosen = training.EncoderTraining(loss="gist", matryoshka=(256, 128), lora=True, seconds=600)
    report = training.train_encoder(session, Article.semantic, mined.pairs, out=Path("encoder"), options=chosen)
    assert_type(report, training.TrainingReport)


def a_reranker_is_trained(session: Session, mined: training.Mined) -> None:
    chosen = RerankerTraining(start="org/cross-encoder", loss="lambda", mode="hybrid", where=[Article.id > 7], depth=50)
    report = training.train_reranker(session, Article.semantic, mined.pairs, out=Path("reranker"), options=chosen)
    assert_type(report, training.TrainingReport)


def an_encoder_is_distilled(session: Session, judged: Judgements) -> None:
    chosen = StaticTraining(dimensions=256, vocabulary="encoder", seconds=600)
    report = training.distill_static(
        session, Article.semantic, out=Path("student"), options=chosen, judgements=judged, on_step=lambda *_: None
    )
    assert_type(report, training.StaticReport)
    assert_type(report.judged, training.Gain | None)
    assert_type(report.share, float | None)


def negatives_are_mined(session: Session, judged: Judgements, encoder: encoders.Encoder) -> None:
    pairs = training.from_judgements(judged)
    assert_type(pairs, list[training.Pair])
    assert_type(training.from_column(session, Article.semantic, Article.body, limit=10), list[training.Pair])
    assert_type(training.from_texts(session, Article.semantic, limit=10), list[training.Pair])
    assert_type(training.from_rows(session, Article.semantic, limit=10), list[training.RowPair])
    assert_type(training.from_similar_rows(session, Article.semantic, least=0.8, most=0.9), list[training.RowPair])
    assert_type(training.from_select(session, Article.semantic, "SELECT 'tea', 7"), list[training.Pair])
    options = training.Mining(negatives=5, relative_margin=0.05, sampling="random", group=Article.body)
    mined = training.mine(session, Article.semantic, pairs, encoder=encoder, where=[Article.id > 7], options=options)
    assert_type(mined.pairs, tuple[training.MinedPair, ...])
    assert_type(mined.pairs[0].negatives, tuple[training.ScoredChunk, ...])
    assert_type(mined.report.positive_scores, training.ScoreQuantiles | None)


def impressions_are_rows_and_statements(session: Session, hits: list[Hit[Article]]) -> None:
    table = search.impressions_table(Base.metadata)
    assert_type(table, sa.Table)
    shown = uuid.uuid4()
    page = search.interleave(hits, hits, seed=shown, limit=5)
    assert_type(page, list[search.Drafted[Article]])
    assert_type(page[0].team, Literal["first", "second"] | None)
    for given in (hits, page):
        assert_type(
            search.impressions(Article.semantic, given, query="tea", impression=shown, offset=10, visitor="a7c1"),
            list[dict[str, Any]],
        )
    assert_type(search.record_click(table, impression=shown, key="7"), sa.Update)
    assert_type(search.forget_impressions(table, visitor="a7c1"), sa.Delete)
    clicks = search.clicks(Article.semantic, table, where=[table.c.rank < 10], most_per_visitor=100)
    assert_type(Judgements.clicks(session, Article.semantic, clicks), Judgements)
    found = evaluation.interleaving_outcome(session, Article.semantic, table, variant="now or both", unit="visitor")
    assert_type(found, evaluation.InterleavingOutcome)
    assert_type(found.preferred, Literal["first", "second"] | None)
