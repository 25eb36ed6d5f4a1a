"""The drift, the age and the size of vector indexes at /metrics of the service, and the tokens of the day."""

import pytest
import sqlalchemy as sa

from tests.db.library import Base, encoder, execute, rows, sync
from tests.service import serving
from tests.service.test_relevance_metrics import scraped
from tests.waiting import eventually

INDEX = '{generation="live",index="public.article_semantic"}'


def test_a_vector_index_that_was_built_has_a_drift_an_age_and_a_size(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with serving.running(encoder(), engine=engine, service_status_seconds=0) as client:

        def gauge(name: str) -> float | None:
            return scraped(client, name).get(f"pg_semantic_{name}{INDEX}")

        names = ("vector_index_drift_ratio", "vector_index_age_seconds", "vector_index_bytes")
        assert [gauge(name) for name in names] == [None, None, None]
        execute(
            engine, "INSERT INTO article (id, title, lang) SELECT i, 'title ' || i, 'en' FROM generate_series(1, 50) i"
        )
        sync(engine)
        [(size,)] = rows(engine, "SELECT pg_relation_size('article_semantic_vector_idx')")
        assert gauge("vector_index_bytes") == size
        assert 0 <= (gauge("vector_index_age_seconds") or -1) < 600
        engine.dispose()  # sessions report what they wrote when they end
        eventually(lambda: gauge("vector_index_drift_ratio") == 0, "no drift")
        execute(engine, "UPDATE article SET title = 'new ' || id WHERE id <= 10")
        sync(engine)
        engine.dispose()
        eventually(lambda: gauge("vector_index_drift_ratio") == pytest.approx(0.2), "a drift of a fifth")


def test_the_tokens_of_the_day_are_a_gauge(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO semantic.token_usage (day, tokens) SELECT CAST(now() AT TIME ZONE 'UTC' AS date), 42")
    with serving.running(encoder(), engine=engine, service_status_seconds=0) as client:
        assert "pg_semantic_tokens_today 42.0" in client.get("/metrics").text.splitlines()
