"""What the documents say is so: their examples run, their commands parse, their tables are complete."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer

from pg_semantic import cli, encoders
from pg_semantic import settings as configured
from pg_semantic.encoders import Encoder
from pg_semantic.operations.doctor import build_memory, missed_recall, missing_prompts, pooler, spent_budget
from pg_semantic.operations.doctor.checks import CHECKS
from tests import documents
from tests.db.library import sync

PLACEHOLDER = "postgresql+psycopg://app@localhost/shop"


@pytest.fixture(scope="module")
def loaded() -> Callable[..., Encoder]:
    """Loads an encoder once, for all workers of this module."""
    known: dict[str, Encoder] = {}

    def load(reference: str, **how: Any) -> Encoder:
        if reference not in known:
            known[reference] = encoders.load(reference, **how)
        return known[reference]

    return load


@pytest.mark.weights
@pytest.mark.parametrize(
    "name", ["README.md", "docs/quickstart.md", "docs/reference/search.md", "docs/explanation/ranking-and-recall.md"]
)
def test_the_examples_of_a_document_run_one_after_the_other(
    engine: sa.Engine, name: str, capsys: pytest.CaptureFixture[str], loaded: Callable[..., Encoder]
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in documents.blocks(documents.ROOT / name, "python"):
        exec(compile(block.replace(PLACEHOLDER, url), name, "exec"), namespace)  # noqa: S102
        if "engine" in namespace:
            sync(engine, load=loaded)
    namespace["engine"].dispose()
    if name == "README.md":
        assert "Password help" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", sorted({line for document in documents.DOCUMENTS for line in documents.commands(document)})
)
def test_every_command_in_the_documents_parses(line: str) -> None:
    command: Any = typer.main.get_command(cli.app)
    _, *arguments = shlex.split(line)
    while True:
        with command.make_context(command.name, list(arguments)) as context:
            if not hasattr(command, "resolve_command"):
                break
            _, command, arguments = command.resolve_command(context, arguments)
    assert command.callback is not None


@pytest.mark.parametrize(
    "document", documents.DOCUMENTS, ids=lambda document: str(document.relative_to(documents.ROOT))
)
def test_every_link_within_the_documents_leads_somewhere(document: Path) -> None:
    for target in documents.links(document):
        assert not target or (document.parent / target).exists(), target


def test_every_target_of_make_that_a_document_names_is_there() -> None:
    makefile = (documents.ROOT / "Makefile").read_text()
    for document in documents.DOCUMENTS:
        for block in documents.blocks(document, "sh"):
            for line in block.splitlines():
                if line.startswith("make "):
                    assert f"\n{line.split()[1]}:" in makefile, line


def test_the_table_of_settings_is_complete_and_true() -> None:
    table = {row[0].strip("`"): row for row in documents.rows(documents.ROOT / "docs" / "reference" / "settings.md")}
    fields = configured.Settings.model_fields
    for name, field in fields.items():
        _, _, default, meaning = table[configured.variable(name)]
        assert default.strip("`") == ("" if field.default is None else str(field.default)), name
        assert meaning.replace("`", "") == field.description, name
    assert len([name for name in table if name.startswith("PG_SEMANTIC_")]) == len(fields)


def test_the_table_of_checks_is_complete() -> None:
    named = [row[0].strip("`") for row in documents.rows(documents.ROOT / "docs" / "reference" / "doctor.md")[2:]]
    apart = [missed_recall.NAME, missing_prompts.NAME, build_memory.NAME, spent_budget.NAME, pooler.NAME]
    assert named == [*(check.name for check in CHECKS), *apart]


def test_every_path_that_the_architecture_page_names_is_there() -> None:
    for row in documents.rows(documents.ROOT / "docs" / "contributing" / "architecture.md")[2:]:
        for name in row[0].replace("`", "").split():
            path = documents.ROOT / "pg_semantic" / name
            assert path.is_dir() or path.with_suffix(".py").exists(), name


def test_each_data_folder_says_where_its_data_comes_from() -> None:
    for folder in {path.parent for path in documents.ROOT.glob("*/**/*.jsonl.gz") if ".venv" not in path.parts}:
        assert "icen" in (folder / "SOURCE.md").read_text(), folder
