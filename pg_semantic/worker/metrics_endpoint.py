"""Metrics of one worker for Prometheus: what it knows itself. Those about the database come from the service.

prometheus_client is imported when it is needed: it is an optional dependency.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pg_semantic import errors
from pg_semantic.worker.batch_log import IndexCounts, WorkerActivity

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

log = logging.getLogger("pg_semantic.worker")

_BY_INDEX: tuple[tuple[str, str, Callable[[IndexCounts], int]], ...] = (
    ("batches", "Batches written, in full or in part.", lambda counts: counts.batches),
    ("rows_synced", "Rows synced.", lambda counts: counts.rows),
    ("chunks_encoded", "Chunks encoded; equal ones of a batch count once.", lambda counts: counts.chunks_encoded),
    ("rows_failed", "Failures of rows; each attempt counts.", lambda counts: counts.rows_failed),
    (
        "rows_returned",
        "Claimed rows left unfinished: they changed, were locked or lost their lease, or the encoder was away.",
        lambda counts: counts.rows_returned,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[WorkerActivity], int]], ...] = (
    ("jobs_claimed", "Jobs claimed.", lambda activity: activity.jobs_claimed),
    (
        "jobs_reaped",
        "Jobs that this worker put back into the queue, because the lease of the worker that held them ended.",
        lambda activity: activity.jobs_reaped,
    ),
)
_GAUGES: tuple[tuple[str, str, Callable[[WorkerActivity], float | None]], ...] = (
    ("jobs_held", "Jobs in the claims in progress, counted when they were claimed.", lambda now: now.jobs_held),
    ("generations_served", "Generations that this worker keeps in sync.", lambda now: now.served),
    ("generations_refused", "Generations that this worker cannot keep in sync for now.", lambda now: now.refused),
    (
        "heartbeat_timestamp_seconds",
        "When the last heartbeat reached the database, in seconds since 1970.",
        lambda now: now.heartbeat_at,
    ),
)


class WorkerCollector:
    """Collects the metrics of one worker at each scrape.

    Args:
        activity: Returns what the worker has done. Called at each scrape, on another thread.
    """

    def __init__(self, activity: Callable[[], WorkerActivity]) -> None:
        self._activity = activity

    def collect(self) -> "Iterator[Metric]":
        """Yields each metric with its values."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = self._activity()
        for name, meaning, of_index in _BY_INDEX:
            by_index = CounterMetricFamily(f"pg_semantic_worker_{name}", meaning, labels=["index"])
            for index, counts in sorted(now.by_index.items()):
                by_index.add_metric([index], of_index(counts))
            yield by_index
        for name, meaning, of_worker in _COUNTERS:
            yield CounterMetricFamily(f"pg_semantic_worker_{name}", meaning, value=of_worker(now))
        seconds = CounterMetricFamily(
            "pg_semantic_worker_stage_seconds",
            "Time that a stage (read, encode, write) was busy; stages overlap.",
            labels=["stage"],
        )
        for stage, busy in now.stage_seconds.items():
            seconds.add_metric([stage], busy)
        yield seconds
        for name, meaning, value in _GAUGES:
            yield GaugeMetricFamily(f"pg_semantic_worker_{name}", meaning, value=value(now))


def registry(activity: Callable[[], WorkerActivity]) -> "CollectorRegistry":
    """Returns a registry with the metrics of a worker and, on Linux, of its process (CPU time, memory, open files).

    Raises:
        errors.MissingExtra: prometheus_client isn't installed.
    """
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector
    except ImportError as error:
        raise errors.MissingExtra(
            "Metrics of a worker need prometheus_client: pip install 'pg-semantic-index[serve]'."
        ) from error
    found = CollectorRegistry()
    found.register(WorkerCollector(activity))
    ProcessCollector(registry=found)
    return found


def serve(activity: Callable[[], WorkerActivity], *, host: str, port: int) -> None:
    """Serves metrics over HTTP, on a thread that ends with the process. Needs no key: only numbers and index names.

    Args:
        activity: Returns what the worker has done.
        host: The address to listen on.
        port: The port to listen on.

    Raises:
        errors.ConfigurationError: The address or the port cannot be listened on.
        errors.MissingExtra: prometheus_client isn't installed.
    """
    metrics = registry(activity)
    from prometheus_client import start_http_server

    try:
        start_http_server(port, host, metrics)
    except OSError as error:
        raise errors.ConfigurationError(
            f"Cannot serve metrics on {host}, port {port}: {error.strerror or error}. Pass another --metrics-port or "
            "--metrics-host."
        ) from error
    log.info("serving metrics on %s, port %d", host, port, extra={"event": "serving_metrics", "port": port})
