"""Metrics of one worker for Prometheus: what it knows itself. Most of those about the database come from the service.

prometheus_client is imported when it is needed: it is an optional dependency.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from pg_semantic import errors
from pg_semantic.worker.batch_log import IndexCounts, WorkerActivity

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

log = logging.getLogger("pg_semantic.worker")

_T = TypeVar("_T")
Figures: TypeAlias = tuple[tuple[str, str, Callable[[_T], float | None]], ...]
"""Metrics of one thing: the name of each without its prefix, its meaning, and how to get its value, None if unknown."""


class _Built(Protocol):
    """A vector index that exists. Sizes are in bytes."""

    @property
    def drift(self) -> float | None: ...
    @property
    def age_seconds(self) -> float | None: ...
    @property
    def bytes(self) -> int | None: ...


OF_VECTOR_INDEX: Figures[_Built] = (
    (
        "vector_index_drift_ratio",
        "Chunks written or deleted since the vector index was built, divided by its chunks then.",
        lambda built: built.drift,
    ),
    ("vector_index_age_seconds", "Time since the vector index was built.", lambda built: built.age_seconds),
    ("vector_index_bytes", "Size of the vector index.", lambda built: built.bytes),
)
_BY_INDEX: Figures[IndexCounts] = (
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
_COUNTERS: Figures[WorkerActivity] = (
    ("jobs_claimed", "Jobs claimed.", lambda activity: activity.jobs_claimed),
    (
        "jobs_reaped",
        "Jobs that this worker put back into the queue, because the lease of the worker that held them ended.",
        lambda activity: activity.jobs_reaped,
    ),
    (
        "tokens_billed",
        "Tokens sent to remote encoders, without attempts that the server refused.",
        lambda activity: activity.tokens_billed,
    ),
)
_GAUGES: Figures[WorkerActivity] = (
    ("jobs_held", "Jobs in the claims in progress, counted when they were claimed.", lambda now: now.jobs_held),
    ("generations_served", "Generations that this worker keeps in sync.", lambda now: now.served),
    ("generations_refused", "Generations that this worker cannot keep in sync for now.", lambda now: now.refused),
    (
        "backfill_paused",
        "1 while this worker pauses backfill, of some indexes at least, because of a limit.",
        lambda now: float(now.is_paused),
    ),
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

        now, prefix = self._activity(), "pg_semantic_worker_"
        counts = [((index,), one) for index, one in sorted(now.by_index.items())]
        yield from families(CounterMetricFamily, _BY_INDEX, counts, prefix=prefix, labels=("index",))
        yield from families(CounterMetricFamily, _COUNTERS, [((), now)], prefix=prefix)
        seconds = CounterMetricFamily(
            f"{prefix}stage_seconds",
            "Time that a stage (read, encode, write) was busy; stages overlap.",
            labels=["stage"],
        )
        for stage, busy in now.stage_seconds.items():
            seconds.add_metric([stage], busy)
        yield seconds
        yield from families(GaugeMetricFamily, _GAUGES, [((), now)], prefix=prefix)
        built, labels = now.built.items(), ("index", "generation")
        yield from families(GaugeMetricFamily, OF_VECTOR_INDEX, built, prefix=prefix, labels=labels)


def families(
    kind: "type[CounterMetricFamily | GaugeMetricFamily]",
    figures: Figures[_T],
    things: Iterable[tuple[Sequence[str], _T]],
    *,
    prefix: str,
    labels: Sequence[str] = (),
) -> "Iterator[Metric]":
    """Yields a family for each figure, with its value for each thing where that is known.

    Args:
        kind: The class of the families.
        figures: What to show.
        things: What has these figures, each with the values of its labels.
        prefix: Put before each name.
        labels: The names of the labels.
    """
    things = list(things)
    for name, meaning, value in figures:
        family = kind(prefix + name, meaning, labels=labels)
        for place, one in things:
            if (found := value(one)) is not None:
                family.add_metric(place, found)
        yield family


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
