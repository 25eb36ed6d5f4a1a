"""Operations of migrations as text: what was written is what will be run."""

import dataclasses
from typing import Any

import pytest
from alembic.autogenerate import render_python_code
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import UpgradeOps
from alembic.runtime.migration import MigrationContext

from pg_semantic import alembic_plugin, errors
from pg_semantic.alembic_plugin.operations import (
    AlterSemanticIndexOp,
    CreateSemanticIndexOp,
    DropSemanticIndexOp,
    RevertSemanticIndexOp,
    SemanticIndexOp,
    SetRecallObjectiveOp,
)
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import Compressed, EncoderSpec, Hnsw, IndexSpec, KeyColumn, Lexical

PLAIN = IndexSpec(
    name="article_semantic",
    table="article",
    key=(KeyColumn("id", "integer"),),
    columns=("title", "body"),
    encoder=EncoderSpec("sentence-transformers/all-MiniLM-L6-v2", 384),
)
OTHER = IndexSpec(
    name='it\'s "one"',
    table="100%",
    schema="a.b",
    key=(KeyColumn("site", "varchar(20)"), KeyColumn("number", "numeric(10, 2)")),
    columns=("\\",),
    encoder=EncoderSpec("hashed:8", 8),
    chunking=Chunking(max_tokens=64, overlap_tokens=8),
    storage="vector",
    compressed=Compressed(bits=True),
    hnsw=Hnsw(m=24, ef_construction=100),
    lexical=Lexical("german", k1=2, b=0),
)
WITHOUT = IndexSpec(
    name="article_semantic",
    table="article",
    key=(KeyColumn("id", "integer"),),
    columns=("title",),
    encoder=EncoderSpec("hashed:8", 8),
    chunking=None,
    lexical=None,
)


class Recording(Operations):
    """Alembic's operations, of which it is noted what would be invoked."""

    def __init__(self) -> None:
        super().__init__(MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True}))
        self.invoked: list[MigrateOperation] = []

    def invoke(self, operation: MigrateOperation) -> Any:
        self.invoked.append(operation)


@pytest.fixture(autouse=True)
def registered() -> None:
    alembic_plugin.register()
    alembic_plugin.register()


def written(operation: MigrateOperation) -> str:
    lines = render_python_code(UpgradeOps([operation])).splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if not line.strip().startswith("#"))


def run(text: str) -> SemanticIndexOp:
    """The operation that a migration's text invokes, given nothing but ``op``."""
    op = Recording()
    exec(text, {"op": op})  # noqa: S102 - as Alembic does
    [invoked] = op.invoked
    assert isinstance(invoked, SemanticIndexOp)
    return invoked


@pytest.mark.parametrize("spec", [PLAIN, OTHER, WITHOUT], ids=["plain", "other", "without"])
def test_a_written_creation_makes_what_was_declared(spec: IndexSpec) -> None:
    again = run(written(CreateSemanticIndexOp(spec)))
    assert isinstance(again, CreateSemanticIndexOp)
    assert again.spec == spec


@pytest.mark.parametrize("spec", [PLAIN, OTHER, WITHOUT], ids=["plain", "other", "without"])
def test_a_written_drop_drops_what_was_made(spec: IndexSpec) -> None:
    again = run(written(DropSemanticIndexOp(spec)))
    assert isinstance(again, DropSemanticIndexOp)
    assert texts(again) == texts(DropSemanticIndexOp(spec))


def texts(operation: SemanticIndexOp) -> list[str]:
    dialect = Recording().migration_context.dialect
    return [str(statement.compile(dialect=dialect)) for statement in operation.statements()]


@pytest.mark.parametrize("kind", [AlterSemanticIndexOp, RevertSemanticIndexOp])
@pytest.mark.parametrize(("target", "was"), [(PLAIN, WITHOUT), (WITHOUT, PLAIN)], ids=["more", "less"])
def test_a_written_change_has_what_is_and_what_was(
    kind: type[AlterSemanticIndexOp | RevertSemanticIndexOp], target: IndexSpec, was: IndexSpec
) -> None:
    again = run(written(kind(target, was)))
    assert isinstance(again, kind)
    assert (again.spec, again.was) == (target, was)


@pytest.mark.parametrize(
    "operation",
    [
        CreateSemanticIndexOp(PLAIN),
        DropSemanticIndexOp(PLAIN),
        AlterSemanticIndexOp(PLAIN, WITHOUT),
        RevertSemanticIndexOp(PLAIN, WITHOUT),
    ],
    ids=lambda operation: operation.NAME,
)
def test_what_undoes_the_undoing_is_the_operation(operation: SemanticIndexOp) -> None:
    assert type(operation.reverse()) is not type(operation)
    assert written(operation.reverse().reverse()) == written(operation)


@pytest.mark.parametrize(("objective", "was"), [(0.95, None), (None, 0.9)])
def test_a_recall_objective_is_written_with_what_was(objective: float | None, was: float | None) -> None:
    operation = SetRecallObjectiveOp(dataclasses.replace(PLAIN, recall_objective=objective), was)
    assert written(operation) == f"op.set_recall_objective('article_semantic', 'article', {objective}, was={was})"
    again = run(written(operation))
    assert texts(again) == texts(operation)
    assert written(again.reverse()) == f"op.set_recall_objective('article_semantic', 'article', {was}, was={objective})"


def test_an_alteration_reads_well() -> None:
    assert written(AlterSemanticIndexOp(WITHOUT, PLAIN)) == (
        "op.alter_semantic_index(\n"
        "    'article_semantic', 'article', ['title'],\n"
        "    key={'id': 'integer'},\n"
        "    encoder='hashed:8',\n"
        "    dimensions=8,\n"
        "    chunking=None,\n"
        "    storage='halfvec',\n"
        "    hnsw={'m': 16, 'ef_construction': 64},\n"
        "    lexical=None,\n"
        "    was={\n"
        "        'columns': ['title', 'body'],\n"
        "        'encoder': 'sentence-transformers/all-MiniLM-L6-v2',\n"
        "        'dimensions': 384,\n"
        "        'chunking': {'max_tokens': None, 'overlap_tokens': 0},\n"
        "        'lexical': {'config': 'english', 'k1': 1.2, 'b': 0.75},\n"
        "    },\n"
        ")"
    )


def test_a_value_that_is_left_out_is_asked_for() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'hnsw'"):
        run(written(CreateSemanticIndexOp(PLAIN)).replace("    hnsw={'m': 16, 'ef_construction': 64},\n", ""))


def test_a_value_that_can_not_be_is_refused() -> None:
    with pytest.raises(errors.DeclarationError, match="m=1"):
        run(written(CreateSemanticIndexOp(PLAIN)).replace("'m': 16", "'m': 1"))
