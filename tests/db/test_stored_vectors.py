"""The vectors that training reads from a semantic index: all of a small table, those that matter of a large one."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import errors, training
from pg_semantic.index import declare
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index
from pg_semantic.search.generation_tracker import Target, read_live
from pg_semantic.search.legs import Where
from pg_semantic.training import Pair, QueryTraining
from pg_semantic.training.query_side import stored_vectors
from pg_semantic.training.query_side.stored_vectors import StoredVectors
from tests.db.conftest import MANY
from tests.db.library import Article, encoder, execute, rows, sync

PAIRS = [Pair(f"query {number}", str(number)) for number in range(1, 60)]


@pytest.fixture
def session(many_articles: sa.Engine) -> Iterator[Session]:
    with Session(many_articles) as opened:
        yield opened


def read(
    session: Session, relevant: Iterable[str] = (), texts: tuple[str, ...] = ("violin 5",), *, where: Where = ()
) -> StoredVectors:
    live, _ = read_live(session, Article.semantic)
    bound = Target(live, live.tables, None).bound(Article.semantic)
    vectors = encoder().encode_queries(texts)
    return stored_vectors.read(session, bound, relevant=set(relevant), queries=vectors, seed=0, where=where)


def test_a_small_table_is_read_whole_with_the_stored_vectors_scaled_to_unit_length(
    many_articles: sa.Engine, session: Session
) -> None:
    found = read(session)
    stored = dict(rows(many_articles, "SELECT id::text, vector::text FROM article_semantic"))
    assert not found.is_sample
    assert found.keys == tuple(sorted(stored))
    expected = np.array([np.fromstring(stored[key][1:-1], np.float32, sep=",") for key in found.keys])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)


def test_of_a_large_table_the_relevant_the_nearest_and_random_rows_are_read(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = read(session)
    monkeypatch.setattr(stored_vectors, "MOST", 700)
    monkeypatch.setattr(stored_vectors, "_RANDOM", 300)
    monkeypatch.setattr(stored_vectors, "_KEYS", 64)
    found = read(session, {"17", "3999", "gone"}, ("violin 5", "candle 9"))
    assert found.is_sample
    assert len(found.vectors) <= 700 + 64 + 2
    assert {"17", "3999"} <= set(found.keys)
    for text in ("violin 5", "candle 9"):
        [vector] = encoder().encode_queries([text])
        nearest = np.argsort(-(every.vectors @ vector), kind="stable")[:5]
        score = (every.vectors @ vector)[nearest[-1]]
        assert ((found.vectors @ vector) >= score - 1e-4).sum() >= 5
    known = {key: every.vectors[every.of_row(row)[0]] for row, key in enumerate(every.keys)}
    for row, key in enumerate(found.keys):
        np.testing.assert_array_equal(found.vectors[found.of_row(row)[0]], known[key])


@pytest.mark.parametrize("most", [50_000, 100])
def test_only_rows_that_fulfill_the_conditions_are_read(
    session: Session, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(stored_vectors, "MOST", most)
    monkeypatch.setattr(stored_vectors, "_RANDOM", 50)
    found = read(session, {"17", "1001"}, where=[Article.id > 1000, Article.id <= 1500])
    keys = set(map(int, found.keys))
    assert 1001 in keys
    assert keys <= set(range(1001, 1501))
    assert len(keys) == 500 if most == 50_000 else 50 <= len(keys) < 200


def test_rows_of_tenants_are_not_mixed_by_a_role_that_bypasses_policies(session: Session, tmp_path: Path) -> None:
    session.execute(sa.text("ALTER TABLE article ENABLE ROW LEVEL SECURITY"))
    with pytest.raises(errors.QueryError, match="has row-level security, which the current role bypasses"):
        training.train_query_side(session, Article.semantic, PAIRS, out=tmp_path / "new")
    one_tenant = QueryTraining(where=[Article.id < 9])
    with pytest.raises(errors.EncoderError, match="has no weights to train"):
        training.train_query_side(session, Article.semantic, PAIRS, out=tmp_path / "new", options=one_tenant)


def test_the_same_seed_reads_the_same_rows(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_vectors, "MOST", 500)
    assert read(session).keys == read(session).keys


def test_the_vectors_of_a_row_of_several_chunks_stand_together(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE pair (a integer, b text, words text, PRIMARY KEY (a, b))")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "pair", columns=("words",), encoder=EncoderSpec("hashed:32", 32), chunking=Chunking(8, 0)
        )
    create_index.create(engine, spec)
    execute(engine, "INSERT INTO pair SELECT i, 'x', repeat('word ' || i || '. ', 10 * i) FROM generate_series(1, 4) i")
    sync(engine)
    index = declare.bind(spec)
    with Session(engine) as session:
        live, _ = read_live(session, index)
        found = stored_vectors.read(
            session,
            Target(live, live.tables, None).bound(index),
            relevant=set(),
            queries=encoder().encode_queries(["word"]),
            seed=0,
        )
    counts = rows(
        engine, "SELECT jsonb_build_array(a::text, b)::text, count(*) FROM pair_semantic GROUP BY 1 ORDER BY 1"
    )
    assert [(key, len(found.of_row(row))) for row, key in enumerate(found.keys)] == counts
    assert counts[-1][1] > counts[0][1] >= 1


def test_an_encoder_without_weights_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(errors.EncoderError, match="'hashed:32' has no weights to train"):
        training.train_query_side(session, Article.semantic, PAIRS, out=tmp_path / "new")
    assert not session.in_transaction()
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_on_a_server_is_refused(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_SEMANTIC_ENCODER_URLS", '{"hashed:32": "http://localhost:1/v1"}')
    with pytest.raises(errors.EncoderError, match="runs on a server"):
        training.train_query_side(session, Article.semantic, PAIRS, out=tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "message"), [("a\0b", "NUL"), ("x" * 100_001, "100001 characters"), ("a\ud800", "lone surrogate")]
)
def test_a_query_that_cannot_be_searched_for_is_refused(
    session: Session, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(errors.QueryError, match=message):
        training.train_query_side(session, Article.semantic, [*PAIRS, Pair(text, "1")], out=tmp_path / "new")


def test_too_few_queries_are_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(errors.QueryError, match="only 30 queries"):
        training.train_query_side(session, Article.semantic, PAIRS[:30], out=tmp_path / "new", options=QueryTraining())


def test_a_folder_with_files_is_refused_before_anything_is_read(session: Session, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(errors.ConfigurationError, match="is not empty"):
        training.train_query_side(session, Article.semantic, [], out=tmp_path)


assert MANY > 700
