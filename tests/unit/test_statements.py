from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pg_semantic import SemanticIndex, errors, search
from tests.unit.statement_text import binds, one_line, text

VECTOR = [1.0, 0.0, 0.0]


class Base(DeclarativeBase): ...


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Article(Base):
    __tablename__ = "article"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
    body: Mapped[str]
    semantic = SemanticIndex("body", encoder="hashed:3")


class Part(Base):
    __tablename__ = "part"
    __table_args__ = ({"schema": "shop"},)
    maker: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    semantic = SemanticIndex("label", encoder="hashed:3", storage="vector")


Build: TypeAlias = "Callable[..., sa.Select[Article, float]]"

SAME_ENCODER = """(SELECT semantic.require_encoder_v1(to_regclass('article_semantic'),
    %(encoder_1)s::VARCHAR, %(dimensions_1)s::INTEGER) AS same_encoder)"""

SAME_TABLE = """(SELECT semantic.require_source_not_replaced_v1(to_regclass('article_semantic'), to_regclass('article'))
    AS same_table)"""

KNN = one_line(f"""
    SELECT article.id, article.author_id, article.body,
        %(param_1)s::INTEGER - (article_semantic.vector <=> CAST(%(query_vector_1)s AS HALFVEC(3))) AS score
    FROM article JOIN article_semantic ON article_semantic.id = article.id
    WHERE {SAME_ENCODER} AND {SAME_TABLE} AND (SELECT article_semantic_1.ordinal = article_semantic.ordinal AS anon_1
        FROM article_semantic AS article_semantic_1
        WHERE article_semantic_1.id = article_semantic.id
        ORDER BY (article_semantic_1.vector <=> CAST(%(query_vector_1)s AS HALFVEC(3))) + 0, article_semantic_1.ordinal
        LIMIT %(param_2)s::INTEGER)
    ORDER BY article_semantic.vector <=> (SELECT CASE
        WHEN (set_config(%(set_config_1)s::VARCHAR, CAST(least(greatest(%(greatest_1)s::INTEGER, coalesce(
                (SELECT semantic.recall.ef_search FROM semantic.recall JOIN semantic.generation
                    ON semantic.generation.id = semantic.recall.generation_id
                    AND semantic.generation.chunks = to_regclass('article_semantic')),
                %(coalesce_1)s::INTEGER)), %(least_1)s::INTEGER) AS TEXT), true) IS NOT NULL
            AND set_config(%(set_config_2)s::VARCHAR, %(set_config_3)s::VARCHAR, true) IS NOT NULL
            AND set_config(%(set_config_4)s::VARCHAR, %(set_config_5)s::VARCHAR, true) IS NOT NULL
            AND set_config(%(set_config_6)s::VARCHAR, %(set_config_7)s::VARCHAR, true) IS NOT NULL)
        THEN CAST(%(query_vector_1)s AS HALFVEC(3)) END AS anon_2), article.id
    LIMIT %(param_3)s::INTEGER
""").replace("coalesce( (", "coalesce((")

EXACT = one_line(f"""
    SELECT article.id, article.author_id, article.body, %(distance_1)s::INTEGER - anon_1.distance AS score
    FROM article JOIN LATERAL (
        SELECT (article_semantic_1.vector <=> CAST(%(query_vector_1)s AS HALFVEC(3))) + 0 AS distance
        FROM article_semantic AS article_semantic_1
        WHERE article_semantic_1.id = article.id
        ORDER BY distance
        LIMIT %(param_1)s::INTEGER) AS anon_1 ON true
    WHERE {SAME_ENCODER} AND {SAME_TABLE}
    ORDER BY %(distance_1)s::INTEGER - anon_1.distance DESC, article.id
    LIMIT %(param_2)s::INTEGER
""").replace("( SELECT", "(SELECT")


def test_knn_walks_the_vector_index_and_keeps_the_best_chunk_of_a_row() -> None:
    assert text(search.knn(Article.semantic, VECTOR)) == KNN


def test_exact_computes_every_distance() -> None:
    assert text(search.exact(Article.semantic, VECTOR)) == EXACT


def test_rows_are_matched_to_chunks_by_the_whole_key() -> None:
    same_row = "{0}.maker = shop.part.maker AND {0}.number = shop.part.number"
    assert same_row.format("shop.part_semantic") in text(search.knn(Part.semantic, VECTOR))
    assert same_row.format("part_semantic_1") in text(search.exact(Part.semantic, VECTOR))


def test_the_query_vector_has_the_type_of_the_storage() -> None:
    assert "AS VECTOR(3))" in text(search.knn(Part.semantic, VECTOR))


