"""Writes the generated parts of the pages in docs: run by `make docs`.

A page is written by hand, except for what is between `<!-- generated: NAME -->` and `<!-- end of NAME -->`. These parts
come from the code: commands from Typer, settings from pydantic, SQL functions from their comments, errors from
`pg_semantic.errors` and the mappings to exit codes and HTTP statuses, metrics and requests from the service, figures of
large indexes from `scale_table`. The result is committed, so that the pages can be read without a build and a review
shows how a change alters the interface.
tests/unit/test_reference.py compares the pages with the code.
"""

import asyncio
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import fastapi
import typer
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from pg_semantic import cli, errors, settings
from pg_semantic.cli import error_exit
from pg_semantic.service import app as service
from pg_semantic.service import error_responses, server
from pg_semantic.service.metrics import Metrics
from pg_semantic.worker.batch_log import WorkerActivity
from pg_semantic.worker.metrics_endpoint import WorkerCollector
from scripts import scale_table
from scripts.markdown_text import code, prose, table

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = DOCS / "reference"
SQL = ROOT / "migrations" / "versions"

_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
_VERSIONED = re.compile(r"_v\d+$")
_CREATED = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)"
    r"^CREATE (?P<kind>FUNCTION|PROCEDURE|VIEW) semantic\.(?P<name>\w+)(?P<arguments>\([^)]*\))?"
    r"(?: RETURNS (?P<returns>[\w.]+))?",
    re.MULTILINE,
)
_COMMENT_ON = re.compile(r"^COMMENT ON \w+ [\w.]+ IS\s+((?:'[^']*'\s*)+);", re.MULTILINE)
_TREE = re.compile(r"^[ │├└─]+(\w+) {2,}(\S.*)$", re.MULTILINE)
_BOUNDS = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
_TYPES = {
    "int": "integer",
    "float": "number",
    "str": "text",
    "Path": "folder",
    "SecretStr": "text",
    "dict": "JSON object",
}


def commands(command: Any = None, words: tuple[str, ...] = ("pg-semantic",)) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yields each command that isn't hidden, with the words that call it."""
    command = typer.main.get_command(cli.app) if command is None else command
    for name, inner in getattr(command, "commands", {}).items():
        if inner.hidden:
            continue
        if hasattr(inner, "commands"):
            yield from commands(inner, (*words, name))
        else:
            yield " ".join((*words, name)), inner


def cli_commands() -> str:
    """Returns every command with its help, arguments, options and examples."""
    return "\n\n".join(_command(words, command) for words, command in sorted(commands()))


def _command(words: str, command: Any) -> str:  # noqa: ANN401 - Typer has its own classes
    context = command.make_context(words, [], resilient_parsing=True)
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    paragraphs = [prose(part) for part in re.split(r"\n\s*\n", (command.help or "").strip())]
    rows = [_parameter(one, context) for one in command.params if not getattr(one, "hidden", False)]
    examples = [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("pg-semantic")]
    return "\n\n".join(
        [
            f"### `{words}`",
            *paragraphs,
            f"```text\n{usage}\n```",
            table(("argument or option", "default", "meaning"), rows) if rows else "",
            "```sh\n" + "\n".join(examples) + "\n```",
        ]
    ).replace("\n\n\n\n", "\n\n")


def _parameter(one: Any, context: Any) -> tuple[str, str, str]:  # noqa: ANN401 - as above
    name, _ = one.get_help_record(context)
    return (
        ", ".join(code(word) for word in re.split(r" / |, ", name.strip("[]* "))),
        _default(one),
        prose(getattr(one, "help", None) or ""),
    )


def _default(one: Any) -> str:  # noqa: ANN401 - as above
    shown = one.show_default if isinstance(getattr(one, "show_default", None), str) else one.default
    if one.required:
        return "required"
    shown = getattr(shown, "value", shown)
    return code(shown) if isinstance(shown, str | int | float) and not isinstance(shown, bool) else ""


def _either(options: list[str]) -> str:
    """Returns a list of options in words: a, b or c."""
    *others, last = options
    return f"{', '.join(others)} or {last}" if others else last


def settings_table() -> str:
    """Returns every setting: variable, type, default and meaning."""
    rows = [
        (
            code(settings.variable(name)),
            _type(field),
            code("" if field.default is None else field.default),
            prose(field.description or ""),
        )
        for name, field in settings.Settings.model_fields.items()
    ]
    return table(("variable", "type", "default", "meaning"), rows)


