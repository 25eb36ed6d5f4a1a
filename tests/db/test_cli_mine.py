"""``pg-semantic mine``: a file of keys that only its owner can read, and a report for people and for scripts."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import evaluation, training
from pg_semantic.cli import train_encoder
from pg_semantic.cli.training_report import LeftOut
from pg_semantic.evaluation import Judgements
from pg_semantic.training import MinedPair, Pair, ScoredChunk
from tests.db.library import Article, execute, rows, sync
from tests.db.test_cli import error, ok, parsed, run

WORDS = "harbour candle meadow engine violin glacier pepper lantern"


def fill(engine: sa.Engine) -> None:
    """Eight articles, each with its word and the next one."""
    words = WORDS.split()
    for number, word in enumerate(words, start=1):
        lang = "en" if number % 2 else "de"
        text = f"{word} {words[number % 8]} with more words"
        execute(engine, "INSERT INTO article VALUES (:id, :title, NULL, :lang)", id=number, title=text, lang=lang)
    sync(engine)


@pytest.fixture
def synced(filled: sa.Engine, here: Path) -> sa.Engine:
    """The articles, and a file of two pairs."""
    training.write_pairs(here / "pairs.jsonl", [Pair("a violin", "5"), Pair("secret pepper", "7"), Pair("lost", "99")])
    return filled


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_file_has_keys_and_queries_and_only_its_owner_can_read_it(synced: sa.Engine, here: Path, dsn: str) -> None:
    out = here / "mined.jsonl"
    report = parsed("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", str(out), dsn=dsn)
    first, second = lines(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert (first["query"], first["positive"], first["negatives"][0]) == ("a violin", "5", "4")
    assert (second["query"], second["positive"], second["negatives"][0]) == ("secret pepper", "7", "6")
    assert "glacier" not in out.read_text("utf-8")
    assert (report["queries"], report["pairs"], report["gone"], report["negatives"]) == (3, 3, 1, 6)
    assert [pair.query for pair in training.read_mined(out)] == ["a violin", "secret pepper"]


def test_the_tables_show_the_report_and_say_what_to_do(synced: sa.Engine, dsn: str) -> None:
    printed = ok(
        *("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl"),
        *("--negatives", "9", "--not-nearer-than", "0.7", "--max-score", "0.9"),
        dsn=dsn,
    )
    for shown in (
        "article_semantic, scored by the encoder",
        "not_nearer_than",
        "max_score",
        "Random examples, as keys",
        "1 pair left out",
        "Queries with fewer negatives than wanted: 2.",
        "Wrote mined.jsonl. Only you can read it",
    ):
        assert shown in printed


def test_queries_that_are_held_out_are_left_out_and_counted(synced: sa.Engine, here: Path, dsn: str) -> None:
    with Session(synced) as session:
        evaluation.split(session, Article.semantic, Judgements({"A  Violin": {"5": 1}}), held_out=1)
        session.commit()
    done = run("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl", dsn=dsn)
    assert done.returncode == 0
    assert "Queries left out because they are held out to measure with: 1." in done.stderr
    assert [line["query"] for line in lines(here / "mined.jsonl")] == ["secret pepper"]
    training.write_pairs(here / "pairs.jsonl", [Pair("a violin", "5")])
    assert "1 of 1 queries are held out" in error(
        "mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "none.jsonl", dsn=dsn
    )


def test_rows_that_answer_held_out_queries_are_left_out_for_other_queries_too(
    synced: sa.Engine, here: Path, dsn: str
) -> None:
    with Session(synced) as session:
        evaluation.split(session, Article.semantic, Judgements({"a violin": {"5": 1}}), held_out=1)
        session.commit()
    asked = [Pair("a violin", "5"), Pair("some fiddle", "005"), Pair("secret pepper", "7"), Pair("a violin", "7", 0.0)]
    training.write_pairs(here / "pairs.jsonl", asked)
    with Session(synced) as session:
        assert train_encoder._without_held_out(session, Article.semantic, asked) == ([asked[2]], LeftOut(1, 1))
    done = run("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl", dsn=dsn)
    assert "Pairs of other queries left out because their row answers a held-out query: 1." in done.stderr
    assert [line["query"] for line in lines(here / "mined.jsonl")] == ["secret pepper"]


def test_a_report_without_negatives_says_why(synced: sa.Engine, dsn: str) -> None:
    printed = ok(
        *("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl", "--max-score", "-1"), dsn=dsn
    )
    assert "No row is left that could be a negative" in printed


def test_queries_are_printed_only_if_asked_for(synced: sa.Engine, dsn: str) -> None:
    command = ("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl")
    for extra in ((), ("--json",)):
        assert "secret pepper" not in ok(*command, *extra, dsn=dsn)
        assert "secret pepper" in ok(*command, *extra, "--show-queries", dsn=dsn)


def test_only_rows_of_a_tenant_are_used(synced: sa.Engine, here: Path, dsn: str) -> None:
    execute(synced, "ALTER TABLE article ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON article USING (lang = 'en')")
    command = ("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl", "--negatives", "2")
    assert "row-level security" in error(*command, dsn=dsn)
    report = parsed(*command, "--where", "lang=en", dsn=dsn)
    assert {int(key) % 2 for line in lines(here / "mined.jsonl") for key in line["negatives"]} == {1}
    parsed(*command, "--where", "lang=en", "--where", "id=5", dsn=dsn)
    assert [line["positive"] for line in lines(here / "mined.jsonl")] == ["5"]
    assert report["gone"] == 1
    refused = run(*command, "--where", "lang", dsn=dsn)
    assert refused.returncode == 2
    assert "write a column and a value" in " ".join(refused.stderr.replace("│", " ").split())
    said = error(*command, "--where", "colour=red", dsn=dsn)
    assert "Table 'article' has no column 'colour'. Its columns: id, title, body, lang." in said


def test_a_reranker_that_would_decide_nothing_is_refused_and_not_loaded(
    synced: sa.Engine, here: Path, dsn: str
) -> None:
    command = ("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl", "--reranker", "none/here")
    refused = run(*command, dsn=dsn)
    assert refused.returncode == 2
    assert "or leave --reranker out" in " ".join(refused.stderr.replace("│", " ").split())
    assert not (here / "mined.jsonl").exists()
    assert "none/here" in error(*command, "--min-score", "0.1", dsn=dsn)


@pytest.mark.parametrize("part", ["queries", "encoder", "reranker"])
def test_what_cannot_be_trained_on_is_not_recorded_as_trained_on(
    synced: sa.Engine, here: Path, dsn: str, part: str
) -> None:
    asked = [Pair(f"query {number}", str(number % 8 + 1)) for number in range(60)]
    judged = [json.dumps({"query": one.query, "relevant": {one.key: 1}}) for one in asked]
    (here / "judged.jsonl").write_text("\n".join(judged), "utf-8")
    chunks = [ScoredChunk(key, 0, 0.5) for key in "12345678"]
    mined = [MinedPair(one.query, chunks[int(one.key) - 1], (chunks[int(one.key) % 8],)) for one in asked]
    training.write_mined(here / "mined.jsonl", mined)
    given = {
        "queries": "--judgements judged.jsonl",
        "encoder": "--pairs judged.jsonl",
        "reranker": "--pairs mined.jsonl",
    }
    command = ("train", part, "article_semantic", *given[part].split(), "--out", "new")
    assert "has no weights to train" in error(*command, dsn=dsn)
    assert rows(synced, "SELECT * FROM semantic.judged_query") == []


def test_qrels_with_topics_are_read(synced: sa.Engine, here: Path, dsn: str) -> None:
    (here / "qrels").write_text("1 0 5 1\n1 0 4 -2\n", "utf-8")
    (here / "topics").write_text("1\ta violin\n", "utf-8")
    command = ("mine", "article_semantic", "--pairs", "qrels", "--topics", "topics", "--out", "mined.jsonl")
    assert parsed(*command, dsn=dsn)["pairs"] == 1


def test_options_are_those_of_mining(synced: sa.Engine, here: Path, dsn: str) -> None:
    (here / "judged.csv").write_text("query,key\na violin,5\n", "utf-8")
    command = ("mine", "article_semantic", "--pairs", "judged.csv", "--out", "mined.jsonl")
    parsed(*command, "--group", "lang", dsn=dsn)
    assert {int(key) % 2 for key in lines(here / "mined.jsonl")[0]["negatives"]} == {0}
    parsed(*command, "--mode", "lexical", "--not-nearer-than", "1", dsn=dsn)
    assert lines(here / "mined.jsonl")[0]["negatives"] == ["4"]
    parsed(*command, "--exact", "--range-min", "1", "--range-max", "2", "--negatives", "1", dsn=dsn)
    [second] = lines(here / "mined.jsonl")[0]["negatives"]
    parsed(*command, "--exact", "--negatives", "2", dsn=dsn)
    assert lines(here / "mined.jsonl")[0]["negatives"] == ["4", second]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--group", "colour"], "Table 'article' has no column 'colour'. Its columns: id, title, body, lang."),
        (["--range-min", "3", "--range-max", "4"], "range_max"),
        (["--pairs", "none.jsonl"], "Cannot read none.jsonl"),
        (["--out", "none/mined.jsonl"], "Cannot write none"),
    ],
)
def test_a_mistake_is_one_line(synced: sa.Engine, dsn: str, options: list[str], said: str) -> None:
    command = ("mine", "article_semantic", "--pairs", "pairs.jsonl", "--out", "mined.jsonl", *options)
    assert said in error(*command, dsn=dsn)


@pytest.mark.parametrize("out", ["no/folder/out.jsonl", "folder", "/dev/null"])
@pytest.mark.parametrize("command", ["mine --pairs pairs.jsonl", "pairs --rows 3"])
def test_a_file_that_cannot_be_written_is_named_before_any_work(
    synced: sa.Engine, here: Path, dsn: str, command: str, out: str
) -> None:
    (here / "folder").mkdir()
    what, *rest = command.split()
    said = " ".join(error(what, "no_such_index", *rest, "--out", out, dsn=dsn).split())
    assert f"Cannot write {out}" in said or f"{out} is not a regular file" in said
    assert "no_such_index" not in said
    assert sorted(file.name for file in here.iterdir()) == ["folder", "pairs.jsonl"]
