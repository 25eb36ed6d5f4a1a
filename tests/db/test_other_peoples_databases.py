"""What other people's databases do to a semantic index, and what the package says or does about it."""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from pg_semantic import Searcher, database, errors, jobqueue
from pg_semantic.database import embedded, migrate, schema_check
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.operations import create_index, doctor, status, verify
from pg_semantic.search.request import Mode
from pg_semantic.settings import Settings
from pg_semantic.worker import index_builder
from tests.db import test_cli as shell
from tests.db.library import (
    CLEAN,
    ENCODER,
    Article,
    Base,
    encoder,
    execute,
    generation_of,
    jobs,
    read_of,
    rows,
    sync,
    truth,
)

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


def create(engine: sa.Engine, table: str, *columns: str, **options: Any) -> None:
    with engine.connect() as connection:
        spec = create_index.describe(connection, table, columns=columns, encoder=EncoderSpec(ENCODER, 32), **options)
    create_index.create(engine, spec)


def fill(engine: sa.Engine) -> None:
    execute(engine, "INSERT INTO article SELECT i, 'harbour ' || i, NULL, 'en' FROM generate_series(1, 5) i")
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def role(engine: sa.Engine) -> Iterator[str]:
    name = f"other_{str(engine.url.database)[-8:]}"
    execute(engine, f"CREATE ROLE {name} LOGIN")
    yield name
    execute(engine, f"DROP OWNED BY {name} CASCADE")
    execute(engine, f"DROP ROLE {name}")


# Networks


def network_of(dsn: str) -> dict[str, str]:
    """What the connections of an engine of ours are told of the network."""
    engine = database.connect(dsn)
    with contextlib.closing(engine.raw_connection()) as raw:
        driver: Any = raw.driver_connection
        known = {option.keyword.decode(): option.val.decode() for option in driver.pgconn.info if option.val}
    engine.dispose()
    return known


def test_a_network_that_swallows_packets_is_noticed_within_minutes_unless_the_caller_says_otherwise(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = network_of(dsn)
    assert (known["keepalives_idle"], known["tcp_user_timeout"], known["connect_timeout"]) == ("30", "60000", "10")
    own = sa.make_url(dsn).update_query_dict({"keepalives_idle": "7"}).render_as_string(hide_password=False)
    assert network_of(own) == known | {"keepalives_idle": "7"}
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "4")
    assert network_of(dsn) == known | {"connect_timeout": "4"}


@pytest.mark.parametrize(
    "rest",
    [
        "u:a,b/c@127.0.0.1:1/db",
        "u:a,b@127.0.0.1:1/db?application_name=c,d",
        "/shop?host=127.0.0.1&port=1&application_name=me@work,night",
    ],
)
def test_a_comma_in_a_password_or_a_setting_is_none_between_hosts(rest: str) -> None:
    with pytest.raises(errors.DatabaseError, match=r"port 1\b"):
        database.connect(f"postgresql://{rest}")


@pytest.mark.parametrize(
    "hosts",
    [
        "127.0.0.1:1,127.0.0.1:2",
        "127.0.0.1:1,127.0.0.1:2/shop?target_session_attrs=any",
        "127.0.0.1:1,127.0.0.1:2/shop?application_name=me@work",
        "[::1]:1,127.0.0.1:2",
    ],
)
def test_several_hosts_may_be_written_as_libpq_has_them(hosts: str) -> None:
    with pytest.raises(errors.DatabaseError, match="port 2"):
        database.connect(f"postgresql://someone@{hosts}")


def test_hosts_and_ports_that_do_not_match_are_refused_in_words() -> None:
    with pytest.raises(errors.ConfigurationError, match="number of hosts and ports"):
        database.connect("postgresql:///shop?host=a,b&port=1,2,3")


# Backups and restores


