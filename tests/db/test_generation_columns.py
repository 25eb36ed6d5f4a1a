"""The columns that copies of an index read: what may be begun, switched to, and gone back to when one is gone."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from pg_semantic import errors, generations
from pg_semantic.operations import verify
from tests.db import copies
from tests.db.copies import NAME, all_of, begin, switched
from tests.db.library import execute, generation_of, jobs, rows, sync

fill = copies.fill  # for the fixture filled


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def before_is_broken(synced: sa.Engine) -> sa.Engine:
    """The copy before reads a column that was dropped by hand."""
    switched(synced, columns=("title",))
    execute(synced, "ALTER TABLE article DROP COLUMN body")
    return synced


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (("title", "nope"), "Table public.article has no column nope.*Name existing text columns"),
        (("title", "id"), "Column id of table public.article is not text but integer"),
    ],
)
def test_a_copy_is_begun_of_text_columns_alone(synced: sa.Engine, columns: tuple[str, ...], said: str) -> None:
    with pytest.raises(errors.GenerationError, match=said):
        begin(synced, columns=columns)
    assert list(all_of(synced)) == ["live"]


def test_a_column_without_a_name_is_refused(synced: sa.Engine) -> None:
    with pytest.raises(errors.DeclarationError, match="has an empty column name"):
        begin(synced, columns=("lang", "", "title"))


def test_columns_of_every_kind_of_text_are_text(synced: sa.Engine) -> None:
    execute(
        synced,
        "CREATE DOMAIN note AS varchar(9); ALTER TABLE article ADD a note, ADD b char(3), ADD c varchar, ADD d name",
    )
    begin(synced, columns=("a", "b", "c", "d"))
    sync(synced)


@pytest.mark.parametrize(
    "step",
    [
        lambda engine: generations.switch(engine, NAME, force=True),
        lambda engine: generations.switch(engine, NAME),
    ],
    ids=["forced", "gated"],
)
def test_a_copy_that_reads_a_column_that_is_gone_is_not_switched_to(
    synced: sa.Engine, step: Callable[[sa.Engine], None]
) -> None:
    begin(synced, columns=("title", "body"), storage="vector")
    sync(synced)
    execute(synced, "ALTER TABLE article DROP COLUMN body")
    with pytest.raises(errors.PgSemanticError, match=r"body.*generation drop"):
        step(synced)
    assert generation_of(synced).spec.storage == "halfvec"


def test_a_copy_that_reads_a_column_that_is_gone_is_not_gone_back_to(before_is_broken: sa.Engine) -> None:
    with pytest.raises(errors.GenerationError, match=r"no column body.*can only be dropped"):
        generations.rollback(before_is_broken, NAME)
    assert generation_of(before_is_broken).spec.columns == ("title",)


def test_a_worker_names_the_copy_that_is_in_the_way_and_without_it_all_is_well(before_is_broken: sa.Engine) -> None:
    execute(before_is_broken, "UPDATE article SET title = 'new' WHERE id = 1")
    with pytest.raises(errors.DatabaseError, match="`pg-semantic generation drop article_semantic previous` drops it"):
        sync(before_is_broken)
    generations.drop(before_is_broken, NAME, "previous", grace_seconds=0)
    assert sync(before_is_broken).chunks_encoded <= 1
    execute(before_is_broken, "UPDATE article SET lang = 'de' WHERE id = 1")
    assert jobs(before_is_broken) == set()
    assert verify.verify(before_is_broken, generation_of(before_is_broken)).clean


def test_writes_go_on_as_if_a_copy_did_not_read_what_is_gone_once_triggers_are_made_anew(
    before_is_broken: sa.Engine,
) -> None:
    begin(before_is_broken, columns=("title", "lang"))
    with pytest.raises(errors.DatabaseError):
        sync(before_is_broken)
    execute(before_is_broken, "DELETE FROM semantic.mark; DELETE FROM semantic.job")
    execute(before_is_broken, "UPDATE article SET title = 'new' WHERE id = 1")
    execute(before_is_broken, "UPDATE article SET id = id")
    assert rows(before_is_broken, "SELECT DISTINCT key FROM semantic.mark") == [("1",)]


def test_a_copy_whose_column_comes_back_is_true_again(synced: sa.Engine) -> None:
    execute(synced, """ALTER TABLE article ADD "it's %" text""")
    switched(synced, columns=("title", "it's %"))
    generations.drop(synced, NAME, "previous", grace_seconds=0)
    switched(synced, columns=("title",))
    execute(synced, """ALTER TABLE article RENAME "it's %" TO other""")
    begin(synced, columns=("title", "lang"))
    execute(synced, "UPDATE article SET other = 'meanwhile' WHERE id = 1")
    execute(synced, """ALTER TABLE article RENAME other TO "it's %" """)
    sync(synced)
    execute(synced, """UPDATE article SET "it's %" = 'afterwards' WHERE id = 2""")
    sync(synced)
    generations.drop(synced, NAME, "next", grace_seconds=0)
    generations.rollback(synced, NAME)
    assert generation_of(synced).spec.columns == ("title", "it's %")
    assert verify.verify(synced, generation_of(synced)).clean
