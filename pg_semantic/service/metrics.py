"""Metrics for Prometheus: requests, batches, waiting texts, and how up to date and relevant semantic indexes are."""

import functools
import logging
import threading
import time
from collections import Counter as Counted
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pg_semantic import database, errors, registry
from pg_semantic.evaluation import history
from pg_semantic.evaluation.history import LatestFigures
from pg_semantic.operations import status
from pg_semantic.operations.status import IndexStatus
from pg_semantic.service import error_responses
from pg_semantic.service.shared_encoder import SharedEncoder
from pg_semantic.worker import metrics_endpoint
from pg_semantic.worker.metrics_endpoint import Figures

router = APIRouter(tags=["health"])
log = logging.getLogger("pg_semantic.service")

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384)
_NOT_FOUND = "none"  # one label for all unknown paths: a client can invent any number of them
_CLIENT_LEFT = 499
_INDEX = ("index", "generation")


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        histogram = functools.partial(Histogram, registry=self.registry, namespace="pg_semantic")
        self.requests = Counter(
            "requests", "Requests answered.", ["path", "status"], namespace="pg_semantic", registry=self.registry
        )
        self.seconds = histogram("request_seconds", "Time to answer.", ["path"], buckets=_SECONDS)
        self.batch_texts = histogram("batch_texts", "Texts per batch.", ["encoder"], buckets=_TEXTS)
        self.batch_tokens = histogram("batch_tokens", "Tokens per batch.", ["encoder"], buckets=_TOKENS)

    def batch(self, encoder: str, texts: int, tokens: int) -> None:
        """Records a batch that an encoder receives."""
        self.batch_texts.labels(encoder).observe(texts)
        self.batch_tokens.labels(encoder).observe(tokens)

    def watch_queues(self, encoders: Callable[[], list[SharedEncoder]]) -> None:
        """Adds the number of waiting texts, counted at each scrape."""
        self.registry.register(_Queues(encoders))

    def watch_database(self, engine: sa.Engine, *, seconds: float) -> None:
        """Adds the status of the semantic indexes, read from the database at a scrape.

        Args:
            seconds: How long a status is reused before the database is queried again.
        """
        self.registry.register(_Truth(engine, seconds=seconds))


class Meter:
    """Middleware that counts and times requests, and logs unexpected exceptions.

    The log has an exception's type and place, but not its message, which may quote a text.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and records its status and time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status_sent = _CLIENT_LEFT
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status_sent
            if message["type"] == "http.response.start":
                status_sent = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the message of any exception may quote a text
            _log(error)
            if status_sent == _CLIENT_LEFT:
                await error_responses.answer(500, "Internal error: see the service's log.", "failed")(
                    scope, receive, watched
                )
        finally:
            path = _path(scope)
            self._metrics.requests.labels(path, str(status_sent)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Returns metrics for Prometheus."""
    found: Metrics = request.app.state.context.metrics
    return Response(await run_in_threadpool(generate_latest, found.registry), media_type=CONTENT_TYPE_LATEST)


class _Queues(Collector):
    def __init__(self, encoders: Callable[[], list[SharedEncoder]]) -> None:
        self._encoders = encoders

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("pg_semantic_queue_texts", "Texts waiting for an encoder.", labels=["encoder"])
        waiting = Counted[str]()  # encoders of different dimensions can share a reference
        for encoder in self._encoders():
            waiting[encoder.reference] += encoder.waiting
        for reference, texts in waiting.items():
            depth.add_metric([reference], texts)
        yield depth


@dataclass(frozen=True, slots=True)
class _Readings:
    """What was read from the database, with the qualified name of each index."""

    status: Sequence[tuple[str, IndexStatus]]
    relevance: Sequence[tuple[str, LatestFigures]]
    tokens_today: int | None