def test_a_role_that_can_read_all_data_can_dump_a_database(synced: sa.Engine, role: str, tmp_path: Path) -> None:
    execute(synced, f"GRANT pg_read_all_data TO {role}")
    programs = embedded.psql(Path(str(synced.url.query["host"]))).parent
    url = synced.url.set(drivername="postgresql", username=role).render_as_string(hide_password=False)
    command = [str(programs / "pg_dump"), url, "--file", str(tmp_path / "dump")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "COPY semantic.term " in (tmp_path / "dump").read_text()


def test_chunks_that_a_restore_left_out_are_made_again(synced: sa.Engine) -> None:
    execute(synced, "TRUNCATE article_semantic")
    execute(synced, "SELECT semantic.restart_backfill_v1(id, 'restored', true) FROM semantic.semantic_index")
    sync(synced)
    assert rows(synced, "SELECT count(*) FROM article_semantic") == [(5,)]
    assert verify.verify(synced, generation_of(synced)).clean
    assert truth(synced) == CLEAN


def test_an_upgrade_does_not_pass_over_functions_that_went_with_pgvector(bare_dsn: str) -> None:
    engine = database.connect(bare_dsn)
    migrate.upgrade(engine)
    execute(engine, "DROP EXTENSION vector CASCADE")
    with pytest.raises(errors.NotInstalled, match=r"lacks functions .*embed.*DROP SCHEMA semantic CASCADE"):
        migrate.upgrade(engine)
    execute(engine, "DROP SCHEMA semantic CASCADE")
    migrate.upgrade(engine)
    assert schema_check.check(engine).ok
    engine.dispose()


# Encodings


@contextlib.contextmanager
def encoded(server: sa.URL, encoding: str) -> Iterator[sa.Engine]:
    """An engine of a database with this encoding, and our schema."""
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        how = f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(sa.text(f"CREATE DATABASE {name} {how}"))
        engine = database.connect(server.set(database=name).render_as_string(hide_password=False))
        migrate.upgrade(engine)
        yield engine
        engine.dispose()
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def test_a_query_with_characters_that_the_server_lacks_is_searched_for_without_them(server: sa.URL) -> None:
    with encoded(server, "LATIN1") as engine:
        Base.metadata.create_all(engine)
        execute(engine, "INSERT INTO article VALUES (1, 'harbour', NULL, 'en'), (2, 'engine', NULL, 'en')")
        sync(engine)
        for mode in MODES:
            with orm.Session(engine) as session:
                hits = Searcher(encoder()).search(
                    session, Article.semantic, "harbour \N{SHIP} it\N{RIGHT SINGLE QUOTATION MARK}s", mode=mode
                )
            assert hits[0].entity.id == 1, mode


@pytest.mark.parametrize(("encoding", "lacks"), [("WIN1251", "?"), ("KOI8R", "?"), ("UTF8", "\N{SHIP}")])
def test_only_what_the_server_lacks_is_left_out_of_a_query_whatever_its_encoding_is_called(
    server: sa.URL, encoding: str, lacks: str
) -> None:
    word = "\N{CYRILLIC SMALL LETTER KA}\N{CYRILLIC SMALL LETTER O}\N{CYRILLIC SMALL LETTER TE}"
    with encoded(server, encoding) as engine, engine.connect() as connection:
        assert database.searchable(f"{word} \N{SHIP}", connection) == f"{word} {lacks}"


def test_a_database_without_an_encoding_is_refused(server: sa.URL) -> None:
    with encoded(server, "SQL_ASCII") as engine:
        execute(engine, "CREATE TABLE note (id int PRIMARY KEY, words text)")
        with pytest.raises(errors.DeclarationError, match=r"SQL_ASCII.*UTF8"):
            create(engine, "note", "words")
        with pytest.raises(errors.DeclarationError, match=r"SQL_ASCII.*UTF8"):
            Base.metadata.create_all(engine)


# Keys


@pytest.mark.parametrize("kind", ["varchar(5)[]", "numeric(6,2)[]", "char(3)[]", "bit(3)[]", "timestamp(3)[]"])
def test_an_array_key_whose_elements_have_a_length_is_refused(engine: sa.Engine, kind: str) -> None:
    execute(engine, f"CREATE TABLE page (id {kind} PRIMARY KEY, words text)")
    with pytest.raises(errors.DeclarationError, match="foreign key to an array"):
        create(engine, "page", "words")


ENUMS = {
    "mood": "[draft]",
    "mood[]": "{live,[draft]}",
    "feeling[]": "{[draft]}",
    "reason": "(1,[draft])",
    "span": '[live,"[draft]"]',
}


@pytest.fixture
def moods(engine: sa.Engine) -> sa.Engine:
    """A database with an enum, and types that are made of it."""
    execute(engine, "CREATE TYPE mood AS ENUM ('live', '[draft]')")
    execute(engine, "CREATE DOMAIN feeling AS mood")
    execute(engine, "CREATE TYPE reason AS (n int, mood feeling)")
    execute(engine, "CREATE TYPE span AS RANGE (subtype = mood)")
    return engine


@pytest.mark.parametrize("kind", ["mood", "feeling", "mood[]", "feeling[]"])
def test_a_label_that_looks_like_a_list_is_renamed_in_the_text_of_every_row(moods: sa.Engine, kind: str) -> None:
    execute(moods, f"CREATE TABLE page (id int PRIMARY KEY, moods {kind})")
    create(moods, "page", "moods")
    execute(moods, "INSERT INTO page VALUES (1, :moods)", moods="{[draft]}" if kind.endswith("]") else "[draft]")
    sync(moods)
    execute(moods, "ALTER TYPE mood RENAME VALUE '[draft]' TO 'sketch'")
    sync(moods)
    [(content,)] = rows(moods, "SELECT content FROM page_semantic")
    assert "sketch" in content
    assert "draft" not in content
    assert verify.verify(moods, generation_of(moods, "page_semantic")).clean


def test_a_key_that_is_a_domain_over_an_enum_is_refused_since_the_server_has_no_foreign_key_to_it(
    moods: sa.Engine,
) -> None:
    execute(moods, "CREATE TABLE page (id feeling PRIMARY KEY, words text)")
    with pytest.raises(errors.DeclarationError, match="foreign key to a domain over an enum"):
        create(moods, "page", "words")


@pytest.mark.parametrize("kind", ENUMS)
def test_a_label_may_be_renamed_in_a_key_while_an_edit_waits(moods: sa.Engine, kind: str) -> None:
    execute(moods, f"CREATE TABLE page (id {kind} PRIMARY KEY, words text)")
    create(moods, "page", "words")
    execute(moods, "INSERT INTO page VALUES (:id, 'old')", id=ENUMS[kind])
    sync(moods)
    execute(moods, "UPDATE page SET words = 'new'")
    execute(moods, "ALTER TYPE mood RENAME VALUE '[draft]' TO 'sketch'")
    sync(moods)
    assert rows(moods, "SELECT content FROM page_semantic") == [("new",)]
    assert jobs(moods) == set()
    assert verify.verify(moods, generation_of(moods, "page_semantic")).clean


@pytest.mark.parametrize("key", ["state", "state, n"])
def test_a_label_of_an_enum_that_is_renamed_while_edits_wait_leaves_no_row_stale(engine: sa.Engine, key: str) -> None:
    execute(engine, "CREATE TYPE state AS ENUM ('draft', 'live')")
    execute(engine, f"CREATE TABLE page (state state, n int DEFAULT 1, words text, PRIMARY KEY ({key}))")
    create(engine, "page", "words")
    execute(engine, "INSERT INTO page VALUES ('draft', 1, 'one'), ('live', 1, 'two')")
    sync(engine)
    execute(engine, "UPDATE page SET words = 'new ' || words")
    execute(engine, "ALTER TYPE state RENAME VALUE 'draft' TO 'sketch'")
    sync(engine)
    assert set(rows(engine, "SELECT state::text, content FROM page_semantic")) == {
        ("sketch", "new one"),
        ("live", "new two"),
    }
    assert jobs(engine) == set()
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_a_backfill_that_stands_at_a_label_which_is_renamed_begins_again(engine: sa.Engine) -> None:
    execute(engine, "CREATE TYPE state AS ENUM ('draft', 'live')")
    execute(engine, "CREATE TABLE page (state state PRIMARY KEY, words text)")
    create(engine, "page", "words")
    execute(engine, "INSERT INTO page VALUES ('draft', 'one'), ('live', 'two')")
    execute(engine, "UPDATE semantic.generation SET backfill_after = 'draft'")
    execute(engine, "ALTER TYPE state RENAME VALUE 'draft' TO 'sketch'")
    sync(engine)
    assert rows(engine, "SELECT count(*) FROM page_semantic") == [(2,)]
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_the_check_of_a_domain_keeps_no_row_from_being_synced(engine: sa.Engine) -> None:
    execute(engine, "CREATE FUNCTION starts(text) RETURNS boolean LANGUAGE sql AS $$ SELECT $1 <> '' $$")
    execute(
        engine,
        "CREATE FUNCTION valid(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN starts($1); END $$",
    )
    execute(engine, "CREATE DOMAIN ref AS text CHECK (valid(VALUE))")
    execute(engine, "CREATE TABLE page (id ref PRIMARY KEY, words text)")
    create(engine, "page", "words")
    execute(engine, "INSERT INTO page VALUES ('old', 'one'), ('R2', 'two')")
    assert sync(engine).rows_failed == 0
    execute(engine, "ALTER DOMAIN ref ADD CONSTRAINT begins CHECK (VALUE LIKE 'R%') NOT VALID")
    execute(engine, "UPDATE page SET words = 'new ' || words WHERE id = 'R2'")
    execute(engine, "DELETE FROM page WHERE CAST(id AS text) = 'old'")
    assert sync(engine).rows_failed == 0
    assert rows(engine, "SELECT CAST(id AS text), content FROM page_semantic") == [("R2", "new two")]
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_a_key_that_is_a_domain_over_a_domain_is_not_taken_for_an_altered_one(engine: sa.Engine) -> None:
    execute(engine, "CREATE DOMAIN number AS numeric(8, 2)")
    execute(engine, "CREATE DOMAIN positive AS number CHECK (VALUE > 0)")
    execute(engine, "CREATE TABLE page (id positive PRIMARY KEY, words text)")
    create(engine, "page", "words")
    execute(engine, "INSERT INTO page VALUES (1.5, 'one')")
    sync(engine)
    kinds = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'page_semantic'::regclass"
    assert rows(engine, f"{kinds} AND attname = 'id'") == [("numeric(8,2)",)]
    assert rows(engine, "SELECT * FROM semantic.altered_key_columns_v1((SELECT id FROM semantic.semantic_index))") == []


def test_an_array_key_whose_elements_become_wider_is_adapted_to(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE page (id integer[] PRIMARY KEY, words text)")
    create(engine, "page", "words")
    execute(engine, "INSERT INTO page VALUES ('{1,2}', 'one')")
    sync(engine)
    for table in ("page_semantic", "page_semantic_receipt"):
        execute(engine, f"ALTER TABLE {table} DROP CONSTRAINT {table}_id_fkey")
    execute(engine, "ALTER TABLE page ALTER id TYPE bigint[]")
    assert sync(engine).chunks_encoded == 0
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


@pytest.mark.parametrize(
    ("old", "new", "castable"),
    [
        ("int[]", "bigint[]", True),
        ("text[]", "uuid[]", True),
        ("int[]", "positive[]", True),
        ("int[]", "uuid[]", False),
        ("real[]", "point", False),
    ],
)
def test_an_array_can_be_cast_to_one_whose_elements_can(engine: sa.Engine, old: str, new: str, castable: bool) -> None:
    execute(engine, "CREATE DOMAIN positive AS bigint")
    execute(engine, f"CREATE TABLE page (id {old} PRIMARY KEY, words text)")
    create(engine, "page", "words")
    with engine.connect() as connection:  # the table as it is after a DROP COLUMN and an ADD COLUMN
        connection.execute(sa.text("ALTER TABLE page DROP COLUMN id CASCADE"))
        connection.execute(sa.text(f"ALTER TABLE page ADD COLUMN id {new}"))
        found = connection.execute(
            sa.text(
                "SELECT DISTINCT castable FROM semantic.semantic_index "
                "CROSS JOIN semantic.altered_key_columns_v1(semantic_index.id)"
            )
        )
        assert found.all() == [(castable,)]


def test_a_key_that_becomes_a_domain_is_adapted_to_the_type_that_this_is_over(engine: sa.Engine) -> None:
    execute(engine, "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)")
    execute(engine, "CREATE TABLE page (id int PRIMARY KEY, words text)")
    create(engine, "page", "words")
    execute(engine, "INSERT INTO page VALUES (1, 'one')")
    sync(engine)
    execute(engine, "ALTER TABLE page ALTER COLUMN id TYPE positive")
    sync(engine)
    kinds = "SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'id'"
    own = "attrelid IN ('page_semantic'::regclass, 'page_semantic_receipt'::regclass)"
    assert rows(engine, f"{kinds} AND {own}") == [("bigint",)]
    assert verify.verify(engine, generation_of(engine, "page_semantic")).clean


def test_a_key_of_several_columns_is_filtered_by_as_many_values_of_each(engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE event (id int, at int, words text, PRIMARY KEY (at, id))")
    execute(engine, "INSERT INTO event SELECT i, i, 'harbour' FROM generate_series(1, 3) i")
    create(engine, "event", "words")
    sync(engine)
    asked = "SELECT id FROM event_semantic_search('harbour', 3, 'lexical', keys_at => ARRAY[1, 2]{})"
    assert len(rows(engine, asked.format(", keys_id => ARRAY[1, 2]"))) == 2
    for wrong in ("", ", keys_id => ARRAY[1]"):
        with pytest.raises(sa.exc.DBAPIError, match=r"different numbers of values: 2, (none|1)"):
            rows(engine, asked.format(wrong))


# Roles and privileges


def test_a_member_of_a_role_that_can_read_all_data_can_search(synced: sa.Engine, role: str, dsn: str) -> None:
    execute(synced, f"GRANT pg_read_all_data TO {role}")
    shell.ok("privileges", dsn=dsn)
    reader = sa.create_engine(synced.url.set(username=role))
    assert len(rows(reader, "SELECT id FROM article_semantic_search('harbour', 3, 'lexical')")) == 3
    reader.dispose()


def test_a_role_that_does_not_see_all_rows_can_ask_for_the_status(synced: sa.Engine, role: str, dsn: str) -> None:
    execute(synced, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(synced, f"GRANT SELECT ON article TO {role}")
    execute(synced, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    own = sa.make_url(dsn).set(username=role).render_as_string(hide_password=False)
    assert "public.article_semantic" in shell.ok("status", dsn=own)
    [index] = shell.parsed("status", dsn=own)["indexes"]
    assert (index["pending"], index["failed"]) == (None, None)


def test_grants_are_right_in_sessions_that_quote_every_name(synced: sa.Engine, role: str, dsn: str) -> None:
    execute(synced, f"GRANT SELECT ON article TO {role}")
    name = synced.url.database
    execute(synced, f'ALTER DATABASE "{name}" SET quote_all_identifiers = on')
    synced.dispose()
    shell.ok("privileges", dsn=dsn)
    execute(synced, "SELECT semantic.apply_schema_privileges_v1()")
    reader = sa.create_engine(synced.url.set(username=role))
    assert len(rows(reader, "SELECT id FROM article_semantic_search('harbour', 3, 'lexical')")) == 3
    reader.dispose()
    assert doctor.examine(synced, ignore=["worker"]) == []


def test_the_functions_for_searching_can_be_made_by_a_session_that_has_not_used_pgvector(
    synced: sa.Engine, role: str
) -> None:
    execute(synced, f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    for table in ("article", "article_semantic", "article_semantic_receipt"):
        execute(synced, f"ALTER TABLE {table} OWNER TO {role}")
    for function in ("article_semantic_capture", "article_semantic_capture_replica"):
        execute(synced, f"ALTER FUNCTION {function} OWNER TO {role}")
    execute(synced, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    execute(synced, "SELECT semantic.drop_search_function_v1(id) FROM semantic.semantic_index")
    owner = sa.create_engine(synced.url.set(username=role), poolclass=sa.NullPool)
    execute(owner, "SELECT semantic.create_search_function_v1(id) FROM semantic.semantic_index")
    assert len(rows(owner, "SELECT id FROM article_semantic_search('harbour', 3, 'lexical')")) == 3


# Other software in the database


def test_a_function_of_others_that_does_not_find_its_table_is_named(articles: sa.Engine, dsn: str) -> None:
    execute(articles, "CREATE TABLE ddl_log (tag text)")
    execute(
        articles,
        "CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO ddl_log SELECT command_tag FROM pg_event_trigger_ddl_commands(); END $$",
    )
    execute(articles, "CREATE EVENT TRIGGER log_ddl ON ddl_command_end EXECUTE FUNCTION log_ddl()")
    said = shell.error("generation", "begin", "article_semantic", "--encoder", "hashed:64", "--yes", dsn=dsn, code=3)
    assert "ALTER FUNCTION" in said
    assert "log_ddl SET search_path" in said
    execute(articles, "ALTER FUNCTION log_ddl SET search_path = public")
    shell.ok("generation", "begin", "article_semantic", "--encoder", "hashed:64", "--yes", dsn=dsn)


def test_an_index_that_a_reindex_has_left_behind_is_found(synced: sa.Engine) -> None:
    execute(synced, "CREATE INDEX left_ccold ON article_semantic (ordinal)")
    execute(synced, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'left_ccold'::regclass")
    findings = doctor.examine(synced, ignore=["worker"])
    assert [(one.check, "left_ccold is invalid" in one.what) for one in findings] == [("late_indexes", True)]
    with synced.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(findings[0].repair))
    assert doctor.examine(synced, ignore=["worker"]) == []


def test_edits_without_end_keep_no_index_from_being_built(synced: sa.Engine) -> None:
    execute(synced, "DROP INDEX article_semantic_vector_idx")
    generation = generation_of(synced)
    execute(
        synced,
        "INSERT INTO semantic.job (generation_id, key, priority) SELECT :id, i, 0 FROM generate_series(1, 9) i",
        id=generation.id,
    )
    building = index_builder.IndexBuilder(synced, Settings(vector_index_backlog=8))
    assert not building.tend(generation)
    assert rows(synced, "SELECT to_regclass('article_semantic_vector_idx')") == [(None,)]
    execute(synced, "UPDATE semantic.generation SET backfilled_at = now() - interval '1 hour'")
    assert not building.tend(generation)
    assert building.wait(20)
    building.close()
    assert rows(synced, "SELECT to_regclass('article_semantic_vector_idx')::text") == [("article_semantic_vector_idx",)]


def test_jobs_are_counted_by_priority(engine: sa.Engine) -> None:
    queued = "VALUES (7, 'a', 0), (7, 'b', 1), (7, 'c', 1)"
    execute(engine, f"INSERT INTO semantic.job (generation_id, key, priority) {queued}")
    execute(engine, "INSERT INTO semantic.mark (generation_id, key, priority) VALUES (7, 'd', 0)")
    with engine.connect() as connection:
        counts = [jobqueue.waiting(connection, 7, limit=9, priority=priority) for priority in (None, 0, 1)]
    assert counts == [4, 2, 2]


def test_what_a_worker_could_not_do_is_a_finding(synced: sa.Engine) -> None:
    execute(synced, "ALTER TABLE article RENAME COLUMN body TO main")
    execute(synced, "UPDATE article SET title = 'new'")
    with pytest.raises(errors.DatabaseError):
        sync(synced)
    assert "problems" in {one.check for one in doctor.examine(synced)}
    with synced.connect() as connection:
        assert [one.kind for one in status.read(connection).indexes[0].problems] == ["sync"]


def test_the_counts_of_a_querys_words_are_looked_up(synced: sa.Engine, role: str) -> None:
    generation = generation_of(synced).id
    execute(
        synced,
        "INSERT INTO semantic.term SELECT :generation, 'word' || i, 2 FROM generate_series(1, 20000) i",
        generation=generation,
    )
    execute(synced, f"GRANT SELECT ON article, article_semantic, article_semantic_receipt TO {role}")
    execute(synced, "ANALYZE semantic.term")
    asked = "SELECT * FROM semantic.term_counts_v1('article_semantic_receipt', ARRAY['word7', 'word8', 'none'])"
    for reader in (synced, sa.create_engine(synced.url.set(username=role))):
        with reader.connect() as connection:
            counts = {lexeme: count for lexeme, count, _ in connection.execute(sa.text(asked))}
            assert read_of(connection, "term") <= 3
        assert counts == {"word7": 2, "word8": 2, "none": 1}
        reader.dispose()
