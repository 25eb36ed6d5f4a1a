"""Query plans of search statements: `explain`, and the `Plan` that it returns.

`query_plan_reasons` finds out why a plan does not use the vector index.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from pg_semantic import database
from pg_semantic.compat import sqlalchemy_internals
from pg_semantic.index import partitions
from pg_semantic.search import query_plan_reasons

_CONDITIONS = ("Order By", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "Sort Key")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the server will execute a statement. ``str(plan)`` is the plan as text, with one line per step.

    Attributes:
        uses_vector_index: Whether the plan scans a vector index.
        uses_lexical_index: Whether the plan scans a lexical index.
        indexes: The names of all indexes in the plan, of any kind.
        rows: How many rows the planner expects.
        cost: The cost that the planner expects, in its own units.
        reasons: Sentences that say why the plan does not use a vector index or lexical index, and what to do.
        notes: Sentences about the server and about row-level security that concern this statement.
        text: The plan as text.
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
    """Returns the plan of a statement: whether it uses the vector index, and if not, why.

    With an AsyncSession: ``await session.run_sync(search.explain, statement)``.

    Args:
        statement: Any statement, such as one from `knn` with your own filters. It is planned with its own parameter
            values, and without the changes that ``do_orm_execute`` listeners would make.
        analyze: Also executes the statement, to add actual times and row counts to the plan.

    Raises:
        errors.IndexNotFound: The index has not been created.
    """
    connection = session
    if isinstance(session, orm.Session):
        connection = session.connection(bind_arguments={"clause": statement})
    assert isinstance(connection, sa.Connection)  # noqa: S101 - the only other type
    with database.translated():
        found = connection.execute(_Explain(statement, analyze=analyze)).scalar_one()
        root = found[0]["Plan"]
        steps = list(_steps(root))
        indexes = tuple(dict.fromkeys(step["Index Name"] for step in steps if "Index Name" in step))
        subject = query_plan_reasons.Subject.of(statement)
        return Plan(
            uses_vector_index=any(partitions.is_used(index, indexes) for index in subject.vector_indexes),
            uses_lexical_index=any(index.name in indexes for index in subject.lexical_indexes),
            indexes=indexes,
            rows=int(root["Plan Rows"]),
            cost=float(root["Total Cost"]),
            reasons=tuple(dict.fromkeys(query_plan_reasons.of(connection, subject, steps=steps))),
            notes=tuple(query_plan_reasons.notes(connection, subject)),
            text="\n".join(_lines(root)),
        )


class _Explain(sa.Executable, sa.ClauseElement):
    """EXPLAIN of a statement, with the same bind parameters as when it is executed."""

    inherit_cache = False

    def __init__(self, statement: sa.ClauseElement, *, analyze: bool) -> None:
        self.statement, self.analyze = statement, analyze


@compiles(_Explain)
def _render_explain(element: _Explain, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    prefix = "EXPLAIN (ANALYZE, FORMAT JSON) " if element.analyze else "EXPLAIN (FORMAT JSON) "
    text = compiler.process(element.statement, **options)
    sqlalchemy_internals.return_no_columns(compiler)
    return prefix + text


def _steps(step: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield step
    for child in step.get("Plans", ()):
        yield from _steps(child)


def _lines(step: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """The plan as psql shows it, without the less useful lines."""
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
