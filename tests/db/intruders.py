"""Roles that try everything: what the catalogues list of ours, each role tries to read, to write and to call.

Rows carry marks that are nowhere else: a key below -770,000 (no time and no weight of a word looks like that) and a
word such as ``zq12x``. A role may meet a mark of ours only where it meets it in the source.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

_MARK = re.compile(r"-77\d{4}\b|zq\d+x")
_SOURCES = "SELECT DISTINCT CAST(source AS text) FROM semantic.semantic_index"
# What is in our schema, what refers to a source, and what is made of these.
_RELATIONS = """
    WITH RECURSIVE ours AS (
        SELECT oid FROM pg_class WHERE relnamespace = 'semantic'::regnamespace
        UNION
        SELECT conrelid FROM pg_constraint WHERE confrelid IN (SELECT source FROM semantic.semantic_index)
        UNION
        SELECT found.oid
        FROM ours
        JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = ours.oid
        JOIN pg_class AS found ON found.oid = CASE classid
            WHEN 'pg_class'::regclass THEN objid
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE pg_rewrite.oid = objid)
        END
    )
    SELECT CAST(oid AS regclass)::text AS name, relkind::text AS kind
    FROM pg_class JOIN ours USING (oid)
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND oid NOT IN (SELECT source FROM semantic.semantic_index)
    ORDER BY 1
"""
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
_FUNCTIONS = """
    SELECT oid::regproc::text AS name, prokind::text AS kind,
           ARRAY(SELECT format_type(type, NULL) FROM unnest(proargtypes) AS type) AS types
    FROM pg_proc
    WHERE pronamespace = 'semantic'::regnamespace
       OR prosrc LIKE '%%semantic.%%' AND pronamespace <> 'pg_catalog'::regnamespace
       OR oid IN (SELECT tgfoid FROM pg_trigger WHERE tgrelid IN (SELECT source FROM semantic.semantic_index)
                  AND NOT tgisinternal)
    ORDER BY 1
"""
# Functions that select what the server shows to everybody, in pg_class and pg_stat_all_tables.
_SERVERS_FIGURES = ("rows_estimate", "semantic.chunk_counters", "semantic.vector_index_files", "semantic.tables_v1")
_WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_ON_COLUMNS = ("INSERT", "UPDATE", "REFERENCES")
_ARGUMENTS = {
    "integer": ["1", "2", "10"],
    "text": ["'zq1x common'", "'lexical'"],
    "text[]": ["ARRAY['zq1x', 'common']"],
    "regconfig": ["'simple'::regconfig"],
    "double precision": ["0.01"],
}


class Intruders:
    """Everything that some roles find out, or may do, which their privileges on the sources do not give them."""

    def __init__(self, engine: sa.Engine, roles: Sequence[str]) -> None:
        url = engine.url.set(drivername="postgresql")
        self._connection = psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)
        self._connection.execute("SET statement_timeout = '10s'; SET semantic.wait_seconds = 0.01")
        self.roles = roles
        self.totals = {name: self._rows(f"SELECT count(*) FROM {name}")[0][0] for (name,) in self._rows(_SOURCES)}

    def close(self) -> None:
        self._connection.close()

    def found(self, *, functions: bool = True) -> list[str]:
        """A line for each thing that a role has and should not have."""
        relations, routines = self._rows(_RELATIONS), self._rows(_FUNCTIONS) if functions else []
        lines: list[str] = []
        for role in self.roles:
            allowed, hidden_counts = self._allowed(role)
            for name, kind in relations:
                lines += [f"{role} {line}" for line in self._may_write(role, name, kind)]
                if kind != "S":
                    lines += [f"{role} {line}" for line in self._learns(role, name, allowed, hidden_counts)]
            for name, kind, types in routines:
                if any(one in name for one in _SERVERS_FIGURES):
                    continue
                for call in self._calls(name, kind, types):
                    seen, asked = self._tried(role, call), set(_MARK.findall(call))
                    lines += [f"{role} {call}: {mark}" for mark in _marks(seen, allowed | asked, hidden_counts)]
        return lines

    def shown(self, role: str, relation: str) -> set[str]:
        """The marks that a role meets in a relation."""
        return {mark for row in self._tried(role, f"SELECT * FROM {relation}") for mark in _MARK.findall(str(row))}

    def _allowed(self, role: str) -> tuple[set[str], set[int]]:
        """The marks that the sources show to a role, and the numbers of rows that they do not."""
        marks: set[str] = set()
        counts: set[int] = set()
        for source, total in self.totals.items():
            seen = 0
            for (column,) in self._rows(_COLUMNS, source):
                values = self._tried(role, f'SELECT "{column}" FROM {source}')
                marks |= {mark for row in values for mark in _MARK.findall(str(row))}
                seen = max(seen, len(values))
            if seen < total:
                counts.add(total)
        return marks, counts

    def _may_write(self, role: str, name: str, kind: str) -> Iterator[str]:
        if kind == "S":
            tests = [f"has_sequence_privilege('{role}', '{name}', '{one}')" for one in ("USAGE", "SELECT", "UPDATE")]
        else:
            tests = [f"has_table_privilege('{role}', '{name}', '{one}')" for one in _WRITES]
            tests += [f"has_any_column_privilege('{role}', '{name}', '{one}')" for one in _ON_COLUMNS]
        [held] = self._rows(f"SELECT {', '.join(tests)}")
        yield from (test for test, holds in zip(tests, held, strict=True) if holds)

    def _learns(self, role: str, name: str, allowed: set[str], hidden_counts: set[int]) -> Iterator[str]:
        for (column,) in self._rows(_COLUMNS, name):
            if not column.endswith("_estimate"):  # the server's own figures, which everybody may read in pg_class
                seen = self._tried(role, f'SELECT "{column}" FROM {name}')
                yield from (f"reads {name}.{column}: {mark}" for mark in _marks(seen, allowed, hidden_counts))

    def _calls(self, name: str, kind: str, types: Sequence[str]) -> Iterator[str]:
        verb = "CALL" if kind == "p" else "SELECT * FROM"
        choices = [self._arguments(one) for one in types]
        for number in range(max((len(one) for one in choices), default=1)):  # each argument at least once
            yield f"{verb} {name}({', '.join(one[number % len(one)] for one in choices)})"
        if name.endswith("_search"):
            for mode in ("dense", "lexical", "hybrid"):
                yield f"SELECT * FROM {name}('zq1x common', 100, '{mode}')"

    def _arguments(self, of: str) -> list[str]:
        if of == "regclass":
            known = self._rows("SELECT chunks::text, receipts::text FROM semantic.generation")
            return [f"'{name}'::regclass" for name in (*self.totals, *(name for row in known for name in row))]
        return _ARGUMENTS.get(of, [f"NULL::{of}"])

    def _tried(self, role: str, statement: str) -> list[tuple[Any, ...]]:
        """What a statement gives a role; nothing when it is refused."""
        self._connection.execute(f'SET ROLE "{role}"')
        try:
            found = self._connection.execute(statement)
            return list(found) if found.description else []
        except psycopg.Error:
            return []
        finally:
            self._connection.execute("RESET ROLE")

    def _rows(self, statement: str, *binds: object) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(statement, binds))


def _marks(seen: Sequence[tuple[Any, ...]], allowed: set[str], hidden_counts: set[int]) -> Iterator[str]:
    for row in seen:
        yield from (mark for mark in _MARK.findall(str(row)) if mark not in allowed)
        yield from (f"the count {value}" for value in row if isinstance(value, int | float) and value in hidden_counts)
