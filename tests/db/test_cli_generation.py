"""``pg-semantic generation`` from end to end."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import Searcher, cli, errors, generations
from pg_semantic.cli import error_exit
from tests.db.library import Article, encoder, execute, generation_of, sync

NAME = "article_semantic"


def fill(engine: sa.Engine) -> None:
    execute(
        engine, "INSERT INTO article SELECT i, md5(i::text) || ' harbour', NULL, 'en' FROM generate_series(1, 20) i"
    )
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine, dsn: str, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """A few synced rows, in the database that the command line uses."""
    monkeypatch.setenv("PG_SEMANTIC_DSN", dsn)
    return filled


def run(*arguments: object, code: int = 0, said: str = "") -> str:
    done = CliRunner().invoke(cli.app, ["generation", *map(str, arguments)], catch_exceptions=True)
    if done.exception and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, errors.PgSemanticError)
        assert error_exit.exit_code(done.exception) == code
        assert said in str(done.exception)
        return str(done.exception)
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.split())
    return done.output


def as_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_the_registry_gets_the_absolute_path_of_a_folder(synced: sa.Engine, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "modules.json").write_text("[]")
    run("begin", NAME, "--encoder", "./mine", "--dimensions", 32, "--yes")
    assert generations.find(synced, NAME, "next").spec.encoder.reference == str(here / "mine")
    arguments = ["create", "article", "--columns", "body", "--encoder", "mine", "--dimensions", "32", "--name", "other"]
    assert CliRunner().invoke(cli.app, ["index", *arguments]).exit_code == 0
    assert generation_of(synced, "other").spec.encoder.reference == str(here / "mine")


def test_another_encoder_from_begin_to_rollback_to_drop(synced: sa.Engine) -> None:
    run("begin", NAME, "--encoder", "hashed:48", "--yes", said="Began building public.article_semantic (next)")
    assert [(one["generation"], one["synced"]) for one in as_json("status")] == [("live", 20), ("next", 0)]
    run("switch", NAME, code=1, said="is not ready")
    sync(synced)
    found = as_json("compare", NAME, "--sample", 5)
    assert (found["queries"], found["ndcg"]) == (5, None)
    assert 0 <= found["low"] <= found["overlap"] <= found["high"] <= 1
    run("switch", NAME, said="is live with hashed:48. To go back: `pg-semantic generation rollback article_semantic`.")
    assert generation_of(synced).spec.encoder.reference == "hashed:48"
    assert as_json("rollback", NAME) == {"index": "public.article_semantic", "encoder": "hashed:32"}
    execute(synced, "UPDATE semantic.generation SET role_since = role_since - interval '1 minute'")
    run("drop", NAME, "next", "--yes", said="no longer has a next generation")
    run("drop", NAME, "next", "--yes", code=1, said="has no next generation")
    run("drop", NAME, "next", "--yes", "--if-exists", said="has no next generation")
    assert [one["generation"] for one in as_json("status", NAME)] == ["live"]


def test_a_copy_of_the_same_recipe_gives_the_same_results(synced: sa.Engine, tmp_path: Path) -> None:
    run("begin", NAME, "--m", 8, "--yes")
    sync(synced)
    judgements = tmp_path / "judgements.jsonl"
    text = "c4ca4238a0b923820dcc509a6f75849b harbour"  # of row 1
    judgements.write_text(json.dumps({"query": text, "relevant": {"1": 1}}) + "\n")
    found = as_json("compare", NAME, "--judgements", judgements)
    assert (found["queries"], found["overlap"], found["live_ndcg"], found["ndcg"]) == (1, 1.0, 1.0, 1.0)
    run("compare", NAME, said="overlap")


@pytest.mark.parametrize("line", ["{", "[]", '{"query": "a"}', '{"query": "a", "relevant": [1]}'])
def test_judgements_that_are_none_are_refused_by_their_line(synced: sa.Engine, tmp_path: Path, line: str) -> None:
    begun = tmp_path / "judgements.jsonl"
    begun.write_text('{"query": "a", "relevant": {"1": 1}}\n' + line)
    run("begin", NAME, "--m", 8, "--yes")
    run("compare", NAME, "--judgements", begun, code=1, said="line 2: write {")
    del synced


def test_every_part_of_a_recipe_can_be_changed(synced: sa.Engine) -> None:
    changes = ("--columns", "title,lang", "--max-tokens", 32, "--overlap-tokens", 4, "--storage", "vector")
    run("begin", NAME, *changes, "--ef-construction", 80, "--lexical", "simple", "--yes")
    sync(synced)
    run("switch", NAME)
    spec = generation_of(synced).spec
    assert (spec.columns, spec.storage, spec.hnsw.ef_construction) == (("title", "lang"), "vector", 80)
    assert spec.chunking is not None
    assert spec.lexical is not None
    assert (spec.chunking.max_tokens, spec.chunking.overlap_tokens, spec.lexical.config) == (32, 4, "simple")


def test_a_copy_without_bm25_is_warned_of_as_it_is_begun_and_switched_to(synced: sa.Engine) -> None:
    warning = "searches by words (mode lexical or hybrid) fail: it has no BM25"
    run("begin", NAME, "--lexical", "none", "--yes", said=warning)
    sync(synced)
    run("switch", NAME, said=warning)
    with Session(synced) as session, pytest.raises(errors.QueryError, match=r"The live generation of .* has no BM25"):
        Searcher(encoder()).search(session, Article.semantic, "harbour", mode="lexical")


@pytest.mark.parametrize("columns", ["title,nope", "id", "title,,lang", ","])
def test_columns_that_are_none_are_refused_as_a_copy_is_begun(synced: sa.Engine, columns: str) -> None:
    run("begin", NAME, "--columns", columns, "--yes", code=1)
    assert [one["generation"] for one in as_json("status")] == ["live"]


def test_a_copy_whose_column_went_is_refused_by_the_switch_with_what_to_do(synced: sa.Engine) -> None:
    run("begin", NAME, "--columns", "title,body", "--m", 8, "--yes")
    sync(synced)
    execute(synced, "ALTER TABLE article DROP COLUMN body")
    run("switch", NAME, code=3, said="`pg-semantic generation drop`")
    run("switch", NAME, "--force", code=1, said="can only be dropped")


def test_nothing_is_begun_unless_it_is_confirmed(synced: sa.Engine) -> None:
    done = CliRunner().invoke(cli.app, ["generation", "begin", NAME, "--m", "8"], input="n\n")
    assert "MB" in done.output
    assert done.exit_code == 1
    assert [one["generation"] for one in as_json("status")] == ["live"]
    del synced


def test_rows_that_failed_in_a_copy_that_is_to_come_are_retried_with_the_others(synced: sa.Engine) -> None:
    run("begin", NAME, "--encoder", "hashed:48", "--yes")
    sync(synced)
    execute(
        synced,
        "INSERT INTO semantic.job (generation_id, key, state) SELECT id, '1', 'failed' FROM semantic.generation "
        "WHERE role = 'next'",
    )
    assert CliRunner().invoke(cli.app, ["retry", NAME]).output == "1 row put back into the queue.\n"
    assert [one["failed"] for one in as_json("status", NAME)] == [0, 0]
    indexes = json.loads(CliRunner().invoke(cli.app, ["verify", NAME, "--json"]).output)
    assert [one["index"] for one in indexes] == ["public.article_semantic", "public.article_semantic (next)"]


@pytest.mark.parametrize("arguments", [("switch", "nothing"), ("status", "nothing"), ("begin", "nothing", "--yes")])
def test_an_index_that_is_not_there_is_said_to_be_so(synced: sa.Engine, arguments: tuple[str, ...]) -> None:
    run(*arguments, code=1, said="No semantic index 'nothing'")
    del synced


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_queries_may_come_from_another_system(synced: sa.Engine, here: Path, *, packed: bool) -> None:
    """With a byte order mark, CRLF and repeated queries, and compressed."""
    run("begin", NAME, "--encoder", "hashed:48", "--yes")
    sync(synced)
    queries = "\ufeffharbour\r\n\r\n  Harbour \r\nmeadow\r\n".encode()
    file = here / ("queries.txt.gz" if packed else "queries.txt")
    file.write_bytes(gzip.compress(queries) if packed else queries)
    assert generations.read_queries(file) == ["harbour", "Harbour", "meadow"]
    assert as_json("compare", NAME, "--queries", file)["queries"] == 2


def test_a_file_without_queries_is_refused(synced: sa.Engine, here: Path) -> None:
    run("begin", NAME, "--encoder", "hashed:48", "--yes")
    file = here / "queries.txt"
    file.write_bytes("\ufeff\r\n".encode())
    run("compare", NAME, "--queries", file, code=1, said="contains no queries: write one per line")
    file.write_bytes("harbour".encode("utf-16"))
    run("compare", NAME, "--queries", file, code=1, said="it is not text in UTF-8. Convert it first.")
