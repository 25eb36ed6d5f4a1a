"""What a backfill on a remote encoder is forecast to take agrees with what a server is then sent."""

import json
import math

import pytest
import sqlalchemy as sa

from pg_semantic.database import transaction
from pg_semantic.operations import backfill_cost
from pg_semantic.operations.backfill_cost import BackfillCost
from pg_semantic.settings import Endpoint
from tests.db import test_cli as shell
from tests.db.library import ENCODER, execute, generation_of, sync

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too

_FILL = "INSERT INTO article SELECT i, repeat('abc ', 25), NULL, 'en' FROM generate_series(1, :count) AS i"
_URL = "http://127.0.0.1:9/v1"  # no request is sent


def estimate(engine: sa.Engine, *, rows: int | None = None, max_tokens: int = 512) -> BackfillCost:
    with transaction.begin(engine) as connection:
        endpoint = Endpoint(url=_URL, max_tokens=max_tokens)
        return backfill_cost.estimate(
            connection, generation_of(engine), endpoint, rows=rows, dollars_per_million_tokens=0.02
        )


@pytest.mark.parametrize("analyzed", [False, True])
def test_requests_tokens_and_dollars_follow_from_a_sample(articles: sa.Engine, *, analyzed: bool) -> None:
    execute(articles, _FILL, count=4000)
    if analyzed:
        execute(articles, "ANALYZE")
    found = estimate(articles)
    assert 0 < found.sampled <= backfill_cost.SAMPLE
    assert (found.rows, found.requests, found.counted_by) == (4000, 125, "characters")
    assert found.tokens == 4000 * 25  # a hundred characters each
    assert found.dollars == pytest.approx(4000 * 25 * 0.02 / 1e6)
    assert estimate(articles, rows=1_000_000).requests == math.ceil(1_000_000 / 32)
    assert estimate(articles, max_tokens=10).requests == 3 * 125


def test_rows_that_are_encoded_cost_nothing(articles: sa.Engine) -> None:
    assert estimate(articles).tokens == 0
    execute(articles, _FILL, count=10)
    sync(articles)
    assert (estimate(articles).rows, estimate(articles).tokens) == (0, 0)
    assert estimate(articles, rows=30).tokens == 20 * 25


def test_the_command_shows_the_cost_of_a_remote_encoder_only(articles: sa.Engine, dsn: str) -> None:
    execute(articles, _FILL, count=100)
    command = ("index", "forecast", "article_semantic", "--price", "0.5")
    assert json.loads(shell.ok(*command, "--json", dsn=dsn))["backfill"] is None
    urls = json.dumps({ENCODER: _URL})
    done = shell.run(*command, dsn=dsn, PG_SEMANTIC_ENCODER_URLS=urls)
    assert done.returncode == 0
    assert "backfill   100 rows, 4 requests, 2500 tokens (four characters each), $0.00" in done.stdout
    found = json.loads(shell.run(*command, "--json", dsn=dsn, PG_SEMANTIC_ENCODER_URLS=urls).stdout)["backfill"]
    assert (found["tokens"], found["dollars"]) == (2500, pytest.approx(0.00125))