def _type(field: Any) -> str:  # noqa: ANN401 - a field of pydantic
    kind = field.annotation
    options = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Literal:
        return _either([code(one) for one in options])
    if type(None) in get_args(kind):
        kind = options[0]
    name = _TYPES[(get_origin(kind) or kind).__name__]
    bounds = [
        text.format(f"{getattr(one, bound):,}")
        for one in field.metadata
        for bound, text in _BOUNDS.items()
        if hasattr(one, bound)
    ]
    joined = " and ".join(bounds)
    between = re.fullmatch(r"([\d,]+) or more and at most ([\d,]+)", joined)
    return ", ".join([name, f"{between[1]} to {between[2]}" if between else joined]) if bounds else name


def sql_objects() -> dict[str, str]:
    """Returns the SQL functions, procedures and views that users can call or read, with their comments as Markdown."""
    found = {}
    for file in sorted([*SQL.glob("*/functions/**/*.sql"), *SQL.glob("*/views/*.sql")]):
        if _VERSIONED.search(file.stem):
            continue
        text = file.read_text("utf-8")
        created = _CREATED.search(text)
        assert created, file  # noqa: S101 - a file of this folder creates one object
        comment = " ".join(line.removeprefix("--").strip() for line in created["comment"].splitlines())
        stored = _COMMENT_ON.search(text)
        said = " ".join(re.findall(r"'([^']*)'", stored[1])) if stored else comment
        arguments = (created["arguments"] or "").replace("vector_schema.", "")
        returns = (created["returns"] or "void").removeprefix("vector_schema.")
        kind = created["kind"].lower() + ("" if returns == "void" else f" that returns `{returns}`")
        signature = f"semantic.{created['name']}{arguments}"
        found[f"semantic.{created['name']}"] = f"### `{signature}`\n\nA {kind}. {prose(said)}"
    return found


def sql_functions() -> str:
    """Returns the part of the page on SQL: functions, procedures and views."""
    return "\n\n".join(sql_objects().values())


def error_classes() -> list[type[errors.PgSemanticError]]:
    """Returns the classes of `pg_semantic.errors`, a parent before its children."""
    return [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.PgSemanticError)]


def errors_table() -> str:
    """Returns every error: class, when it is raised, HTTP status and code of the service, exit code of a command.

    The texts below the table say when the service answers to two of them in another way.
    """
    when = dict(_TREE.findall(errors.__doc__ or ""))
    rows = [
        (
            code(kind.__name__),
            prose(when.get(kind.__name__, "base class of all errors below; never raised itself")),
            _answer(kind("-")),
            str(error_exit.exit_code(kind("-"))),
        )
        for kind in error_classes()
    ]
    status, name = _response(errors.EncoderUnavailable("-", overloaded=True))
    answers = {
        "`PgSemanticError`": "-",
        "`DatabaseError`": "depends on the cause, see below",
        "`EncoderUnavailable`": f"{_answer(errors.EncoderUnavailable('-'))} or {status} {code(name)}, see below",
    }
    rows = [(one[0], one[1], answers.get(one[0], one[2]), one[3]) for one in rows]
    return table(("error", "raised for", "HTTP status and code", "exit code"), rows)


def _answer(error: errors.PgSemanticError) -> str:
    status, name = _response(error)
    return f"{status} {code(name)}"


def _response(error: errors.PgSemanticError) -> tuple[int, str]:
    """Returns the status and the code with which the service answers to an error."""
    application = fastapi.FastAPI()
    error_responses.register(application)
    handler: Any = application.exception_handlers[errors.PgSemanticError]
    response = asyncio.run(handler(None, error))
    return response.status_code, re.findall(r'"code":"(\w+)"', response.body.decode())[0]


class _NoDatabase:
    """Stands in for an engine: metrics are described without a database."""

    def connect(self) -> None:
        raise errors.DatabaseError("no database")


def metrics() -> list[Metric]:
    """Returns every metric of the service, without values."""
    found = Metrics()
    found.watch_queues(list)
    found.watch_database(_NoDatabase(), seconds=1)  # type: ignore[arg-type]
    return sorted(found.registry.collect(), key=lambda one: one.name)


def metrics_table() -> str:
    """Returns every metric of the service: name, type, labels and meaning."""
    labels = _labels(Metrics().registry)
    rows = [_metric(one, labels.get(one.name, ())) for one in metrics()]
    return table(("metric", "type", "labels", "meaning"), rows)


def worker_metrics() -> list[Metric]:
    """Returns every metric of a worker, without values; those of its process are the client library's."""
    nothing = WorkerActivity({}, {}, 0, 0, 0, 0, 0, None)
    return sorted(WorkerCollector(lambda: nothing).collect(), key=lambda one: one.name)


def worker_metrics_table() -> str:
    """Returns every metric of a worker: name, type, labels and meaning."""
    return table(("metric", "type", "labels", "meaning"), [_metric(one, ()) for one in worker_metrics()])


