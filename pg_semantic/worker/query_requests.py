"""Vectors for plain SQL: encodes the texts that SELECTs wait for, on a thread of the worker beside its pipeline.

A request is announced by NOTIFY. It is held in a transaction while it is encoded, so that another worker takes it when
this one dies; the answer is a row of the cache, and the request is deleted with it. Somebody waits meanwhile: so it is
all done on the connection that listens, in two trips to the server, one before the encoder and one after.
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
_LOOK_SECONDS = 0.5  # between looks for requests that were not heard of, as behind a pooler
_AGAIN_SECONDS = 2.0  # after the database refused
_BEYOND = 0.05  # of the cache: so much more than it may have is forgotten at a quiet moment only
_DIALECT = psycopg_dialect.dialect()  # type: ignore[no-untyped-call]

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_Answer: TypeAlias = tuple[sa.TextClause, dict[str, object]]  # a statement and its parameters


class _Request(NamedTuple):
    id: int
    encoder_id: int
    text: str


class QueryResponder:
    """Answers requests with the encoders that a worker has loaded for its generations."""

    def __init__(self, engine: sa.Engine, settings: Settings, *, roster: ServedIndexes) -> None:
        self._engine = engine
        self._kept = settings.query_cache
        self._roster = roster
        self._made = 0
        self._said = ""  # of the trouble that there is

    def run(self, done: threading.Event) -> None:
        """Answers until ``done`` is set, which is noticed within half a second; comes back when the database does."""
        while not done.is_set():
            try:
                self._listen(done)
            except (exc.DBAPIError, psycopg.Error) as error:
                now = type(error.orig if isinstance(error, exc.DBAPIError) else error).__name__
                if now != self._said:
                    log.warning("queries of plain SQL are not answered: %s", now, extra={"event": "queries_refused"})
                self._said = now
                done.wait(_AGAIN_SECONDS)

    def _listen(self, done: threading.Event) -> None:
        lent = self._engine.raw_connection()
        connection = lent.driver_connection
        lent.detach()  # it is not to be used for anything else after this
        assert isinstance(connection, psycopg.Connection)  # noqa: S101 - the engines of workers are psycopg's
        with contextlib.closing(connection):
            connection.autocommit = True  # the transactions of answers are begun as they are taken
            connection.execute(_written(sql.statement("queries", "listen")))
            while not done.is_set():
                while self._answer_some(connection) == _TOGETHER and not done.is_set():
                    pass
                self._said = ""
                is_quiet = not list(connection.notifies(timeout=_LOOK_SECONDS, stop_after=1))
                if is_quiet or self._made > self._kept * _BEYOND:
                    self._forget()

    def _answer_some(self, connection: Connection) -> int:
        """Answers some requests, and says how many there were; one that comes meanwhile is heard of afterwards."""
        encoders = self._encoders()
        if not encoders:
            return 0
        cursor = psycopg.ClientCursor(connection)  # with it, several statements are one trip
        cursor.execute(_written(sql.statement("queries", "take")), {"encoders": list(encoders), "most": _TOGETHER})
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
        """The encoders of the generations that are served, by their numbers in the database."""
        return {one.generation.spec.encoder.id: one.encoder for one in self._roster.served.values()}

    def _statements(self, connection: Connection, encoder: Encoder, asked: Sequence[_Request]) -> list[_Answer]:
        """The statements that answer requests, together; when that fails, each by itself."""
        try:
            vectors = _vectors(encoder, [request.text for request in asked])
        except (errors.EncoderUnavailable, errors.EncoderMismatch) as error:  # no text is to blame
            return [_failure(connection, request, error) for request in asked]
        except Exception as error:  # noqa: BLE001 - whatever an encoder raises, who asked is told
            if len(asked) > 1:
                return [answer for request in asked for answer in self._statements(connection, encoder, [request])]
            return [_failure(connection, asked[0], error)]
        self._made += len(asked)
        binds: dict[str, object] = {
            "ids": [request.id for request in asked],
            "vectors": distances.vector_literal(vectors.ravel().tolist(), "{}"),
        }
        return [(sql.statement("queries", "answer"), binds)]

    def _forget(self) -> None:
        """Keeps the cache within its size."""
        if self._made:
            with self._engine.begin() as connection:
                connection.execute(sql.statement("queries", "forget"), {"kept": self._kept})
            self._made = 0


def _failure(connection: Connection, request: _Request, error: Exception) -> _Answer:
    """Tells who asked; the log has no message of the encoder's, which may quote the text."""
    kind = type(error).__name__
    said = str(error) if isinstance(error, errors.PgSemanticError) else f"{kind}: {error}"
    log.warning("a query could not be encoded: %s", kind, extra={"event": "query_failed", "error": kind})
    return sql.statement("queries", "failed"), {"id": request.id, "error": database.storable(said, connection)}


@functools.cache
def _written(statement: sa.TextClause) -> bytes:
    """A statement as the driver takes it."""
    return str(statement.compile(dialect=_DIALECT)).encode()


def _vectors(encoder: Encoder, texts: list[str]) -> Vectors:
    """Vectors that can be compared, one a text; raises `errors.EncoderError` for others."""
    vectors = encoder.encode_queries(texts)
    if len(vectors) != len(texts):
        raise errors.EncoderError(f"The encoder returned {len(vectors)} vectors for {len(texts)} texts.")
    if vectors.shape[1] != encoder.dimensions:
        raise errors.EncoderError(f"The encoder returned {vectors.shape[1]} dimensions, and has {encoder.dimensions}.")
    if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
        raise errors.EncoderError("The encoder returned a vector of zeros, NaN or infinity.")
    return vectors
