"""Operations as the text of a migration."""

from typing import Any

from alembic.autogenerate.api import AutogenContext

from pg_semantic.alembic_plugin.operations import SemanticIndexOp

_LINE = 100


def call(context: AutogenContext, operation: SemanticIndexOp) -> str:
    """The call of an operation: on one line where that is short, else an argument a line."""
    positional, named = operation.call()
    if operation.spec.schema is not None:
        named["schema"] = operation.spec.schema
    prefix = context.opts["alembic_module_prefix"] or ""
    opening, first = f"{prefix}{operation.NAME}(", ", ".join(_literal(value) for value in positional)
    rest = [f"{name}={_literal(value)}" for name, value in named.items()]
    line = f"{opening}{', '.join([first, *rest])})"
    if len(line) <= _LINE:
        return line
    return "\n".join([opening, *(f"    {argument}," for argument in (first, *rest)), ")"])


def _literal(value: Any) -> str:  # noqa: ANN401 - whatever an argument is
    """The value as Python; a name that SQLAlchemy has marked as quoted is a plain text."""
    return repr(str(value)) if isinstance(value, str) else repr(value)
