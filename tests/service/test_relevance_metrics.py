"""The figures of evaluations, at /metrics and for roles that can read all rows."""

import uuid

import httpx2
import pytest
import sqlalchemy as sa

from pg_semantic import database
from pg_semantic.evaluation import history
from tests.db.library import Base, encoder, execute, rows
from tests.pages.test_quality_page import evaluated
from tests.service import serving


@pytest.fixture
def measured(engine: sa.Engine) -> sa.Engine:
    """Two evaluations of two variants, and a variant that was evaluated long before."""
    Base.metadata.create_all(engine)
    for day, now, both in ((7, 0.61, 0.66), (8, 0.62, 0.7)):
        evaluated(engine, "now", now, day=day)
        evaluated(engine, 'bo"th', both, day=day)
    evaluated(engine, "abandoned", 0.1, day=2)
    execute(engine, "UPDATE semantic.evaluation SET evaluated_at = '2026-01-01' WHERE variant = 'abandoned'")
    return engine


def scraped(client: httpx2.Client, name: str) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"pg_semantic_{name}{{")]
    return {labels: float(value) for labels, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_latest_figure_of_each_measure_and_variant_is_a_gauge(measured: sa.Engine) -> None:
    with serving.running(encoder(), engine=measured, service_status_seconds=0) as client:
        found = scraped(client, "relevance")
        index = 'index="public.article_semantic"'
        assert found == {
            f'pg_semantic_relevance{{{index},measure="{measure}",variant="{variant}"}}': pytest.approx(value)
            for variant, measure, value in (
                ("now", "nDCG@10", 0.62),
                ("now", "RR@10", 0.72),
                (r"bo\"th", "nDCG@10", 0.7),
                (r"bo\"th", "RR@10", 0.8),
            )
        }
        ages = scraped(client, "evaluation_age_seconds")
        seconds = rows(measured, "SELECT extract(EPOCH FROM now() - max(evaluated_at)) FROM semantic.evaluation")
        assert list(ages.values()) == [pytest.approx(float(seconds[0][0]), abs=60)] * 2
        evaluated(measured, "now", 0.5, day=9)
        assert 0.5 in scraped(client, "relevance").values()


def test_figures_are_for_roles_that_can_read_all_rows_and_have_no_value_of_a_query(measured: sa.Engine) -> None:
    role = f"watcher_{uuid.uuid4().hex}"
    execute(measured, f"CREATE ROLE {role}")
    try:
        with measured.connect() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            assert history.latest(connection) == []
            connection.rollback()
        execute(measured, f"GRANT SELECT ON article, article_semantic, article_semantic_receipt TO {role}")
        with measured.connect() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            assert {one.variant for one in history.latest(connection)} == {"now", 'bo"th'}
            names = connection.execute(sa.text("SELECT * FROM semantic.readable_evaluation")).keys()
            assert not {"per_query", "judgements_hash", "settings", "fingerprint"} & set(names)
            connection.rollback()
        execute(measured, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
        with measured.connect() as connection:
            connection.execute(sa.text(f"SET ROLE {role}"))
            assert history.latest(connection) == []
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                connection.execute(sa.text("SELECT per_query FROM semantic.evaluation"))
    finally:
        execute(measured, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_newest_figures_are_limited_and_judgements_are_numbered(measured: sa.Engine) -> None:
    evaluated(measured, "now", 0.9, day=20, judgements="b")
    with database.translated(), measured.connect() as connection:
        generation = connection.scalar(sa.text("SELECT id FROM semantic.generation"))
        found = history.newest(connection, generation, most=3)
    assert [(one.variant, one.measures["nDCG@10"], one.judgements) for one in found] == [
        ("now", 0.9, 2),
        ("abandoned", 0.1, 1),
        ('bo"th', 0.7, 1),
    ]
