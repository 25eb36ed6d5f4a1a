"""Measures what row-level security costs a search: a role that sees some rows, and the owner with an equal filter.

    make bench-policies

Three tables of 100,000 rows have tenants with 100 %, 10 % and 0.1 % of the rows, and a policy that compares the tenant
with a setting. Each table has two semantic indexes: ``source``, whose policies ask the table about every row, and
``local``, which copies the tenant (``policy_column="tenant"``). A role searches as a tenant. The owner, to whom the
policies don't apply, searches with ``where=[Note.tenant == tenant]``. They alternate, each time with another text.
Results are medians in milliseconds.

* ``ratio``: the role's time over the owner's, by index, share and mode.
* ``dense_ratio_max``: the largest ratio of dense searches; goal 2.
* ``local_ratio_max``: the largest ratio of an index that carries the tenant, over all modes; goal 2.
* ``leakproof_local_ratio_max``: the same after a superuser declared the operator `@@` leakproof
  (docs/reference/privileges.md).

The plans of the lexical searches that ask the table are printed first. The vector index fits in maintenance_work_mem.
"""

import argparse
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks import server
from pg_semantic import Searcher, SemanticIndex, encoders, search
from pg_semantic.encoders import Encoder
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search.request import Mode
from pg_semantic.settings import Settings
from pg_semantic.worker import privileges
from pg_semantic.worker.worker import Worker

ROWS, ROUNDS, LIMIT, WARM_UP = 100_000, 30, 10, 3
ENCODER, ROLE = "hashed:128", "policies_tenant"
SHARES = {"100 %": 1, "10 %": 10, "0.1 %": 1000}  # and the number of tenants
MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
WORDS = 2000


class Base(DeclarativeBase):
    """The tables of this benchmark."""


class _Note:
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int] = mapped_column(index=True)
    body: Mapped[str]
    source = SemanticIndex("body", encoder=ENCODER)
    local = SemanticIndex("body", encoder=ENCODER, policy_column="tenant")


def _unique() -> tuple[sa.UniqueConstraint]:
    return (sa.UniqueConstraint("id", "tenant"),)


class All(_Note, Base):
    """One tenant has all rows."""

    __tablename__ = "note_all"
    __table_args__ = _unique()


class Tenth(_Note, Base):
    """Ten tenants."""

    __tablename__ = "note_tenth"
    __table_args__ = _unique()


class Thousandth(_Note, Base):
    """A thousand tenants."""

    __tablename__ = "note_thousandth"
    __table_args__ = _unique()


CLASSES: dict[str, type[_Note]] = {"100 %": All, "10 %": Tenth, "0.1 %": Thousandth}


def main() -> None:
    """Prints the results, with JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with server.running() as postgres:
        owner = postgres.create("policies")
        server.execute(owner, "ALTER SYSTEM SET maintenance_work_mem = '512MB'", "SELECT pg_reload_conf()")
        _fill(owner, given.rows)
        options = f"-c role={ROLE} -c app.tenant=0"
        role = sa.create_engine(owner.url, connect_args={"prepare_threshold": None, "options": options})
        _print_plans(role)
        ratio = _ratios(owner, role, MODES, rounds=given.rounds)
        server.execute(owner, "ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF")
        print("with @@ declared leakproof:")
        leakproof = _ratios(owner, role, ("lexical", "hybrid"), rounds=given.rounds)
        role.dispose()
        owner.dispose()
    figures = {
        "rows": given.rows,
        "dense_ratio_max": max(value for name, value in ratio.items() if name.endswith("dense")),
        "local_ratio_max": max(value for name, value in ratio.items() if name.startswith("local")),
        "leakproof_local_ratio_max": max(value for name, value in leakproof.items() if name.startswith("local")),
        "ratio": ratio,
        "leakproof_ratio": leakproof,
    }
    print(json.dumps(figures))


def _ratios(owner: sa.Engine, role: sa.Engine, modes: Sequence[Mode], *, rounds: int) -> dict[str, float]:
    """Returns the time of the role's searches over that of the owner's, by index, share and mode."""
    ratio: dict[str, float] = {}
    for kind, share, mode in itertools.product(("source", "local"), SHARES, modes):
        name = f"{kind}, {share}, {mode}"
        under, free = _medians(owner, role, CLASSES[share], kind=kind, mode=mode, rounds=rounds)
        ratio[name] = round(under / free, 2)
        print(f"{name}: {under:.1f} ms, owner {free:.1f} ms, {ratio[name]} times", flush=True)
    return ratio


def _fill(engine: sa.Engine, rows: int) -> None:
    Base.metadata.create_all(engine)
    server.execute(engine, f"CREATE ROLE {ROLE}")
    fill = """
        INSERT INTO {table} (id, tenant, body)
        SELECT i, i % :tenants, (
            SELECT string_agg('word' || (hashint4(i * 31 + n) & 2147483647) % :words
                              % (1 + (hashint4(i * 17 + n) & 2147483647) % :words), ' ')
            FROM generate_series(1, 30) AS n
        )
        FROM generate_series(1, :rows) AS i
    """
    for share, entity in CLASSES.items():
        table = str(sa.inspect(entity).local_table.name)
        with engine.begin() as connection:
            binds = {"rows": rows, "tenants": SHARES[share], "words": WORDS}
            connection.execute(sa.text(fill.format(table=table)), binds)
        server.execute(
            engine,
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY own ON {table} USING (tenant = CAST(current_setting('app.tenant') AS integer))",
            f"GRANT SELECT ON {table} TO {ROLE}",
        )
    privileges.follow(engine)
    Worker(engine, Settings()).run(threading.Event(), once=True)
    server.execute(engine, "VACUUM ANALYZE")


def _medians(
    owner: sa.Engine, role: sa.Engine, entity: type[_Note], *, kind: str, mode: Mode, rounds: int
) -> tuple[float, float]:
    """Returns the medians of the role's searches and of the owner's, in milliseconds."""
    index: BoundIndex[_Note] = getattr(entity, kind)
    encoder = encoders.load(ENCODER)
    under, free = [], []
    for number, (one, two) in enumerate(_texts(rounds + WARM_UP)):
        taken = _taken(role, index, one, encoder=encoder, mode=mode, where=[])
        against = _taken(owner, index, two, encoder=encoder, mode=mode, where=[entity.tenant == 0])
        if number >= WARM_UP:
            under.append(taken)
            free.append(against)
    return 1000 * statistics.median(under), 1000 * statistics.median(free)


def _taken(
    engine: sa.Engine,
    index: BoundIndex[_Note],
    text: str,
    *,
    encoder: Encoder,
    mode: Mode,
    where: list[sa.ColumnElement[bool]],
) -> float:
    searcher = Searcher(encoder)
    with orm.Session(engine) as session:
        session.connection()
        started = time.perf_counter()
        searcher.search(session, index, text, limit=LIMIT, mode=mode, where=where)
        return time.perf_counter() - started


def _texts(count: int) -> Iterator[tuple[str, str]]:
    for number in range(count):
        yield f"word{number * 37 % 200} word{number * 53 % 900}", f"word{number * 37 % 200} word{number * 59 % 900}"


def _print_plans(role: sa.Engine) -> None:
    for share, entity in CLASSES.items():
        with orm.Session(role) as session:
            plan = search.explain(session, search.lexical(entity.source, "word1 word2", limit=LIMIT), analyze=True)
        print(f"lexical, asking the table, {share}:\n{plan}\n")


if __name__ == "__main__":
    main()
