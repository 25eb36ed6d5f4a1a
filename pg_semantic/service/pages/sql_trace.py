"""The SQL statements that a session runs, with their values and times."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, orm

from pg_semantic.search import request


@dataclass(frozen=True, slots=True)
class Ran:
    """A statement that ran: its SQL, its values, and its time in milliseconds."""

    sql: str
    values: Mapping[str, str]
    ms: float


class Trace:
    """Records the statements of a session. Of a vector, only the length is shown."""

    def __init__(self) -> None:
        self._ran: list[tuple[sa.Executable, Mapping[str, Any], float]] = []

    def listen(self, session: orm.Session) -> None:
        """Starts recording the statements of a session."""
        event.listen(session, "do_orm_execute", self._execute)

    @property
    def ms(self) -> float:
        """The time of all statements, in milliseconds."""
        return sum(ms for *_, ms in self._ran)

    def ran(self, dialect: sa.Dialect) -> list[Ran]:
        """Returns the recorded statements, in order."""
        return [_told(statement, given, ms=ms, dialect=dialect) for statement, given, ms in self._ran]

    def _execute(self, state: orm.ORMExecuteState) -> sa.Result[Any]:
        began = time.perf_counter()
        found = state.invoke_statement()
        given = state.parameters
        given = given if isinstance(given, Mapping) else {}
        self._ran.append((state.statement, given, (time.perf_counter() - began) * 1000))
        return found


def _told(statement: sa.Executable, given: Mapping[str, Any], *, ms: float, dialect: sa.Dialect) -> Ran:
    assert isinstance(statement, sa.ClauseElement)  # noqa: S101 - every statement that compiles is one
    compiled = statement.compile(dialect=dialect)
    values = {name: _shown(name, value) for name, value in ({**compiled.params, **given}).items()}
    return Ran(str(compiled), values, ms)


def _shown(name: str, value: object) -> str:
    numbers = str(value).split(",") if name == request.VECTOR else value
    return f"[{len(numbers)} numbers]" if isinstance(numbers, list) else repr(value)
