"""What a worker says about itself to Prometheus."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from pg_semantic import errors
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.settings import Settings
from pg_semantic.worker import metrics_endpoint
from pg_semantic.worker.worker import Worker
from tests.db import test_cli as shell
from tests.db import test_devices as several
from tests.db.library import CLEAN, execute, fold, truth
from tests.waiting import eventually

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too
INDEX = {"index": "public.article_semantic"}
PREFIX = "pg_semantic_worker_"


class BrokenEncoder(HashedEncoder):
    """The encoder of the articles, which fails on some."""

    def __init__(self) -> None:
        super().__init__(32)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if any("broken" in text for text in texts):
            raise ValueError("broken")
        return super().encode_documents(texts)


def insert(engine: sa.Engine, *titles: str) -> None:
    for number, title in enumerate(titles):
        execute(engine, "INSERT INTO article (id, title, lang) VALUES (:id, :title, 'en')", id=number, title=title)


def value(metrics: CollectorRegistry, name: str, **labels: str) -> float | None:
    return metrics.get_sample_value(PREFIX + name, labels)


def run_once(engine: sa.Engine) -> CollectorRegistry:
    """A worker runs until nothing waits; its metrics."""
    worker = Worker(engine, Settings(max_attempts=1), load=lambda *_, **__: BrokenEncoder())
    metrics = metrics_endpoint.registry(lambda: worker.activity)
    worker.run(threading.Event(), once=True)
    return metrics


def two_free_ports() -> int:
    """The first of two adjacent ports that no one listens on."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            second = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def scraped(port: int) -> dict[str, float] | None:
    """The values at a port, by name and without labels, or None before anyone listens there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
    except urllib.error.URLError:
        return None
    return {sample.name: sample.value for one in text_string_to_metric_families(text) for sample in one.samples}


@contextlib.contextmanager
def process(dsn: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker, or several under a supervisor, that ends with the block."""
    command = [sys.executable, "-m", "pg_semantic.cli", "worker", *arguments]
    with subprocess.Popen(command, env=os.environ | {"PG_SEMANTIC_DSN": dsn}, stdout=subprocess.DEVNULL) as found:
        try:
            yield found
            found.send_signal(signal.SIGTERM)
            assert found.wait(60) == 0
        finally:
            found.kill()
            several.end_workers(dsn)


def test_a_worker_counts_what_it_does_for_each_index(articles: sa.Engine) -> None:
    insert(articles, "one", "two", "broken", "one")
    metrics = run_once(articles)
    assert value(metrics, "rows_synced_total", **INDEX) == 3
    assert value(metrics, "chunks_encoded_total", **INDEX) == 2  # two rows have the same text
    assert value(metrics, "rows_failed_total", **INDEX) == 1
    assert (value(metrics, "batches_total", **INDEX) or 0) >= 1
    assert (value(metrics, "jobs_claimed_total") or 0) >= 4
    assert value(metrics, "jobs_held") == 0
    assert value(metrics, "generations_served") == 1
    assert value(metrics, "generations_refused") == 0


def test_a_worker_measures_how_long_its_stages_are_busy(articles: sa.Engine) -> None:
    insert(articles, "one", "two")
    began = time.monotonic()
    metrics = run_once(articles)
    for stage in ("read", "encode", "write"):
        assert 0 < (value(metrics, "stage_seconds_total", stage=stage) or 0) < time.monotonic() - began


def test_rows_that_change_while_they_are_encoded_are_counted_as_returned(articles: sa.Engine) -> None:
    insert(articles, "one", "two")

    class EditsMeanwhile(HashedEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Vectors:
            if "two" in texts:
                execute(articles, "UPDATE article SET title = 'three' WHERE title = 'two'")
                fold(articles)
            return super().encode_documents(texts)

    worker = Worker(articles, Settings(), load=lambda *_, **__: EditsMeanwhile(32))
    metrics = metrics_endpoint.registry(lambda: worker.activity)
    worker.run(threading.Event(), once=True)
    assert value(metrics, "rows_returned_total", **INDEX) == 1
    assert value(metrics, "rows_synced_total", **INDEX) == 2
    assert truth(articles) == CLEAN


def test_jobs_of_a_worker_that_was_lost_are_counted_by_the_one_that_frees_them(articles: sa.Engine) -> None:
    run_once(articles)
    execute(
        articles,
        """
        INSERT INTO semantic.job (generation_id, key, state, claim, lease_until)
        SELECT generation.id, i, 'processing', gen_random_uuid(), now() - interval '1 second'
        FROM semantic.generation CROSS JOIN generate_series(1, 3) AS i
        """,
    )
    assert value(run_once(articles), "jobs_reaped_total") == 3


def test_a_worker_says_how_much_has_changed_since_it_built_a_vector_index(articles: sa.Engine) -> None:
    insert(articles, *(f"title {number}" for number in range(20)))
    live = INDEX | {"generation": "live"}
    worker, stop = Worker(articles, Settings(lease_seconds=1), load=lambda *_, **__: BrokenEncoder()), threading.Event()
    metrics = metrics_endpoint.registry(lambda: worker.activity)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: value(metrics, "vector_index_bytes", **live), "an index")
        assert 0 <= (value(metrics, "vector_index_age_seconds", **live) or 0) < 600
        before = value(metrics, "vector_index_drift_ratio", **live) or 0
        execute(articles, "UPDATE article SET title = 'new ' || id")
        eventually(lambda: worker.progress.rows >= 40, "the edits")
        eventually(
            lambda: (value(metrics, "vector_index_drift_ratio", **live) or 0) >= before + 0.9,
            "the drift, which sessions report after a while",
        )
    finally:
        stop.set()
        thread.join()


def test_metrics_are_served_with_those_of_the_process(articles: sa.Engine, dsn: str) -> None:
    port = two_free_ports()
    insert(articles, "one")
    with process(dsn, "--metrics-port", str(port)) as worker:
        synced = f"{PREFIX}rows_synced_total"
        found = eventually(
            lambda: (seen := scraped(port)) and seen.get(synced) == 1 and seen,
            "a row to be counted",
            unless=lambda: worker.poll() is not None,
        )
        assert found
        assert abs(found[f"{PREFIX}heartbeat_timestamp_seconds"] - time.time()) < 60
        assert found["process_resident_memory_bytes"] > 1e7


def test_each_process_of_a_supervisor_has_a_port_of_its_own(articles: sa.Engine, dsn: str) -> None:
    port = two_free_ports()
    with process(dsn, "--devices", "cpu,cpu", "--metrics-port", str(port)) as workers:
        for look in (functools.partial(scraped, port), functools.partial(scraped, port + 1)):
            assert eventually(look, "metrics of each worker", unless=lambda: workers.poll() is not None)


def test_a_port_that_is_taken_is_named_with_what_to_do(dsn: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = shell.run("worker", "--once", "--metrics-port", str(port), dsn=dsn)
    assert done.returncode == 1
    assert f"Cannot serve metrics on 127.0.0.1, port {port}: Address already in use." in done.stderr
    assert "Pass another --metrics-port" in done.stderr


def test_more_processes_than_ports_are_refused(dsn: str) -> None:
    done = shell.run("worker", "--devices", "cpu,cpu", "--metrics-port", "65535", dsn=dsn)
    assert done.returncode == 2
    assert "2 processes need the ports 65535 to 65536" in " ".join(done.stderr.replace("│", " ").split())


def test_without_the_client_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(errors.MissingExtra, match=r"pip install 'pg-semantic-index\[serve\]'"):
        metrics_endpoint.serve(lambda: pytest.fail("nothing is scraped"), host="127.0.0.1", port=1)
