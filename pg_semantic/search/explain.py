"""What the server will do for a statement: `explain`, and the `Plan` that it gives.

Why a plan does without the vector index is found in `explain_reasons`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from pg_semantic import database
from pg_semantic.search import explain_reasons

_CONDITIONS = ("Order By", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "Sort Key")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the server will answer a statement; ``str(plan)`` is the plan, a line a step.

    ``indexes`` are the names of all that it uses, vector index or not. ``rows`` and ``cost`` are the planner's
    estimates, the cost in its own units. ``reasons`` say why an index of a semantic index is not used and what to do,
    ``notes`` what else to know of the server; both are sentences for a person, and may be empty.
    """

    uses_vector_index: bool
    uses_lexical_index: bool
    indexes: tuple[str, ...]
    rows: int
    cost: float
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text


def explain(
    session: orm.Session | sa.Connection, statement: "sa.Select[*tuple[Any, ...]]", *, analyze: bool = False
) -> Plan:
    """The plan of any statement, of `search.knn` or composed further: will it use the vector index, and why not.

    In an AsyncSession: ``await session.run_sync(search.explain, statement)``. The statement is planned with the values
    that it has; ``analyze`` runs it too, for the times in the plan. What listeners to ``do_orm_execute`` would add to
    it is not seen.

    Raises `errors.IndexNotFound` when the index has not been created.
    """
    connection = session
    if isinstance(session, orm.Session):
        connection = session.connection(bind_arguments={"clause": statement})
    assert isinstance(connection, sa.Connection)  # noqa: S101 - there are two kinds
    with database.translated():
        found = connection.execute(_Explain(statement, analyze=analyze)).scalar_one()
        root = found[0]["Plan"]
        steps = list(_steps(root))
        indexes = tuple(dict.fromkeys(step["Index Name"] for step in steps if "Index Name" in step))
        subject = explain_reasons.Subject.of(statement)
        return Plan(
            uses_vector_index=any(index.name in indexes for index in subject.vector_indexes),
            uses_lexical_index=any(index.name in indexes for index in subject.lexical_indexes),
            indexes=indexes,
            rows=int(root["Plan Rows"]),
            cost=float(root["Total Cost"]),
            reasons=tuple(dict.fromkeys(explain_reasons.of(connection, subject, steps=steps))),
            notes=tuple(explain_reasons.notes(connection, subject)),
            text="\n".join(_lines(root)),
        )


class _Explain(sa.Executable, sa.ClauseElement):
    """A statement with EXPLAIN before it; its values travel as they do when it is executed."""

    inherit_cache = False

    def __init__(self, statement: sa.ClauseElement, *, analyze: bool) -> None:
        self.statement, self.analyze = statement, analyze


@compiles(_Explain)
def _render_explain(element: _Explain, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    prefix = "EXPLAIN (ANALYZE, FORMAT JSON) " if element.analyze else "EXPLAIN (FORMAT JSON) "
    text = compiler.process(element.statement, **options)
    compiler._result_columns = []  # noqa: SLF001 - the result has none of the statement's columns
    return prefix + text


def _steps(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield step
    for child in step.get("Plans", ()):
        yield from _steps(child)


def _lines(step: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """The plan as psql shows it, less what no one reads."""
    indent = "      " * depth
    named = step.get("Subplan Name")
    if named:
        yield f"{indent}{named}"
    yield f"{indent}{'->  ' if depth else ''}{_title(step)}"
    for name in _CONDITIONS:
        if name in step:
            value = step[name]
            yield f"{indent}      {name}: {', '.join(value) if isinstance(value, list) else value}"
    for child in step.get("Plans", ()):
        yield from _lines(child, depth + 1)


def _title(step: Mapping[str, Any]) -> str:
    using = f" using {step['Index Name']}" if "Index Name" in step else ""
    relation = step.get("Relation Name") or step.get("CTE Name") or step.get("Function Name")
    on = f" on {relation}" if relation else ""
    alias = f" {step['Alias']}" if relation and step.get("Alias") not in {None, relation} else ""
    title = f"{step['Node Type']}{using}{on}{alias}  (cost={step['Total Cost']:.2f} rows={step['Plan Rows']})"
    if "Actual Rows" not in step:
        return title
    return (
        f"{title} (actual ms={step['Actual Total Time']:.3f} rows={step['Actual Rows']} loops={step['Actual Loops']})"
    )
