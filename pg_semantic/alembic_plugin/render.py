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
    opening = f"{context.opts['alembic_module_prefix'] or ''}{operation.NAME}("
    first = ", ".join(_literal(value) for value in positional)
    line = f"{opening}{', '.join([first, *(f'{name}={_literal(value)}' for name, value in named.items())])})"
    if len(line) <= _LINE:
        return line
    return "\n".join([opening, f"    {first},", *(_argument(name, value) for name, value in named.items()), ")"])


def _argument(name: str, value: Any) -> str:  # noqa: ANN401 - whatever an argument is
    """A named argument on a line of its own, or on several when it is a long dict."""
    line = f"    {name}={_literal(value)},"
    if len(line) <= _LINE or not isinstance(value, dict):
        return line
    return "\n".join([f"    {name}={{", *(f"        {key!r}: {_literal(of)}," for key, of in value.items()), "    },"])


def _literal(value: Any) -> str:  # noqa: ANN401 - whatever an argument is
    """The value as Python; a name that SQLAlchemy has marked as quoted is a plain text."""
    return repr(str(value)) if isinstance(value, str) else repr(value)
