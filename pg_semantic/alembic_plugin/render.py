"""Renders operations as the text of a migration."""

from typing import Any

from alembic.autogenerate.api import AutogenContext

from pg_semantic.alembic_plugin.operations import SemanticIndexOp

_LINE = 100


def call(context: AutogenContext, operation: SemanticIndexOp) -> str:
    """Returns the call of an operation: on one line if that is short, otherwise with one argument per line."""
    positional, named = operation.call()
    if operation.spec.schema is not None:
        named["schema"] = operation.spec.schema
    opening = f"{context.opts['alembic_module_prefix'] or ''}{operation.NAME}("
    first = ", ".join(_literal(value) for value in positional)
    line = f"{opening}{', '.join([first, *(f'{name}={_literal(value)}' for name, value in named.items())])})"
    if len(line) <= _LINE:
        return line
    return "\n".join([opening, f"    {first},", *(_argument(name, value) for name, value in named.items()), ")"])


def _argument(name: str, value: Any) -> str:  # noqa: ANN401 - an argument of any type
    """Returns a keyword argument on a line of its own, or on several if it is a long dict."""
    line = f"    {name}={_literal(value)},"
    if len(line) <= _LINE or not isinstance(value, dict):
        return line
    return "\n".join([f"    {name}={{", *(f"        {key!r}: {_literal(of)}," for key, of in value.items()), "    },"])


def _literal(value: Any) -> str:  # noqa: ANN401 - an argument of any type
    """Returns a value as Python source. A `quoted_name` of SQLAlchemy becomes a plain string."""
    return repr(str(value)) if isinstance(value, str) else repr(value)
