"""A column that policies compare, carried into chunks and receipts: no row has to be asked for in the source."""

import dataclasses
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pg_semantic import SemanticIndex, errors, generations, search, sql
from pg_semantic.alembic_plugin import arguments
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, repair, verify
from pg_semantic.worker import key_changes, privileges
from tests.db import test_cli as shell
from tests.db.library import execute, generation_of, jobs, rows, sync


class Base(DeclarativeBase): ...


class Note(Base):
    __tablename__ = "note"
    __table_args__ = (sa.UniqueConstraint("tenant", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    body: Mapped[str]

    semantic = SemanticIndex("body", encoder="hashed:32", policy_column="tenant")


OTHER = EncoderSpec("hashed:48", 48)
KIND = "SELECT semantic.row_visibility_v1(id) FROM semantic.generation ORDER BY id"


@pytest.fixture
def notes(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Ten rows of two tenants, which a role sees by a setting."""
    Base.metadata.create_all(engine)
    role = role_of(engine)
    execute(engine, f"CREATE ROLE {role}; GRANT SELECT ON note TO {role}")
    execute(engine, "ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    execute(engine, "CREATE POLICY own ON note USING (tenant = current_setting('app.tenant'))")
    fill = "INSERT INTO note SELECT i, (ARRAY['Ada', 'Bob'])[1 + i % 2], 'words ' || i FROM generate_series(1, 10) AS i"
    execute(engine, fill)
    privileges.follow(engine)
    sync(engine)
    yield engine
    execute(engine, f"DROP OWNED BY {role}; DROP ROLE {role}")


def role_of(engine: sa.Engine) -> str:
    return f"tenant_{str(engine.url.database)[-8:]}"


def seen(engine: sa.Engine, tenant: str, table: str = "note_semantic") -> set[int]:
    with engine.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {role_of(engine)}"))
        connection.execute(sa.select(sa.func.set_config("app.tenant", tenant, True)))
        return set(connection.scalars(sa.select(sa.column("id")).select_from(sa.table(table))))


def test_a_tenant_sees_its_own_chunks_and_receipts_by_their_own_column(notes: sa.Engine) -> None:
    assert rows(notes, KIND) == [("local",)]
    for table in ("note", "note_semantic", "note_semantic_receipt"):
        assert seen(notes, "Ada", table) == {2, 4, 6, 8, 10}
        assert seen(notes, "Bob", table) == {1, 3, 5, 7, 9}
        assert seen(notes, "Eve", table) == set()
    assert privileges.due(notes)[0].statements == ()


def test_a_row_that_is_given_to_another_tenant_takes_its_chunks_along_in_the_same_statement(notes: sa.Engine) -> None:
    with notes.begin() as connection:
        connection.execute(sa.text("UPDATE note SET tenant = 'Bob' WHERE id = 2"))
        for table in ("note_semantic", "note_semantic_receipt"):
            assert connection.scalar(sa.text(f"SELECT tenant FROM {table} WHERE id = 2")) == "Bob"
    assert seen(notes, "Ada") == {4, 6, 8, 10}


def test_a_row_that_changes_tenant_and_text_and_key_is_synced_under_its_new_ones(notes: sa.Engine) -> None:
    execute(notes, "UPDATE note SET tenant = 'Bob', body = 'other words', id = 20 WHERE id = 2")
    execute(notes, "DELETE FROM note WHERE id = 4")
    sync(notes)
    assert seen(notes, "Ada") == {6, 8, 10}
    assert seen(notes, "Bob") == {1, 3, 5, 7, 9, 20}
    assert verify.verify(notes, generation_of(notes, "note_semantic")).clean


def test_searches_of_a_tenant_find_its_rows_in_every_mode(notes: sa.Engine) -> None:
    vector = [0.1] * 32
    for statement in (
        search.knn(Note.semantic, vector, limit=10),
        search.lexical(Note.semantic, "words", limit=10),
        search.hybrid(Note.semantic, vector, "words", limit=10),
    ):
        with Session(notes) as session:
            session.execute(sa.text(f"SET LOCAL ROLE {role_of(notes)}; SET LOCAL app.tenant = 'Ada'"))
            assert {row[0].id for row in session.execute(statement)} == {2, 4, 6, 8, 10}


@pytest.mark.parametrize(("kind", "said"), [("local", "columns that chunks"), ("source", "policies query the table")])
def test_a_plan_says_how_rows_are_hidden_and_why_words_are_read_without_their_index(
    notes: sa.Engine, kind: str, said: str
) -> None:
    if kind == "source":
        execute(notes, "ALTER POLICY own ON note USING (tenant = current_setting('app.tenant') AND body <> '')")
        privileges.follow(notes)
    statement = search.lexical(Note.semantic, "words", limit=10)
    with Session(notes) as session:
        assert not any("Row-level security" in note for note in search.explain(session, statement).notes)
        session.execute(sa.text(f"SET LOCAL ROLE {role_of(notes)}; SET LOCAL app.tenant = 'Ada'"))
        plan = search.explain(session, statement)
    assert any(said in note for note in plan.notes)
    assert any("note_semantic_lexemes_idx cannot be used" in reason for reason in plan.reasons)


def test_words_are_found_by_their_index_once_their_operator_is_leakproof_and_no_other_rows_are(
    notes: sa.Engine,
) -> None:
    execute(notes, "DROP INDEX note_semantic_receipt_tenant_idx")
    execute(notes, "ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF")
    statement = search.lexical(Note.semantic, "words", limit=10)
    with Session(notes) as session:
        session.execute(sa.text(f"SET LOCAL ROLE {role_of(notes)}; SET LOCAL app.tenant = 'Ada'"))
        assert not any("cannot be used" in reason for reason in search.explain(session, statement).reasons)
        session.execute(sa.text("SET LOCAL enable_seqscan = off"))
        assert "note_semantic_lexemes_idx" in str(search.explain(session, statement))
        assert {row[0].id for row in session.execute(statement)} == {2, 4, 6, 8, 10}


def test_a_copy_carries_the_column_too(notes: sa.Engine) -> None:
    live = generation_of(notes, "note_semantic")
    generations.begin(notes, live, dataclasses.replace(live.spec, encoder=OTHER))
    sync(notes)
    generations.switch(notes, "note_semantic")
    assert rows(notes, KIND) == [("local",), ("local",)]
    for table in ("note_semantic", "note_semantic__previous"):
        assert seen(notes, "Ada", table) == {2, 4, 6, 8, 10}


def move(engine: sa.Engine) -> set[object]:
    """Gives Ada's row 2 to Bob in the source; gives whose it is in chunks and receipts."""
    execute(engine, "UPDATE note SET tenant = 'Bob' WHERE id = 2")
    return owners(engine)


def owners(engine: sa.Engine) -> set[object]:
    """Whose row 2 is by chunks and receipts."""
    stored = "SELECT tenant FROM note_semantic WHERE id = 2 UNION SELECT tenant FROM note_semantic_receipt WHERE id = 2"
    return {tenant for (tenant,) in rows(engine, stored)}


@pytest.mark.parametrize("by", ["worker", "operator"])
def test_a_key_that_is_altered_is_adapted_to_and_rows_still_take_their_chunks_to_another_tenant(
    notes: sa.Engine, by: str
) -> None:
    execute(notes, "ALTER TABLE note ALTER id TYPE bigint")
    if by == "operator":
        assert key_changes.refresh(notes, generation_of(notes, "note_semantic"))
    sync(notes)
    kinds = "SELECT DISTINCT format_type(atttypid, NULL) FROM pg_attribute WHERE attname = 'id' AND attrelid IN "
    assert rows(notes, kinds + "(to_regclass('note_semantic'), to_regclass('note_semantic_receipt'))") == [("bigint",)]
    assert move(notes) == {"Bob"}
    assert seen(notes, "Ada") == {4, 6, 8, 10}


def test_a_refresh_that_is_refused_leaves_chunks_that_follow_their_row_to_another_tenant(notes: sa.Engine) -> None:
    execute(notes, "ALTER TABLE note ALTER id TYPE bigint; CREATE VIEW mine AS SELECT id FROM note_semantic")
    with pytest.raises(sa.exc.DBAPIError, match="mine"):
        key_changes.refresh(notes, generation_of(notes, "note_semantic"))
    assert move(notes) == {"Bob"}


@pytest.mark.parametrize("by", ["worker", "doctor"])
@pytest.mark.parametrize("table", ["note_semantic", "note_semantic_receipt"])
def test_a_foreign_key_without_the_carried_column_is_put_right(notes: sa.Engine, table: str, by: str) -> None:
    execute(notes, f"ALTER TABLE {table} DROP CONSTRAINT {table}_id_tenant_fkey")
    execute(notes, f"ALTER TABLE {table} ADD FOREIGN KEY (id) REFERENCES note ON UPDATE CASCADE ON DELETE CASCADE")
    if by == "worker":
        sync(notes)
    else:
        with notes.connect() as connection:
            [found] = connection.execute(sql.statement("doctor", "foreign_keys"))
        execute(notes, found.repair)
    execute(notes, "UPDATE note SET tenant = 'Bob', id = 20 WHERE id = 4")
    assert move(notes) == {"Bob"}
    assert seen(notes, "Ada", table) == {6, 8, 10}


REPLICA = "SET LOCAL session_replication_role = replica; "
UNLINKED = (
    "ALTER TABLE note_semantic DROP CONSTRAINT note_semantic_id_tenant_fkey; "
    "ALTER TABLE note_semantic_receipt DROP CONSTRAINT note_semantic_receipt_id_tenant_fkey; "
)
MOVED = "UPDATE note SET tenant = 'Bob' WHERE id = 2"
PAPER = "CREATE TABLE paper (LIKE note INCLUDING ALL); INSERT INTO paper SELECT * FROM note; "
SWAP = "ALTER TABLE note RENAME TO old_note; ALTER TABLE paper RENAME TO note; DROP TABLE old_note CASCADE"
VALID = "SELECT bool_and(convalidated), count(*) FROM pg_constraint WHERE confrelid = to_regclass('note')"


@pytest.mark.parametrize(
    ("change", "encoded"),
    [
        (REPLICA + MOVED, 0),
        (REPLICA + "UPDATE note SET tenant = 'Bob', body = 'other words' WHERE id = 2", 1),
        ("ALTER TABLE note DISABLE TRIGGER note_semantic_capture_replica; " + REPLICA + MOVED, 0),
        (UNLINKED + MOVED, 0),
        (UNLINKED + "UPDATE note SET tenant = 'Bob', body = 'other words' WHERE id = 2", 1),
    ],
)
def test_a_row_that_changes_tenant_where_no_foreign_key_follows_takes_its_chunks_along_once_a_worker_runs(
    notes: sa.Engine, change: str, encoded: int
) -> None:
    execute(notes, change)
    assert owners(notes) == {"Ada"}
    assert sync(notes).chunks_encoded == encoded
    sync(notes)
    assert owners(notes) == {"Bob"}
    assert seen(notes, "Ada") == {4, 6, 8, 10}
    assert rows(notes, VALID) == [(True, 2)]


def switch(engine: sa.Engine, policy_column: str | None) -> None:
    """Changes the declaration by a copy."""
    live = generation_of(engine, "note_semantic")
    generations.begin(engine, live, dataclasses.replace(live.spec, policy_column=policy_column))
    sync(engine)
    generations.switch(engine, "note_semantic")


def test_a_copy_that_adds_the_column_follows_rows_that_change_tenant_where_no_foreign_key_does(
    notes: sa.Engine,
) -> None:
    switch(notes, None)
    generations.drop(notes, "note_semantic", "previous", grace_seconds=0)
    switch(notes, "tenant")
    execute(notes, REPLICA + MOVED)
    sync(notes)
    sync(notes)
    assert owners(notes) == {"Bob"}


def test_a_table_that_an_index_is_moved_to_says_whose_each_row_is(notes: sa.Engine, dsn: str) -> None:
    execute(notes, PAPER + "UPDATE paper SET tenant = 'Bob' WHERE id = 2; " + SWAP)
    shell.ok("index", "adopt", "note_semantic", "--yes", dsn=dsn)
    assert sync(notes).chunks_encoded == 0
    sync(notes)
    assert owners(notes) == {"Bob"}
    assert rows(notes, VALID) == [(True, 2)]


def test_verify_finds_chunks_of_another_tenant_than_their_row_and_repair_has_them_put_right(notes: sa.Engine) -> None:
    execute(notes, REPLICA + MOVED + "; DELETE FROM semantic.mark")
    generation = generation_of(notes, "note_semantic")
    found = verify.verify(notes, generation)
    assert (found.stale, found.keys) == (1, {"stale": ["2"]})
    repair.repair(notes, generation)
    assert jobs(notes) == {"2"}
    sync(notes)
    assert owners(notes) == {"Bob"}
    assert verify.verify(notes, generation).clean


def test_a_row_that_changes_tenant_during_a_refresh_takes_its_chunks_along_at_the_end_of_it(notes: sa.Engine) -> None:
    generation = generation_of(notes, "note_semantic")
    execute(notes, "ALTER TABLE note ALTER id TYPE bigint; " + UNLINKED + MOVED)
    assert key_changes.refresh(notes, generation)
    assert owners(notes) == {"Bob"}
    assert rows(notes, VALID) == [(True, 2)]


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ("tenant = current_setting('app.tenant')", "local"),
        ("tenant IN (SELECT current_setting('app.tenant'))", "local"),
        ("id > 4 AND tenant = current_setting('app.tenant')", "local"),
        ("body <> '' AND tenant = current_setting('app.tenant')", "source"),
        ("note IS NOT NULL AND tenant = current_setting('app.tenant')", "source"),
        ("EXISTS (SELECT FROM pg_roles WHERE note.tenant = current_setting('app.tenant'))", "source"),
    ],
)
def test_policies_that_look_at_other_columns_ask_the_source(notes: sa.Engine, policy: str, kind: str) -> None:
    execute(notes, f"DROP POLICY own ON note; CREATE POLICY other ON note USING ({policy})")
    privileges.follow(notes)
    assert rows(notes, KIND) == [(kind,)]
    assert seen(notes, "Ada") == seen(notes, "Ada", "note") != set()


def test_policies_of_every_kind_and_for_some_roles_are_carried_and_followed(notes: sa.Engine) -> None:
    execute(notes, "CREATE POLICY few ON note AS RESTRICTIVE USING (id % 4 = 0)")
    execute(notes, f"CREATE POLICY more ON note FOR SELECT TO {role_of(notes)} USING (id = 1)")
    execute(notes, "CREATE POLICY writers ON note FOR UPDATE USING (true)")
    privileges.follow(notes)
    assert seen(notes, "Ada") == seen(notes, "Ada", "note") == {4, 8}
    execute(notes, "DROP POLICY few ON note; ALTER POLICY own ON note USING (tenant <> current_setting('app.tenant'))")
    privileges.follow(notes)
    assert seen(notes, "Ada") == seen(notes, "Ada", "note") == {1, 3, 5, 7, 9}
    execute(notes, "DROP POLICY own ON note; DROP POLICY more ON note")
    privileges.follow(notes)
    assert seen(notes, "Ada") == seen(notes, "Ada", "note") == set()


def test_a_role_that_cannot_read_the_carried_column_cannot_read_it_in_the_index(notes: sa.Engine) -> None:
    role = role_of(notes)
    allowed = (
        f"SELECT has_any_column_privilege('{role}', part, 'SELECT') FROM semantic.generation, "
        "unnest(ARRAY[chunks, receipts, to_regclass('semantic.chunks_' || id)]) AS part"
    )
    for columns, reads in (("id, body", False), ("id, tenant, body", True)):
        execute(notes, f"REVOKE ALL ON note FROM {role}; GRANT SELECT ({columns}) ON note TO {role}")
        privileges.follow(notes)
        assert rows(notes, allowed) == [(reads,)] * 3, columns


def test_an_index_that_is_declared_is_the_one_that_a_migration_creates() -> None:
    spec = Note.semantic.spec
    written = arguments.written(spec)
    assert written["policy_column"] == "tenant"
    assert arguments.spec(spec.name, spec.table, written.pop("columns"), **written) == spec
    assert "policy_column" not in arguments.written(dataclasses.replace(spec, policy_column=None))


def test_a_column_of_the_key_is_carried_already(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE paper (tenant integer, id integer, body text, PRIMARY KEY (tenant, id))")
    execute(engine, "ALTER TABLE paper ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON paper USING (tenant = 1)")
    made(engine, "paper", "tenant")
    assert rows(engine, KIND) == [("local",)]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("missing", "has no column missing, which policy_column names"),
        ("team", r"NOT NULL and unique together .*ADD UNIQUE \(id, team\)"),
        ("tenant", r"NOT NULL and unique together .*ALTER COLUMN tenant SET NOT NULL, ADD UNIQUE \(id, tenant\)"),
        ("partly", "NOT NULL and unique together"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_what_to_run(engine: sa.Engine, column: str, said: str) -> None:
    execute(
        engine,
        "CREATE TABLE paper (id integer PRIMARY KEY, body text, team integer NOT NULL, tenant integer, "
        "partly integer NOT NULL, UNIQUE (id, tenant)); CREATE UNIQUE INDEX ON paper (id, partly) WHERE id > 1",
    )
    with pytest.raises(errors.PgSemanticError, match=said):
        made(engine, "paper", column)
    assert rows(engine, "SELECT to_regclass('paper_semantic')") == [(None,)]


def made(engine: sa.Engine, table: str, column: str) -> None:
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, table, columns=("body",), encoder=EncoderSpec("hashed:32", 32), policy_column=column
        )
    create_index.create(engine, spec)
