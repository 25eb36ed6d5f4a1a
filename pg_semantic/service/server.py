"""The service's process: what it loads before it listens, and how it stops."""

import gc
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import uvicorn

from pg_semantic import database, encoders, registry
from pg_semantic.encoders import Encoder
from pg_semantic.service import app, auth
from pg_semantic.service.dependencies import ServiceContext
from pg_semantic.service.loaded_models import LoadedModels
from pg_semantic.service.metrics import Metrics
from pg_semantic.service.searchers import IndexSearchers
from pg_semantic.settings import Settings

log = logging.getLogger("pg_semantic.service")

_BACKLOG = 1024  # connections waiting to be accepted


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What to serve in addition to the encoders of the database's semantic indexes, and the address to listen on."""

    encoders: Sequence[str] = ()
    rerankers: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = 8080


def prepare(
    settings: Settings, serving: ServeOptions, *, load: Callable[..., Encoder] = encoders.load, engine: sa.Engine | None
) -> ServiceContext:
    """Loads every encoder and reranker.

    Args:
        engine: None for a service without a database.

    Raises:
        errors.EncoderError: As `encoders.load`.
        errors.NotInstalled: The database lacks pgvector or the schema ``semantic``, or has one that is too old.
    """
    metrics = Metrics()
    models = LoadedModels(settings, seen=metrics.batch, load=load)
    metrics.watch_queues(lambda: models.encoders)
    for reference in serving.encoders:
        models.add(reference)
    models.add_rerankers(serving.rerankers)
    if engine is None:
        return ServiceContext(settings, models, metrics, None)
    with database.translated(), engine.connect() as connection:
        database.require_installed(connection)
        for generation in registry.generations(connection):
            if generation.role == "live":
                models.of(generation.spec.encoder)
    metrics.watch_database(engine, seconds=settings.service_status_seconds)
    indexes = IndexSearchers(engine, models, statement_seconds=settings.service_statement_seconds)
    return ServiceContext(settings, models, metrics, indexes)


def run(settings: Settings, serving: ServeOptions, *, engine: sa.Engine | None) -> None:
    """Serves until SIGTERM or SIGINT, then finishes open requests for up to ``drain_seconds`` and returns.

    Raises:
        errors.ConfigurationError: The host isn't a loopback address, and no key is set.
    """
    auth.require_key_beyond_loopback(serving.host, settings)
    context = prepare(settings, serving, engine=engine)
    gc.freeze()  # loaded objects stay: scanning them for garbage would pause the service for a third of a second
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _done)
    config = uvicorn.Config(
        app.build(context),
        host=serving.host,
        port=serving.port,
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for host, port, *_ in (bound.getsockname() for one in self.servers for bound in one.sockets):
            name = f"[{host}]" if ":" in host else host
            log.info("serving on http://%s:%d", name, port, extra={"event": "serving", "port": port})


def _done(*_: object) -> None:
    """Ignores a signal: uvicorn has handled it, and raises it again when it stops."""
