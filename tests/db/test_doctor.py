"""The doctor finds each planted fault, says nothing of a healthy database, and what it says to run repairs it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from pg_semantic import database, errors
from pg_semantic.operations import doctor
from pg_semantic.operations.doctor import Finding
from pg_semantic.operations.doctor.checks import CHECKS
from tests.db import pooler
from tests.db import test_cli as shell
from tests.db.library import execute, rows, sync

quiet_environment = shell.quiet_environment  # a fixture of that module for this one too

_FILL = "INSERT INTO article SELECT i, 'title ' || i, 'body ' || i, 'en' FROM generate_series(1, 20) AS i"


_PROBLEM = (
    "INSERT INTO semantic.problem (generation_id, kind, reason, next_at) "
    "SELECT id, 'sync', 'it cannot be read', now() FROM semantic.generation"
)


@dataclass(frozen=True)
class Fault:
    """What a check is to find: statements that plant it, and a word of what it says of it."""

    check: str
    said: str
    plant: tuple[str, ...]
    repaired_by_sql: bool = True


FAULTS = [
    Fault(
        "pgvector_version",
        "pgvector 0.8.1 is installed",
        ("SET allow_system_table_mods = on", "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'"),
        repaired_by_sql=False,  # there is no path from a version that is not installed
    ),
    Fault(
        "slow_signs",
        "pgvector 0.8.2 is installed",
        (
            "UPDATE semantic.generation SET spec = jsonb_set(spec, '{compressed}', '{\"bits\": true}')",
            "SET allow_system_table_mods = on",
            "UPDATE pg_extension SET extversion = '0.8.2' WHERE extname = 'vector'",
        ),
        repaired_by_sql=False,
    ),
    Fault("search_path", "pgvector is in schema", ("CREATE SCHEMA apart", "ALTER EXTENSION vector SET SCHEMA apart")),
    Fault(
        "publications",
        "publishes the schema semantic",
        ("CREATE PUBLICATION everything FOR ALL TABLES",),
        repaired_by_sql=False,  # its subscribers have to be moved first
    ),
    Fault("autovacuum", "disabled", ("ALTER TABLE semantic.mark SET (autovacuum_enabled = false)",)),
    Fault(
        "autovacuum",
        "disabled",
        ("ALTER TABLE article_semantic SET (autovacuum_enabled = off)",),
    ),
    Fault(
        "gin_fuzzy_search_limit",
        "set to 500 for it database",
        ("ALTER DATABASE {database} SET gin_fuzzy_search_limit = 500",),
    ),
    Fault(
        "gin_fuzzy_search_limit",
        "set to 5 for it role",
        (
            "CREATE ROLE {role}",
            "ALTER ROLE {role} IN DATABASE {database} SET gin_fuzzy_search_limit = 5",
        ),
    ),
    Fault("unlogged", "unlogged", ("ALTER TABLE article_semantic SET UNLOGGED",)),
    Fault(
        "lost_tables",
        "was dropped",
        ("DROP TABLE article CASCADE",),
    ),
    Fault(
        "lost_tables",
        "has its name now",
        ("DROP TABLE article CASCADE", "CREATE TABLE article (id int PRIMARY KEY, title text, body text, lang text)"),
        repaired_by_sql=False,
    ),
    Fault("lost_tables", "live copy", ("DROP TABLE article_semantic CASCADE",), repaired_by_sql=False),
    Fault("moved_schema", "another schema", ("CREATE SCHEMA shop", "ALTER TABLE article SET SCHEMA shop")),
    Fault(
        "swapped_tables",
        "article_old",
        ("ALTER TABLE article RENAME TO article_old", "CREATE TABLE article (LIKE article_old INCLUDING ALL)"),
        repaired_by_sql=False,
    ),
    Fault("privileges", "article_semantic_receipt", ("GRANT SELECT (lexemes) ON article_semantic_receipt TO PUBLIC",)),
    Fault("privileges", "semantic.term", ("GRANT UPDATE ON semantic.term TO PUBLIC",)),
    Fault("privileges", "article_semantic", ("ALTER TABLE article ENABLE ROW LEVEL SECURITY",)),
    Fault("privileges", "cannot read", ("GRANT SELECT ON article TO pg_monitor",)),
    Fault("triggers", "update", ("DROP TRIGGER article_semantic_capture_update ON article",), repaired_by_sql=False),
    Fault(
        "triggers",
        "(delete, insert, replica, truncate, update)",
        ("ALTER TABLE article DISABLE TRIGGER USER",),
        repaired_by_sql=False,
    ),
    Fault(
        "capture_privileges",
        "may not append",
        ("CREATE ROLE {role}", "ALTER FUNCTION article_semantic_capture OWNER TO {role}"),
    ),
    Fault(
        "foreign_keys",
        "not validated",
        (
            "ALTER TABLE article_semantic_receipt DROP CONSTRAINT article_semantic_receipt_id_fkey",
            (
                "ALTER TABLE article_semantic_receipt ADD FOREIGN KEY (id) REFERENCES article "
                "ON DELETE CASCADE ON UPDATE CASCADE NOT VALID"
            ),
        ),
    ),
    Fault(
        "foreign_keys", "article_semantic ", ("ALTER TABLE article_semantic DROP CONSTRAINT article_semantic_id_fkey",)
    ),
    Fault(
        "foreign_keys",
        "article_semantic_receipt",
        ("ALTER TABLE article_semantic_receipt DROP CONSTRAINT article_semantic_receipt_id_fkey",),
    ),
    Fault("columns", "body", ("ALTER TABLE article RENAME COLUMN body TO words",), repaired_by_sql=False),
    Fault(
        "columns",
        "column id, part of its key",
        ("ALTER TABLE article RENAME COLUMN id TO article_id",),
        repaired_by_sql=False,
    ),
    Fault("privileges", "semantic.generation", ("ALTER TABLE semantic.generation ENABLE ROW LEVEL SECURITY",)),
    Fault("privileges", "semantic.term", ("GRANT SELECT ON semantic.term TO PUBLIC",)),
    Fault("privileges", "semantic.readable_term", ("REVOKE SELECT ON semantic.readable_term FROM PUBLIC",)),
    Fault("problems", "cannot be read", (_PROBLEM,), repaired_by_sql=False),
    Fault("privileges", "semantic.history", ("ALTER TABLE semantic.history FORCE ROW LEVEL SECURITY",)),
    Fault("key_types", "bigint", ("ALTER TABLE article ALTER COLUMN id TYPE bigint",), repaired_by_sql=False),
    Fault("inheritance", "archive", ("CREATE TABLE archive () INHERITS (article)",)),
    Fault("late_indexes", "vector index", ("DROP INDEX article_semantic_vector_idx",), repaired_by_sql=False),
    Fault("late_indexes", "lexemes", ("DROP INDEX article_semantic_lexemes_idx",), repaired_by_sql=False),
    Fault("term_statistics", "never counted", ("DELETE FROM semantic.lexicon",), repaired_by_sql=False),
    Fault(
        "search_functions",
        "article_semantic_search",
        ("DROP FUNCTION article_semantic_search",),
    ),
    Fault(
        "worker",
        "no worker is alive",
        (
            "UPDATE article SET body = 'other' WHERE id = 1",
            "UPDATE semantic.mark SET marked_at = now() - interval '1 hour'",
        ),
        repaired_by_sql=False,
    ),
    Fault(
        "backlog",
        "1 edits wait, the oldest for 60 minutes",
        (
            "UPDATE article SET body = 'other' WHERE id = 1",
            "UPDATE semantic.mark SET marked_at = now() - interval '1 hour'",
            "INSERT INTO semantic.worker (host, pid) VALUES ('here', 1)",
        ),
        repaired_by_sql=False,
    ),
    Fault(
        "failed_rows",
        "as row 7: no luck",
        (
            (
                "INSERT INTO semantic.job (generation_id, key, state, error) "
                "SELECT id, '7', 'failed', 'no luck' FROM semantic.generation"
            ),
        ),
        repaired_by_sql=False,
    ),
    Fault(
        "table_statistics",
        "never been analyzed",
        (
            "ALTER TABLE article SET (autovacuum_enabled = false)",
            "DELETE FROM article",
            "UPDATE pg_class SET reltuples = -1 WHERE oid = CAST('article' AS regclass)",
            "INSERT INTO article SELECT i, repeat('word ', 200), NULL, 'en' FROM generate_series(1, 20000) AS i",
        ),
    ),
    Fault(
        "partition_locks",
        "a search holds about 150 locks",
        tuple(f"CREATE TABLE part_{number} () INHERITS (article_semantic)" for number in range(30)),  # as many tables
        repaired_by_sql=False,  # the server has to be restarted
    ),
    Fault(
        "collation_version",
        "version 0.1",
        (
            # C.UTF-8 of the server itself: the one collation with a version that every build of 17 and later has.
            (
                "UPDATE pg_database SET datlocprovider = 'b', datlocale = 'C.UTF-8', datcollversion = '0.1' "
                "WHERE datname = current_database()"
            ),
        ),
    ),
    Fault(
        "replication_role",
        "set to replica",
        ("ALTER DATABASE {database} SET session_replication_role = replica",),
    ),
]


def fill(engine: sa.Engine) -> None:
    """A database whose index is synced and built."""
    execute(engine, _FILL)
    sync(engine)


@pytest.fixture
def healthy(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def role(healthy: sa.Engine) -> Iterator[str]:
    """A name for a role of the test's own, which is dropped at the end if the test made it."""
    name = "doctor_" + str(healthy.url.database)[-8:]
    yield name
    if rows(healthy, "SELECT FROM pg_roles WHERE rolname = :name", name=name):
        execute(healthy, f"DROP OWNED BY {name} CASCADE")
        execute(healthy, f"DROP ROLE {name}")


