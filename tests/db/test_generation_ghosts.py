"""Copies whose tables went, or moved, without a word to us: they are forgotten, or it is said what to run."""

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from pg_semantic import cli, errors, generations
from pg_semantic.operations import create_index, repair, verify
from tests.db import copies
from tests.db.copies import NAME, OTHER, all_of, begin, roles, switched
from tests.db.library import Base, execute, generation_of, rows, sync

fill = copies.fill  # for the fixture filled

SEARCH = "SELECT count(*) FROM pg_proc WHERE proname = 'article_semantic_search'"


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


def lose(engine: sa.Engine, role: str) -> None:
    execute(engine, f"DROP TABLE article_semantic__{role}, article_semantic__{role}_receipt CASCADE")


def edit(engine: sa.Engine) -> set[int]:
    """Edits a row; the generations that it is marked for."""
    execute(engine, "DELETE FROM semantic.mark; UPDATE article SET title = title || ' new' WHERE id = 1")
    return {number for (number,) in rows(engine, "SELECT generation_id FROM semantic.mark")}


def test_a_next_whose_tables_are_gone_does_not_stand_in_the_way_of_another(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    lose(synced, "next")
    begun = begin(synced, chunking=None)
    assert roles(synced) == ["live", "next"]
    assert edit(synced) == {1, begun.id}
    sync(synced)
    generations.switch(synced, NAME)


@pytest.mark.parametrize("role", ["next", "previous"])
def test_a_copy_whose_tables_are_gone_can_be_dropped(
    synced: sa.Engine, dsn: str, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    begin(synced, encoder=OTHER)
    sync(synced)
    if role == "previous":
        generations.switch(synced, NAME)
    lose(synced, role)
    live = generation_of(synced).id
    monkeypatch.setenv("PG_SEMANTIC_DSN", dsn)
    done = CliRunner().invoke(cli.app, ["generation", "drop", NAME, role])
    assert done.output == f"public.article_semantic no longer has a {role} generation.\n"
    assert roles(synced) == ["live"]
    assert edit(synced) == {live}
    with pytest.raises(errors.GenerationError, match=f"has no {role} generation"):
        generations.drop(synced, NAME, "next" if role == "next" else "previous", grace_seconds=0)


def test_a_drop_from_python_clears_too(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    lose(synced, "next")
    generations.drop(synced, NAME, "next", grace_seconds=0)
    assert roles(synced) == ["live"]


def test_a_previous_whose_tables_are_gone_is_cleared_by_repair(synced: sa.Engine) -> None:
    switched(synced, encoder=OTHER)
    lose(synced, "previous")
    execute(synced, "INSERT INTO semantic.job (generation_id, key) VALUES (1, '1'), (77, '1')")
    repair.repair(synced, generation_of(synced))
    assert roles(synced) == ["live"]
    assert rows(synced, "SELECT count(*) FROM semantic.job") == [(0,)]
    assert edit(synced) == {2}


def test_tables_that_are_there_are_left_alone_by_repair(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    for one in all_of(synced).values():
        repair.repair(synced, one)
    assert roles(synced) == ["live", "next"]


def test_a_whole_index_of_which_a_copy_is_gone_is_dropped(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    lose(synced, "next")
    Base.metadata.drop_all(synced)
    assert roles(synced) == []


def test_tables_left_over_from_a_source_that_was_dropped_are_dropped_too(synced: sa.Engine) -> None:
    begin(synced, encoder=OTHER)
    execute(synced, "DROP TABLE article CASCADE")
    Base.metadata.drop_all(synced)
    assert rows(synced, "SELECT relname FROM pg_class WHERE relname LIKE 'article%'") == []
    assert roles(synced) == []


def test_a_search_function_does_not_outlive_the_tables_that_it_searched(synced: sa.Engine) -> None:
    assert rows(synced, SEARCH) == [(1,)]
    execute(synced, "DROP TABLE article, article_semantic, article_semantic_receipt CASCADE")
    execute(synced, "DROP FUNCTION article_semantic_capture")
    execute(synced, "CREATE TABLE other (id int PRIMARY KEY, title text)")
    with synced.connect() as connection:
        spec = create_index.describe(connection, "other", columns=("title",), encoder=OTHER)
    create_index.create(synced, spec)
    assert rows(synced, SEARCH) == [(0,)]


def test_an_index_whose_table_moved_is_refused_with_what_to_run(synced: sa.Engine) -> None:
    switched(synced, encoder=OTHER)
    execute(synced, "CREATE SCHEMA shop")
    execute(synced, "ALTER TABLE article SET SCHEMA shop")
    with pytest.raises(errors.DeclarationError, match="moved to schema 'shop' without its semantic index") as refusal:
        sync(synced)
    with pytest.raises(errors.GenerationError, match=r"another schema.*article_semantic SET SCHEMA shop"):
        begin(synced, chunking=None)
    assert rows(synced, "SELECT count(*) FROM pg_class WHERE relname LIKE 'article\\_semantic%\\_next'") == [(0,)]
    statements = str(refusal.value).partition("Move all of it next to the table: ")[2].removesuffix(".")
    assert statements.startswith("ALTER TABLE public.article_semantic SET SCHEMA shop; ALTER TABLE")
    execute(synced, statements)
    execute(synced, "UPDATE shop.article SET title = 'walnut' WHERE id = 1")
    sync(synced)
    assert [one.qualified_name for one in all_of(synced).values()] == ["shop.article_semantic"] * 2
    assert all(verify.verify(synced, one).clean for one in all_of(synced).values())
    generations.rollback(synced, NAME)
    generations.drop(synced, NAME, "next", grace_seconds=0)
    begun = begin(synced, columns=("lang",))
    execute(synced, "UPDATE shop.article SET lang = 'de' WHERE id = 2")
    assert rows(synced, "SELECT generation_id FROM semantic.mark ORDER BY 1") == [(1,), (begun.id,)]
    found = rows(synced, "SELECT id FROM shop.article_semantic_search('walnut', 1, mode => 'lexical')")
    assert found == [(1,)]
