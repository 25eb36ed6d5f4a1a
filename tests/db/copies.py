"""Copies of the index on articles: begun, switched to, looked at."""

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from pg_semantic import generations, registry
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from tests.db.library import execute, generation_of, rows, sync
from tests.waiting import eventually

NAME = "article_semantic"
OTHER = EncoderSpec("hashed:48", 48)
TEXTS = ("harbour candle", "meadow engine", "violin glacier", "pepper lantern", "anchor thistle")


def fill(engine: sa.Engine) -> None:
    """Five rows, with their vectors."""
    for number, text in enumerate(TEXTS):
        execute(engine, "INSERT INTO article (id, title, lang) VALUES (:id, :title, 'en')", id=number, title=text)
    sync(engine)


def begin(engine: sa.Engine, **changes: Any) -> Generation:
    live = generation_of(engine)
    return generations.begin(engine, live, dataclasses.replace(live.spec, **changes))


def switched(engine: sa.Engine, **changes: Any) -> None:
    begin(engine, **changes)
    sync(engine)
    generations.switch(engine, NAME)


def all_of(engine: sa.Engine) -> dict[str, Generation]:
    with engine.connect() as connection:
        return {one.role: one for one in registry.generations(connection)}


def roles(engine: sa.Engine) -> list[str]:
    """The roles that the registry has, whether or not their tables are there."""
    return [role for (role,) in rows(engine, "SELECT role FROM semantic.generation ORDER BY id")]


def await_blocked(engine: sa.Engine, by: int, is_over: Callable[[], bool]) -> None:
    """Returns once somebody waits for the process ``by``; it must not be over before."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE :by = ANY(pg_blocking_pids(pid))"
    eventually(lambda: rows(engine, waiting, by=by) != [(0,)], "a transaction to be waited for", unless=is_over)


def pid(connection: sa.Connection) -> int:
    """The process that serves a connection."""
    found: int = connection.scalar(sa.select(sa.func.pg_backend_pid())) or 0
    return found