def _version(engine: sa.Engine) -> int:
    """The server's major version."""
    [(number,)] = rows(engine, "SELECT CAST(current_setting('server_version_num') AS integer) / 10000")
    return int(number)


def run_autocommitted(engine: sa.Engine, script: str) -> None:
    """Statements as a person at psql would run them, one after the other."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in script.split(";"):
            if statement.strip() and not statement.strip().startswith("--"):
                connection.exec_driver_sql(statement)


def found(engine: sa.Engine, check: str) -> list[Finding]:
    return [finding for finding in doctor.examine(engine) if finding.check == check]


def test_nothing_is_found_in_a_healthy_database(healthy: sa.Engine) -> None:
    assert doctor.examine(healthy) == []


def test_a_key_that_became_a_domain_over_its_type_is_no_fault(healthy: sa.Engine) -> None:
    execute(healthy, "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")
    execute(healthy, "ALTER TABLE article ALTER id TYPE positive")
    sync(healthy)
    assert found(healthy, "key_types") == []


def test_nothing_is_found_where_no_index_was_declared_yet(engine: sa.Engine) -> None:
    assert doctor.examine(engine) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check}-{fault.said}")
def test_a_planted_fault_is_found_and_its_repair_repairs_it(healthy: sa.Engine, role: str, fault: Fault) -> None:
    if fault.check == "collation_version" and _version(healthy) < 17:
        pytest.skip("no collation of this server has a version")
    for statement in fault.plant:
        run_autocommitted(healthy, statement.replace("{role}", role).replace("{database}", str(healthy.url.database)))
    healthy.dispose()
    [finding] = found(healthy, fault.check)
    assert fault.said in f"{finding.what} {finding.subject} "
    assert finding.why
    assert finding.repair
    if fault.repaired_by_sql:
        run_autocommitted(healthy, finding.repair)
        healthy.dispose()
        assert found(healthy, fault.check) == []


def test_every_check_has_a_planted_fault() -> None:
    elsewhere = {"long_transactions", "worker_privileges"}  # in tests of their own
    assert {check.name for check in CHECKS} - elsewhere == {fault.check for fault in FAULTS}


def test_an_open_transaction_is_found_when_it_is_old_enough(healthy: sa.Engine) -> None:
    with healthy.connect() as application:
        pid = application.scalar(sa.text("SELECT pg_backend_pid()"))
        application.execute(sa.text("SELECT * FROM article LIMIT 1"))
        [finding] = doctor.examine(healthy, long_seconds=0)
        assert (finding.check, finding.repair) == ("long_transactions", f"SELECT pg_terminate_backend({pid});")
        assert doctor.examine(healthy) == []


def test_a_role_that_sees_not_all_rows_is_told_so(healthy: sa.Engine, role: str) -> None:
    execute(healthy, f"CREATE ROLE {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    execute(healthy, f"GRANT ALL ON ALL TABLES IN SCHEMA semantic TO {role}")
    execute(healthy, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    limited = sa.create_engine(healthy.url, connect_args={"options": f"-c role={role}"})
    findings = found(limited, "worker_privileges")
    limited.dispose()
    assert [finding.repair for finding in findings] == [f"ALTER ROLE {role} BYPASSRLS;"]


@pytest.mark.parametrize("place", ["ROLE {role}", "ROLE {role} IN DATABASE {database}", "DATABASE {database}"])
def test_another_role_that_does_not_find_pgvector_is_named(healthy: sa.Engine, role: str, place: str) -> None:
    database = str(healthy.url.database)
    execute(healthy, "CREATE SCHEMA apart; ALTER EXTENSION vector SET SCHEMA apart")
    execute(healthy, f"CREATE ROLE {role} LOGIN; GRANT SELECT ON article_semantic TO {role}")
    execute(healthy, f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET search_path = public, apart")
    execute(healthy, f"ALTER {place.format(role=role, database=database)} SET search_path = public")
    healthy.dispose()
    [finding] = found(healthy, "search_path")
    assert finding.subject == f"role {role}"
    execute(healthy, finding.repair)
    assert found(healthy, "search_path") == []


def test_a_role_that_lacks_privileges_on_the_vectors_is_told_so(healthy: sa.Engine, role: str) -> None:
    execute(healthy, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    limited = sa.create_engine(healthy.url, connect_args={"options": f"-c role={role}"})
    findings = found(limited, "worker_privileges")
    limited.dispose()
    assert ["lacks privileges on public.article" in finding.what for finding in findings] == [True]


def test_a_check_that_the_role_may_not_run_is_a_finding_and_the_others_are_run(healthy: sa.Engine, role: str) -> None:
    execute(healthy, f"CREATE ROLE {role}")
    execute(healthy, "DROP TRIGGER article_semantic_capture_update ON article")
    limited = sa.create_engine(healthy.url, connect_args={"options": f"-c role={role}"})
    findings = doctor.examine(limited)
    limited.dispose()
    assert {"triggers", "worker"} <= {finding.check for finding in findings}
    [refused] = [finding for finding in findings if finding.check == "worker"]
    assert refused.what.startswith("this check could not be run")


def test_a_pooler_with_a_statement_timeout_is_found(healthy: sa.Engine, dsn: str) -> None:
    name = healthy.url.database
    with pooler.running(dsn) as pooled_dsn:
        pooled = database.connect(pooled_dsn)
        assert found(pooled, "pooler") == []
        run_autocommitted(healthy, f"ALTER DATABASE {name} SET statement_timeout = '50ms'")
        pooled.dispose()
    with pooler.running(dsn) as pooled_dsn:
        pooled = database.connect(pooled_dsn)
        assert [finding.severity for finding in found(pooled, "pooler")] == ["warning"]
        pooled.dispose()


def test_a_check_can_be_left_out_and_an_unknown_one_is_refused(healthy: sa.Engine) -> None:
    execute(healthy, "DROP TRIGGER article_semantic_capture_update ON article")
    assert doctor.examine(healthy, ignore=["triggers"]) == []
    with pytest.raises(errors.ConfigurationError, match=r"Unknown check: trigers\. The checks are: .*triggers"):
        doctor.examine(healthy, ignore=["trigers"])


def test_the_command_exits_with_1_and_says_what_why_and_how(healthy: sa.Engine) -> None:
    dsn = healthy.url.set(drivername="postgresql").render_as_string(hide_password=False)
    well = shell.run("doctor", dsn=dsn)
    assert (well.returncode, well.stdout) == (0, "No problems found.\n")
    execute(healthy, "DROP TRIGGER article_semantic_capture_update ON article")
    ill = shell.run("doctor", dsn=dsn)
    assert ill.returncode == 1
    assert "repair  pg-semantic repair article_semantic\n" in ill.stdout
    assert ill.stdout.endswith("\n1 finding.\n")
    machine = shell.run("doctor", "--json", dsn=dsn)
    assert machine.returncode == 1
    assert [set(finding) for finding in json.loads(machine.stdout)] == [
        {"check", "severity", "subject", "what", "why", "repair"}
    ]
