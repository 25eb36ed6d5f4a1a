"""``pg-semantic settings``: shows every setting, its environment variable and its value."""

from pg_semantic import settings as configured
from pg_semantic.cli import options, output

EXAMPLES = options.examples(
    "PG_SEMANTIC_BATCH_ROWS=64 pg-semantic settings",
)


def settings(json: options.Json = False) -> None:
    """Show the environment variable, value, default and meaning of every setting. Secrets are masked."""
    values = configured.load()
    if json:
        output.as_json({configured.variable(name): value for name, value in values.model_dump().items()})
        return
    rows = [
        (
            configured.variable(name),
            _shown(getattr(values, name)),
            _shown(field.default),
            field.description or "",
        )
        for name, field in type(values).model_fields.items()
    ]
    output.table(("variable", "value", "default", "meaning"), rows)


def _shown(value: object) -> str | None:
    return None if value is None else str(value)