def _metric(one: Metric, labels: Sequence[str]) -> tuple[str, ...]:
    name = f"{one.name}_total" if one.type == "counter" else one.name
    names = labels or getattr(one, "_labelnames", None) or ()
    return code(name), one.type, ", ".join(map(code, names)), prose(one.documentation)


def _labels(registry: CollectorRegistry) -> Mapping[str, tuple[str, ...]]:
    """Returns the labels of the counters and histograms in a registry, which their values alone would show."""
    known = getattr(registry, "_collector_to_names", {})
    return {name: tuple(getattr(one, "_labelnames", ())) for one, names in known.items() for name in names}


def http_requests() -> str:
    """Returns every request that the service answers, with its parameters, body and response."""
    context = server.prepare(settings.Settings.model_construct(), server.ServeOptions(), engine=None)
    try:
        document = service.build(context).openapi()
    finally:
        context.models.close()
    schemas = document["components"]["schemas"]
    requests = [
        _request(f"{method.upper()} {path}", operation, schemas)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return "\n\n".join([*requests, *_objects("\n".join(requests), schemas)])


def _objects(text: str, schemas: Mapping[str, Any]) -> Iterator[str]:
    """Yields the fields of each object that is the type of a field in this text, or of a field of such an object."""
    waiting, seen = [text], set[str]()
    while waiting:
        text = waiting.pop(0)
        for name in schemas:
            if name not in seen and re.search(rf"\| (?:list of )?\(?[^|`]*\b{name}\b[^|`]* \|", text):
                seen.add(name)
                fields = _fields(schemas[name], asked=False)
                waiting.append(fields)
                said = prose(schemas[name].get("description", ""))
                yield "\n\n".join(part for part in (f"### {name}", said, fields) if part)


def _request(title: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    said = [prose(part) for part in operation.get("description", "").split("\n\n") if part]
    rows = [
        (
            code(one["name"]),
            _kind(one["schema"]),
            _given(one["schema"], required=one.get("required", False)),
            prose(one.get("description", "")),
        )
        for one in operation.get("parameters", ())
    ]
    parts = [f"### `{title}`", *said]
    if rows:
        parts += ["Parameters:", table(("name", "type", "default", "meaning"), rows)]
    for heading, body in (
        ("Request body:", operation.get("requestBody")),
        ("Response:", operation["responses"].get("200")),
    ):
        schema = _resolved((body or {}).get("content", {}).get("application/json", {}).get("schema", {}), schemas)
        if schema.get("properties"):
            parts += [heading, _fields(schema, asked=heading.startswith("Request"))]
    return "\n\n".join(parts)


def _fields(schema: Mapping[str, Any], *, asked: bool) -> str:
    rows = []
    for name, field in schema["properties"].items():
        given = _given(field, required=name in schema.get("required", ()))
        meaning = prose(field.get("description", ""))
        rows.append((code(name), _kind(field), given, meaning) if asked else (code(name), _kind(field), meaning))
    if asked:
        return table(("field", "type", "default", "meaning"), rows)
    return table(("field", "type", "meaning"), rows)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _given(field: Mapping[str, Any], *, required: bool) -> str:
    default = field.get("default")
    return (
        "required"
        if required
        else ""
        if default is None
        else code(str(default).lower() if isinstance(default, bool) else default)
    )


def _kind(field: Mapping[str, Any]) -> str:
    """Returns the type of a field in words."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field or "const" in field:
        return _either([code(one) for one in field.get("enum", [field.get("const")])])
    if "anyOf" in field:
        return _either(list(dict.fromkeys(_kind(one) for one in field["anyOf"] if one.get("type") != "null")))
    if field.get("type") == "array":
        inner = _kind(field.get("items", {}))
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    if field.get("type") == "object":
        return "object"
    low, high = field.get("minimum"), field.get("maximum")
    bounds = f", {low:,.0f} to {high:,.0f}" if low is not None and high is not None else ""
    kind = str(field.get("type", "any"))
    return {"string": "text", "boolean": "`true` or `false`"}.get(kind, kind) + bounds


GENERATED = {
    "commands": cli_commands,
    "settings": settings_table,
    "sql-functions": sql_functions,
    "errors": errors_table,
    "metrics": metrics_table,
    "worker-metrics": worker_metrics_table,
    "requests": http_requests,
    **scale_table.GENERATED,
}


def pages() -> Iterator[tuple[Path, str]]:
    """Yields each page that has a generated part, as it should be."""
    for page in sorted(DOCS.glob("*/*.md")):
        text = page.read_text("utf-8")
        if _PART.search(text):
            yield page, _PART.sub(lambda part: f"{part[1]}\n{GENERATED[part[2]]()}\n\n{part[3]}", text)


def main() -> int:
    """Writes the pages that differ, and prints their names."""
    logging.disable()
    for page, text in pages():
        if page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
            print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
