"""``pg-semantic backfill --engine ray``: real actors on a cluster of this machine."""

import importlib.util
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests import ray_cluster
from tests.db import test_cli as shell
from tests.db.library import CLEAN, execute, rows, truth
from tests.db.test_backfill_command import PATIENCE_SECONDS, backfill
from tests.db.test_devices import insert
from tests.ray_cluster import Cluster
from tests.waiting import eventually

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too
pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")

RAY = ("--engine", "ray", "--workers", "2", "--json", "--verbose")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster.running(cpus=2) as made:
        yield made


def with_a_password(articles: sa.Engine) -> str:
    """A DSN with a password that no file of Ray's may contain. The server asks for none."""
    return articles.url.set(password="not-for-logs").render_as_string(hide_password=False)  # noqa: S106


def test_an_actor_that_was_killed_is_replaced_and_nothing_is_lost(articles: sa.Engine, cluster: Cluster) -> None:
    insert(articles, 1, 12_000)
    dsn = with_a_password(articles)
    settings = {"PG_SEMANTIC_BATCH_ROWS": "100", "PG_SEMANTIC_LEASE_SECONDS": "2"}
    with backfill(dsn, *RAY, **settings, **cluster.environment) as process:
        first = eventually(lambda: both(articles), "both actors to sign in", unless=lambda: process.poll() is not None)
        assert first
        next(one for one in cluster.actors() if one.pid in first).kill()
        execute(articles, "UPDATE article SET title = title || ' changed' WHERE id % 100 = 0")
        eventually(lambda: signed_in(articles) - first, "another actor", unless=lambda: process.poll() is not None)
        said, log = process.communicate(timeout=2 * PATIENCE_SECONDS)
    assert process.returncode == 0, log
    assert json.loads(said)["workers"] == 2
    assert truth(articles) == CLEAN
    assert shell.run("verify", dsn=dsn).returncode == 0
    assert "not-for-logs" not in said + log
    assert leaking(Path(cluster.folder), b"not-for-logs") == []
    assert eventually(lambda: not cluster.actors(), "the last actor to end")


def signed_in(engine: sa.Engine) -> frozenset[int]:
    """The processes of all workers that signed in and did not sign out."""
    return frozenset(pid for (pid,) in rows(engine, "SELECT pid FROM semantic.worker"))


def both(engine: sa.Engine) -> frozenset[int] | None:
    found = signed_in(engine)
    return found if len(found) == 2 else None


def leaking(folder: Path, secret: bytes) -> list[Path]:
    """The files with a secret."""
    return [file for file in folder.rglob("*") if file.is_file() and secret in file.read_bytes()]


def test_a_signal_lets_actors_finish_and_a_second_one_ends_them_at_once(articles: sa.Engine, cluster: Cluster) -> None:
    insert(articles, 1, 12_000)
    dsn = with_a_password(articles)
    with backfill(dsn, *RAY, PG_SEMANTIC_BATCH_ROWS="50", **cluster.environment) as process:
        eventually(lambda: both(articles), "both actors to sign in", unless=lambda: process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        said, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, log
    assert json.loads(said)["interrupted"]
    assert rows(articles, "SELECT count(*) FROM semantic.job WHERE state = 'processing'") == [(0,)]


def test_a_cluster_that_does_not_answer_is_said_with_what_to_pass(articles: sa.Engine, dsn: str) -> None:
    insert(articles, 1, 1)
    done = shell.run("backfill", "article_semantic", "--engine", "ray", dsn=dsn, RAY_AUTH_MODE="disabled")
    assert done.returncode == 1
    assert "--address" in done.stderr.splitlines()[-1]


def test_a_wrong_token_is_said_with_what_to_pass(articles: sa.Engine, cluster: Cluster, dsn: str) -> None:
    insert(articles, 1, 1)
    environment = cluster.environment | {"RAY_AUTH_TOKEN": "0" * 64}
    done = shell.run("backfill", "article_semantic", "--engine", "ray", dsn=dsn, **environment)
    assert done.returncode == 1
    assert "RAY_AUTH_TOKEN" in done.stderr.splitlines()[-1]
    assert sys.executable not in done.stderr.splitlines()[-1]


def test_a_runtime_environment_that_ray_refuses_is_said(articles: sa.Engine, cluster: Cluster, dsn: str) -> None:
    insert(articles, 1, 1)
    given = ("backfill", "article_semantic", "--engine", "ray", "--runtime-env", '{"working_dir": "/no/such/folder"}')
    done = shell.run(*given, dsn=dsn, **cluster.environment)
    assert done.returncode == 1
    assert "Ray refuses the address or the environment: " in done.stderr.splitlines()[-1]
