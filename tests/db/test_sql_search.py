"""Search from plain SQL: the function of each semantic index, against the same search from Python."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import Searcher
from pg_semantic.search import Convex  # noqa: F401
from tests.db.library import Article, encoder, execute, rows, sync


def test_try(articles: sa.Engine) -> None:
    execute(
        articles,
        "INSERT INTO article (id,title,lang) SELECT i, 'word'||i%7||' thing'||i%3, 'en' FROM generate_series(1,200) i",
    )
    sync(articles)
    print(rows(articles, "SELECT prosrc FROM pg_proc WHERE proname = 'article_semantic_search'")[0][0])
    for mode in ("dense", "hybrid", "lexical"):
        print(rows(articles, "SELECT semantic.search_v1(1, :m, 10, false)", m=mode)[0][0])
    text = "word3 thing1"
    vec = encoder().encode_queries([text])[0].tolist()
    execute(
        articles,
        "INSERT INTO semantic.query_vector (encoder_id,text_hash,vector) SELECT id, semantic.text_hash_v1(:t), CAST(:v AS real[]) FROM semantic.encoder",
        t=text,
        v=vec,
    )
    for mode in ("dense", "hybrid", "lexical"):
        print(mode, rows(articles, "SELECT * FROM article_semantic_search(:t, 5, :m)", t=text, m=mode))
        with orm.Session(articles) as session:
            hits = Searcher(encoder()).search(session, Article.semantic, text, limit=5, mode=mode)
            print([(h.entity.id, h.score, h.passage, h.ordinal) for h in hits])
    assert 0