class _Truth(Collector):
    """How up to date and how relevant the semantic indexes are, from the database; cached for some seconds."""

    def __init__(self, engine: sa.Engine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: _Readings | None = None
        self._until = 0.0

    def describe(self) -> list[Metric]:
        """Returns nothing, so that registering doesn't query the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._known = self._read()
                self._until = time.monotonic() + self._seconds
            known = self._known
        yield GaugeMetricFamily("pg_semantic_database_up", "1 if the database answers.", value=float(known is not None))
        found = [((name, index.generation), index) for name, index in (known.status if known else ())]
        built = [(place, index.built) for place, index in found if index.built is not None]
        gauges = functools.partial(metrics_endpoint.families, GaugeMetricFamily, prefix="pg_semantic_", labels=_INDEX)
        yield from gauges(_FIGURES, found)
        yield from gauges(metrics_endpoint.OF_VECTOR_INDEX, built)
        yield GaugeMetricFamily(
            "pg_semantic_tokens_today",
            "Tokens that workers have sent to remote encoders since 00:00 UTC.",
            value=known.tokens_today if known else None,
        )
        yield from _relevance(known.relevance if known else ())

    def _read(self) -> _Readings | None:
        """Returns indexes with their qualified names, since indexes in different schemas can have the same name."""
        try:
            with database.translated(), self._engine.connect() as connection:
                found = status.read(connection)
                evaluated = history.latest(connection)
                names = {one.id: one.qualified_name for one in registry.generations(connection)}
                return _Readings(
                    [(names[one.generation_id], one) for one in found.indexes if one.generation_id in names],
                    [(names[one.generation_id], one) for one in evaluated if one.generation_id in names],
                    found.tokens_today,
                )
        except errors.PgSemanticError as error:
            log.warning("no metrics for the semantic indexes: %s", error, extra={"event": "database_away"})
            return None


def _relevance(found: Sequence[tuple[str, LatestFigures]]) -> Iterator[Metric]:
    """Yields the latest figures of evaluations, and how old they are."""
    measured = GaugeMetricFamily(
        "pg_semantic_relevance",
        "Mean of a measure of relevance, in the latest evaluation of a variant.",
        labels=("index", "variant", "measure"),
    )
    age = GaugeMetricFamily(
        "pg_semantic_evaluation_age_seconds", "Time since a variant was evaluated.", labels=("index", "variant")
    )
    for index, one in found:
        age.add_metric([index, one.variant], one.seconds)
        for measure, value in one.measures.items():
            measured.add_metric([index, one.variant, measure], value)
    yield measured
    yield age


_FIGURES: Figures[IndexStatus] = (
    ("jobs_pending", "Changed rows waiting for a worker.", lambda index: index.pending),
    ("backfill_rows_left", "Rows that the first backfill has not reached yet.", lambda index: index.backfill_left),
    ("jobs_processing", "Changed rows that a worker is processing.", lambda index: index.processing),
    ("jobs_failed", "Rows that failed too often and aren't retried.", lambda index: index.failed),
    ("lag_seconds", "Age of the oldest waiting change.", lambda index: index.oldest_seconds or 0.0),
    ("coverage_ratio", "Share of rows that are synced; an estimate for large tables.", lambda index: index.coverage),
    ("recall_ratio", "Share of the nearest chunks that the vector index finds.", lambda index: index.recall.recall),
    ("recall_low_ratio", "Lower end of the 95% interval of the recall.", lambda index: index.recall.low),
    ("recall_high_ratio", "Upper end of the 95% interval of the recall.", lambda index: index.recall.high),
    ("recall_objective_ratio", "The declared recall objective.", lambda index: index.recall.objective),
    ("ef_search", "Candidates that scans keep in searches for few rows.", lambda index: index.recall.ef_search),
)


def _path(scope: Scope) -> str:
    route = scope.get("route")
    return route.path if isinstance(route, Route) else _NOT_FOUND


def _log(error: Exception) -> None:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"
    log.error("a request failed: %s at %s", type(error).__name__, place, extra={"event": "request_failed"})
