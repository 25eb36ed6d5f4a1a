"""The reference is complete, and the generated parts of all pages are those of the code."""

import importlib
import re
import types

import pytest

from pg_semantic import errors, settings
from scripts import generate_reference

PAGES = generate_reference.PAGES
PUBLIC = [
    "pg_semantic",
    "pg_semantic.alembic_plugin",
    "pg_semantic.encoders",
    "pg_semantic.evaluation",
    "pg_semantic.generations",
    "pg_semantic.rerankers",
    "pg_semantic.search",
]


def text(page: str) -> str:
    return (PAGES / page).read_text("utf-8")


def test_the_generated_parts_of_the_pages_are_those_of_the_code() -> None:
    for page, expected in generate_reference.pages():
        assert page.read_text("utf-8") == expected, f"{page.name}: run `make docs`"


def test_every_generated_part_is_on_a_page() -> None:
    pages = [page.read_text("utf-8") for page in generate_reference.DOCS.glob("*/*.md")]
    named = [name for page in pages for name in re.findall(r"<!-- generated: ([\w-]+) -->", page)]
    assert sorted(named) == sorted(generate_reference.GENERATED)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_on_the_page(module: str) -> None:
    documented = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", text("python-api.md"), re.MULTILINE))
    exported = {
        name: getattr(importlib.import_module(module), name) for name in importlib.import_module(module).__all__
    }
    elsewhere = {name.rpartition(".")[2] for name in documented}  # another module exports it too
    objects = {name for name, value in exported.items() if not isinstance(value, types.ModuleType)}
    assert {name for name in objects if f"{module}.{name}" not in documented} <= elsewhere


def test_every_command_is_on_the_page() -> None:
    page = text("cli.md")
    assert [words for words, _ in generate_reference.commands() if f"### `{words}`" not in page] == []


def test_every_setting_is_on_the_page() -> None:
    page = text("settings.md")
    names = map(settings.variable, settings.Settings.model_fields)
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_every_sql_function_for_users_is_on_the_page() -> None:
    page = text("sql-functions.md")
    found = generate_reference.sql_objects()
    assert {
        "semantic.backlog",
        "semantic.embed",
        "semantic.embed_query",
        "semantic.index_status",
        "semantic.release_partition",
    } <= found.keys()
    assert [name for name in found if f"### `{name}" not in page] == []


def test_every_error_is_on_the_page() -> None:
    page = text("errors.md")
    classes = generate_reference.error_classes()
    assert errors.QueryError in classes
    assert [kind.__name__ for kind in classes if f"| `{kind.__name__}` |" not in page] == []


def test_every_metric_is_on_the_page() -> None:
    page = text("metrics.md")
    names = [one.name for one in (*generate_reference.metrics(), *generate_reference.worker_metrics())]
    assert {"pg_semantic_lag_seconds", "pg_semantic_worker_rows_synced"} <= set(names)
    assert [name for name in names if f"| `{name}` |" not in page and f"| `{name}_total` |" not in page] == []
