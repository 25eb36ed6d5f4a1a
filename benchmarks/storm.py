"""A write load with every kind of write, from several connections, which continues when it loses the server.

One table has two semantic indexes: ``whole`` with one chunk per row, and ``chunked`` with several, and another encoder.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks import corpus
from pg_semantic import SemanticIndex
from pg_semantic.index.chunking import Chunking

PAUSE_SECONDS = 0.03  # longest pause of a writer after a write
HOLD_SECONDS = 0.4  # how long a slow transaction stays open
RECONNECT_SECONDS = 0.2


class Base(orm.DeclarativeBase):
    """The table of this benchmark."""


class Note(Base):
    """A row that writers change."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    title: Mapped[str | None]
    body: Mapped[str | None]
    hits: Mapped[int] = mapped_column(server_default="0")

    whole = SemanticIndex("title", encoder="hashed:32", chunking=None)
    chunked = SemanticIndex("title", "body", encoder="hashed:64", chunking=Chunking(max_tokens=24, overlap_tokens=4))


_ANY = "(SELECT id FROM note ORDER BY random() LIMIT 1)"
_INSERT = "INSERT INTO note (title, body) VALUES (%s, %s)"
_EDIT = f"UPDATE note SET title = %s, body = %s WHERE id = {_ANY}"  # noqa: S608 - a constant
_BODY = f"UPDATE note SET body = %s || right(body, 300) WHERE id = {_ANY}"  # noqa: S608
_UNTOUCHED = f"UPDATE note SET hits = hits + 1 WHERE id = {_ANY}"  # noqa: S608
_BLANK = f"UPDATE note SET title = ' ', body = NULL WHERE id = {_ANY}"  # noqa: S608
_DELETE = f"DELETE FROM note WHERE id = {_ANY} RETURNING id"  # noqa: S608
_INSERT_AS = "INSERT INTO note (id, title, body) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s)"
_PICK = f"SELECT id FROM note WHERE id = {_ANY} FOR UPDATE"  # noqa: S608
_REKEY = "UPDATE note SET id = nextval(pg_get_serial_sequence('note', 'id')) WHERE id = %s"
_UPSERT = f"""
    INSERT INTO note (id, title, body) OVERRIDING SYSTEM VALUE
    SELECT id, %s, %s FROM note WHERE id = {_ANY}
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, body = excluded.body
"""  # noqa: S608
_BULK = "UPDATE note SET title = title || '.', body = right(body, 300) || %s WHERE id %% 9 = %s"
_BULK_DELETE = "DELETE FROM note WHERE id %% 31 = %s"


@dataclass(slots=True)
class Writer:
    """A connection that writes until it is stopped, and its results.

    ``edits`` counts committed writes, ``lost`` connections that broke or could not be opened, and ``refused`` the
    server's errors by name.
    """

    dsn: str
    chance: random.Random
    edits: int = 0
    lost: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def run(self, stop: threading.Event) -> None:
        """Writes, and reconnects when the connection is lost."""
        while not stop.is_set():
            try:
                with psycopg.connect(self.dsn, autocommit=True) as connection:
                    self._write_on(connection, stop)
            except psycopg.OperationalError:
                self.lost += 1
                stop.wait(RECONNECT_SECONDS)

    def _write_on(self, connection: psycopg.Connection, stop: threading.Event) -> None:
        writes, weights = zip(*self._writes(stop), strict=True)
        while not stop.wait(self.chance.uniform(0, PAUSE_SECONDS)):
            write: Callable[[psycopg.Connection], None] = self.chance.choices(writes, weights)[0]
            try:
                write(connection)
            except psycopg.Error as error:
                if error.sqlstate is None or connection.broken:
                    raise
                self.refused[type(error).__name__] += 1
            else:
                self.edits += 1

    def _writes(self, stop: threading.Event) -> list[tuple[Callable[[psycopg.Connection], None], int]]:
        """Returns every kind of write with its relative frequency."""

        def slow(connection: psycopg.Connection) -> None:
            with connection.transaction():
                self._edit(connection)
                stop.wait(HOLD_SECONDS)

        return [
            (self._insert, 24),
            (self._copy, 2),
            (self._edit, 24),
            (lambda connection: self._run(connection, _BODY, self._text()), 16),
            (lambda connection: self._run(connection, _UNTOUCHED), 6),
            (lambda connection: self._run(connection, _BLANK), 3),
            (lambda connection: self._run(connection, _UPSERT, self._title(), self._text()), 4),
            (lambda connection: self._run(connection, _DELETE), 16),
            (lambda connection: self._run(connection, _BULK, self._title(), self.chance.randrange(9)), 2),
            (lambda connection: self._run(connection, _BULK_DELETE, self.chance.randrange(31)), 3),
            (self._rekey, 10),
            (self._delete_and_insert, 4),
            (self._roll_back, 3),
            (slow, 1),
            (self._truncate, 1),
        ]

    def _run(self, connection: psycopg.Connection, statement: str, *values: object) -> None:
        connection.execute(statement.encode(), values or None)

    def _insert(self, connection: psycopg.Connection) -> None:
        with connection.transaction():
            for _ in range(self.chance.randint(1, 3)):
                connection.execute(_INSERT, (self._title(), self._text()))

    def _copy(self, connection: psycopg.Connection) -> None:
        with connection.cursor().copy("COPY note (title, body) FROM STDIN") as copy:
            for _ in range(20):
                copy.write_row((self._title(), self._text()))

    def _edit(self, connection: psycopg.Connection) -> None:
        self._run(connection, _EDIT, self._title(), self._text())

    def _rekey(self, connection: psycopg.Connection) -> None:
        """Gives a row a new key. Half of the time, another row gets the old one."""
        with connection.transaction():
            if picked := connection.execute(_PICK.encode()).fetchone():
                connection.execute(_REKEY, picked)
                if self.chance.random() < 0.5:
                    connection.execute(_INSERT_AS, (*picked, self._title(), self._text()))

    def _delete_and_insert(self, connection: psycopg.Connection) -> None:
        with connection.transaction():
            if deleted := connection.execute(_DELETE.encode()).fetchone():
                connection.execute(_INSERT_AS, (*deleted, self._title(), self._text()))

    def _roll_back(self, connection: psycopg.Connection) -> None:
        with connection.transaction(force_rollback=True):
            self._edit(connection)
            self._insert(connection)
            self._rekey(connection)

    def _truncate(self, connection: psycopg.Connection) -> None:
        """Truncates one time in four, so that enough rows remain to write to."""
        if self.chance.random() < 0.25:
            connection.execute("TRUNCATE note CASCADE")
        for _ in range(5):
            self._copy(connection)

    def _title(self) -> str:
        return self.chance.choice(corpus.short_pages()).partition("\n")[0]

    def _text(self) -> str:
        return self.chance.choice(corpus.pages())