@pytest.mark.parametrize(
    ("limit", "offset", "needed"),
    [(1, 0, 2), (50, 0, 100), (50, 50, 200), (500, 0, 1000), (9000, 0, 18000)],
)
def test_a_scan_looks_at_twice_what_is_wanted_or_what_was_chosen_within_pgvectors_limits(
    limit: int, offset: int, needed: int
) -> None:
    given = binds(search.knn(Article.semantic, VECTOR, limit=limit, offset=offset))
    assert [given[name] for name in ("greatest_1", "coalesce_1", "least_1")] == [needed, 100, 1000]
    settings = [given[f"set_config_{number}"] for number in (1, 2, 3)]
    assert settings == ["hnsw.ef_search", "hnsw.iterative_scan", "strict_order"]


def test_a_caller_can_say_how_far_to_look() -> None:
    given = binds(search.knn(Article.semantic, VECTOR, ef_search=7))
    assert [given[f"set_config_{number}"] for number in (1, 2)] == ["hnsw.ef_search", "7"]
    assert "semantic.recall" not in text(search.knn(Article.semantic, VECTOR, ef_search=7))


@pytest.mark.parametrize("ef_search", [0, 1001, 7.5, True, "7"])
def test_how_far_to_look_is_within_pgvectors_limits(ef_search: Any) -> None:
    with pytest.raises(errors.QueryError, match="a whole number from 1 to 1000"):
        search.knn(Article.semantic, VECTOR, ef_search=ef_search)
    with pytest.raises(errors.QueryError, match="a whole number from 1 to 1000"):
        search.Options(ef_search=ef_search)


@pytest.mark.parametrize("build", [search.knn, search.exact])
def test_a_callers_filter_applies_before_the_limit(build: Build) -> None:
    plain = build(Article.semantic, VECTOR)
    filtered = text(plain.where(Article.author_id == 7))
    before, _, after = filtered.partition("article.author_id = %(author_id_1)s::INTEGER")
    assert after.startswith(" ORDER BY")
    assert before.endswith((" AND ", " WHERE "))
    assert before.removesuffix(" AND ").removesuffix(" WHERE ") + after == text(plain)


@pytest.mark.parametrize("build", [search.knn, search.exact])
def test_a_callers_join_stands_beside_ours(build: Build) -> None:
    joined = text(build(Article.semantic, VECTOR).join(Author, Author.id == Article.author_id))
    assert joined.replace(" JOIN author ON author.id = article.author_id", "") == text(build(Article.semantic, VECTOR))


@pytest.mark.parametrize("build", [search.knn, search.exact])
def test_an_offset_comes_after_the_limit(build: Build) -> None:
    statement = build(Article.semantic, VECTOR, limit=5, offset=20)
    assert text(statement).startswith(text(build(Article.semantic, VECTOR)) + " OFFSET")
    assert list(binds(statement).values())[-2:] == [5, 20]


@pytest.mark.parametrize("build", [search.knn, search.exact])
def test_a_vector_is_never_among_what_is_selected(build: Build) -> None:
    statement = build(Article.semantic, VECTOR)
    assert [column.name for column in statement.selected_columns] == ["id", "author_id", "body", "score"]


def test_columns_of_the_best_chunk_can_be_added() -> None:
    added = search.knn(Article.semantic, VECTOR).add_columns(Article.semantic.Chunk.content)
    assert text(added).replace(", article_semantic.content", "") == KNN


@pytest.mark.parametrize("build", [search.knn, search.exact])
def test_an_array_and_a_list_of_numbers_ask_the_same(build: Build) -> None:
    array = build(Article.semantic, np.array(VECTOR, np.float64))
    assert binds(array) == binds(build(Article.semantic, VECTOR))


@pytest.mark.parametrize("build", [search.knn, search.exact])
@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        ([1.0, 0.0], r"has shape \(2,\), but 'article_semantic' needs \(3,\): encode the query with 'hashed:3'"),
        ([[1.0, 0.0, 0.0]], r"has shape \(1, 3\)"),
        ([], r"has shape \(0,\)"),
        ([0.0, 0.0, 0.0], "not all zeros"),
        ([float("nan"), 0.0, 0.0], "must be finite"),
        ([float("inf"), 0.0, 0.0], "must be finite"),
    ],
)
def test_a_vector_that_can_not_be_compared_is_refused(build: Build, vector: list[float], complaint: str) -> None:
    with pytest.raises(errors.QueryError, match=complaint):
        build(Article.semantic, vector)


@pytest.mark.parametrize("build", [search.knn, search.exact])
@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (-1, 0), (1, -1)])
def test_a_limit_or_offset_that_asks_for_nothing_is_refused(build: Build, limit: int, offset: int) -> None:
    with pytest.raises(errors.QueryError, match="limit must be 1 or more, offset 0 or more"):
        build(Article.semantic, VECTOR, limit=limit, offset=offset)
