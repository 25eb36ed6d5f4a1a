"""Vectors for plain SQL: encodes the texts that SELECTs wait for, on a thread of the worker next to its pipeline.

NOTIFY announces a request. A transaction holds it while it is encoded, so another worker takes it if this one dies. The
answer is a row in the cache, and is written together with the deletion of the request. Because a session is waiting,
everything happens on the listening connection, in two round trips: one before the encoder and one after.
"""

import contextlib
import functools
import itertools
import logging
import operator
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import psycopg as psycopg_dialect

from pg_semantic import database, errors, sql
from pg_semantic.encoders import Encoder, Vectors
from pg_semantic.index import distances
from pg_semantic.settings import Settings
from pg_semantic.worker.served_indexes import ServedIndexes

log = logging.getLogger("pg_semantic.worker")

_TOGETHER = 32
_LOOK_SECONDS = 0.5  # between polls for requests without a notice, as behind a pooler
_AGAIN_SECONDS = 2.0  # after the database refused
_BEYOND = 0.05  # share of the cache by which it may exceed its size until a quiet moment
_DIALECT = psycopg_dialect.dialect()  # type: ignore[no-untyped-call]

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_Answer: TypeAlias = tuple[sa.TextClause, dict[str, object]]  # a statement and its parameters


class _Request(NamedTuple):
    id: int
    encoder_id: int
    text: str


class QueryResponder:
    """Answers requests with the encoders that a worker has loaded for its generations."""

    def __init__(self, engine: sa.Engine, settings: Settings, *, served: ServedIndexes) -> None:
        self._engine = engine
        self._kept = settings.query_cache
        self._served = served
        self._made = 0
        self._said = ""  # the last error that was logged

    def run(self, done: threading.Event) -> None:
        """Answers requests until ``done`` is set, which it notices within half a second. Reconnects on failure."""
        while not done.is_set():
            try:
                self._listen(done)
            except (exc.DBAPIError, psycopg.Error) as error:
                now = type(error.orig if isinstance(error, exc.DBAPIError) else error).__name__
                if now != self._said:
                    log.warning("plain SQL queries are not being answered: %s", now, extra={"event": "queries_refused"})
                self._said = now
                done.wait(_AGAIN_SECONDS)

    def _listen(self, done: threading.Event) -> None:
        lent = self._engine.raw_connection()
        connection = lent.driver_connection
        lent.detach()  # nothing else may use it after this
        assert isinstance(connection, psycopg.Connection)  # noqa: S101 - workers use psycopg
        with contextlib.closing(connection):
            connection.autocommit = True  # taking requests begins the transaction that answers them
            connection.execute(_written(sql.statement("query_requests", "listen")))
            while not done.is_set():
                while self._answer_some(connection) == _TOGETHER and not done.is_set():
                    pass
                self._said = ""
                is_quiet = not list(connection.notifies(timeout=_LOOK_SECONDS, stop_after=1))
                if is_quiet or self._made > self._kept * _BEYOND:
                    self._forget()

    def _answer_some(self, connection: Connection) -> int:
        """Answers some requests and returns how many. Notices of later requests are received afterwards."""
        encoders = self._encoders()
        if not encoders:
            return 0
        cursor = psycopg.ClientCursor(connection)  # sends several statements in one round trip
        cursor.execute(
            _written(sql.statement("query_requests", "take")), {"encoders": list(encoders), "most": _TOGETHER}
        )
        while cursor.nextset():
            pass
        taken = [_Request(*row) for row in cursor]
        by_encoder = operator.attrgetter("encoder_id")
        filled = [
            cursor.mogrify(_written(statement), binds)
            for encoder_id, asked in itertools.groupby(sorted(taken, key=by_encoder), by_encoder)
            for statement, binds in self._statements(connection, encoders[encoder_id], list(asked))
        ]
        cursor.execute(";\n".join([*filled, "COMMIT"]).encode(connection.info.encoding))
        return len(taken)

    def _encoders(self) -> dict[int, Encoder]:
        """Returns the encoders of the served generations, by their id in the database."""
        return {one.generation.spec.encoder.id: one.encoder for one in self._served.served.values()}

    def _statements(self, connection: Connection, encoder: Encoder, asked: Sequence[_Request]) -> list[_Answer]:
        """Returns the statements that answer requests. Encodes them together, or one by one if that fails."""
        try:
            vectors = _vectors(encoder, [request.text for request in asked])
        except (errors.EncoderUnavailable, errors.EncoderMismatch) as error:  # no text is to blame
            return [_failure(connection, request, error) for request in asked]
        except Exception as error:  # noqa: BLE001 - whatever an encoder raises, the caller gets it
            if len(asked) > 1:
                return [answer for request in asked for answer in self._statements(connection, encoder, [request])]
            return [_failure(connection, asked[0], error)]
        self._made += len(asked)
        binds: dict[str, object] = {
            "ids": [request.id for request in asked],
            "vectors": distances.vector_literal(vectors.ravel().tolist(), "{}"),
        }
        return [(sql.statement("query_requests", "answer"), binds)]

    def _forget(self) -> None:
        """Trims the cache to its maximum size."""
        if self._made:
            with self._engine.begin() as connection:
                connection.execute(sql.statement("query_requests", "forget"), {"kept": self._kept})
            self._made = 0


def _failure(connection: Connection, request: _Request, error: Exception) -> _Answer:
    """Returns the statement that tells the caller. The encoder's message isn't logged, as it may quote the text."""
    kind = type(error).__name__
    said = str(error) if isinstance(error, errors.PgSemanticError) else f"{kind}: {error}"
    log.warning("a query could not be encoded: %s", kind, extra={"event": "query_failed", "error": kind})
    return sql.statement("query_requests", "failed"), {"id": request.id, "error": database.storable(said, connection)}


@functools.cache
def _written(statement: sa.TextClause) -> bytes:
    """Returns a statement in the form that the driver takes."""
    return str(statement.compile(dialect=_DIALECT)).encode()


def _vectors(encoder: Encoder, texts: list[str]) -> Vectors:
    """Returns comparable vectors, one per text, or raises `errors.EncoderError`."""
    vectors = encoder.encode_queries(texts)
    if len(vectors) != len(texts):
        raise errors.EncoderError(f"The encoder returned {len(vectors)} vectors for {len(texts)} texts.")
    if vectors.shape[1] != encoder.dimensions:
        raise errors.EncoderError(f"The encoder returned {vectors.shape[1]} dimensions, not {encoder.dimensions}.")
    if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
        raise errors.EncoderError("The encoder returned a vector that is all zeros, or has NaN or infinity.")
    return vectors
