"""``pg-semantic split``: two files without a common row, which only their owner can read; sides that stay."""

import json
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import evaluation, training
from pg_semantic.evaluation import Judgements
from pg_semantic.training import MinedPair, ScoredChunk
from tests.db.library import Article, execute, rows
from tests.db.test_cli import error, ok, parsed, run

NAME = "article_semantic"


@pytest.fixture
def judged(articles: sa.Engine, here: Path) -> Judgements:
    """Forty queries about forty rows, two of which share a row; and one about a row that doesn't exist."""
    for number in range(40):
        execute(articles, "INSERT INTO article VALUES (:id, 'a', NULL, 'en')", id=number)
    grades = {f"query {number}": {str(number): 2} for number in range(40)}
    grades["query 0"]["1"] = 1
    grades["lost"] = {"99": 1}
    judged = Judgements(grades)
    judged.write(here / "judged.jsonl")
    return judged


def divided(here: Path, dsn: str, *more: str) -> tuple[Judgements, Judgements]:
    parsed(
        *("split", NAME, "--judgements", "judged.jsonl", "--train", "train.jsonl", "--held-out", "held.jsonl", *more),
        dsn=dsn,
    )
    return Judgements.read(here / "train.jsonl"), Judgements.read(here / "held.jsonl")


def test_the_files_have_all_judgements_of_existing_rows_and_no_row_in_common(
    judged: Judgements, here: Path, dsn: str
) -> None:
    train, held_out = divided(here, dsn, "--share", "0.4")
    assert len(held_out) == 16
    assert {**train.grades, **held_out.grades} == {
        query: grades for query, grades in judged.grades.items() if query != "lost"
    }
    sides = [{key for grades in part.grades.values() for key in grades} for part in (train, held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert {stat.S_IMODE((here / name).stat().st_mode) for name in ("train.jsonl", "held.jsonl")} == {0o600}


def test_a_person_is_told_if_nothing_is_left_to_hold_out(
    articles: sa.Engine, judged: Judgements, here: Path, dsn: str
) -> None:
    with Session(articles) as session:
        evaluation.record_training(session, Article.semantic, judged.queries)
        session.commit()
    done = run("split", NAME, "--judgements", "judged.jsonl", "--held-out", "held.jsonl", dsn=dsn)
    assert done.returncode == 0
    assert "No query is held out. Those that were tuned or trained on stay in train" in done.stderr


def test_one_file_for_both_sides_is_refused(judged: Judgements, here: Path, dsn: str) -> None:
    both = ("--train", "judged.jsonl", "--held-out", "./judged.jsonl")
    refused = run("split", NAME, "--judgements", "judged.jsonl", *both, dsn=dsn)
    assert refused.returncode == 2
    assert "name the same file" in refused.stderr
    assert Judgements.read(here / "judged.jsonl") == judged


def test_queries_keep_their_side_whatever_is_asked_for_later(judged: Judgements, here: Path, dsn: str) -> None:
    first = divided(here, dsn)
    assert divided(here, dsn, "--share", "0.9", "--seed", "7") == first


def test_a_person_is_told_how_many_are_where(judged: Judgements, dsn: str) -> None:
    printed = ok("split", NAME, "--judgements", "judged.jsonl", "--held-out", "held.jsonl", dsn=dsn)
    assert "held out" in printed
    assert "Left out 1 judgement whose row doesn't exist." in printed


def test_a_file_that_cannot_be_written_is_named(judged: Judgements, dsn: str) -> None:
    said = error("split", NAME, "--judgements", "judged.jsonl", "--held-out", "no/folder/held.jsonl", dsn=dsn)
    assert "Cannot write no/folder/held.jsonl" in said


def test_judgements_are_read_as_they_were_written(tmp_path: Path) -> None:
    judged = Judgements({'a "quoted"\tquery': {'["en", "7"]': 3}, "größe": {"1": 0, "2": 1}})
    judged.write(tmp_path / "judged.jsonl")
    assert Judgements.read(tmp_path / "judged.jsonl") == judged
    assert [json.loads(line)["query"] for line in (tmp_path / "judged.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def enough(judged: Judgements, here: Path) -> Judgements:
    """As many queries as training needs, as judgements and as mined pairs; and a folder that isn't empty."""
    more = Judgements({**judged.grades, **{f"another query {number}": {str(number): 1} for number in range(20)}})
    more.write(here / "judged.jsonl")
    chunk = ScoredChunk("0", 0, 0.5)
    training.write_mined(
        here / "mined.jsonl",
        [MinedPair(query, ScoredChunk(next(iter(grades)), 0, 0.5), (chunk,)) for query, grades in more.grades.items()],
    )
    (here / "full").mkdir()
    (here / "full" / "file").touch()
    return more


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("queries --judgements judged.jsonl --out full", "full is not empty"),
        ("encoder --pairs judged.jsonl --out full", "full is not empty"),
        ("encoder --pairs judged.jsonl --out new --loss cosent", "pairs without one"),
        ("encoder --pairs judged.jsonl --out new --teacher other", "belong together"),
        ("encoder --pairs judged.jsonl --out new --loss teacher --teacher ./none", "none"),
        ("encoder --pairs judged.jsonl --out stopped", "was stopped before its end"),
        ("reranker --pairs mined.jsonl --out full", "full is not empty"),
        ("reranker --pairs mined.jsonl --out stopped", "was stopped before its end"),
    ],
)
def test_a_mistake_in_an_option_records_no_query_as_trained_on(
    enough: Judgements, articles: sa.Engine, here: Path, dsn: str, command: str, said: str
) -> None:
    checkpoint = here / ".stopped-checkpoints" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").touch()
    what, *rest = command.split()
    assert said in " ".join(error("train", what, NAME, *rest, dsn=dsn).split())
    assert rows(articles, "SELECT count(*) FROM semantic.judged_query") == [(0,)]


def test_grades_below_0_are_mentioned_when_a_static_student_is_measured(
    enough: Judgements, here: Path, dsn: str
) -> None:
    (here / "qrels").write_text("1 0 7 -1\n1 0 8 1\n")
    (here / "topics").write_text("1\ta violin\n")
    files = ("--judgements", "qrels", "--topics", "topics")
    done = run("train", "static", NAME, *files, "--out", "full", dsn=dsn)
    assert "qrels: 1 grades below 0, which mark spam, are read as 0." in " ".join(done.stderr.split())


def test_queries_that_are_too_few_are_not_recorded_as_trained_on(
    judged: Judgements, articles: sa.Engine, dsn: str
) -> None:
    said = error("train", "queries", NAME, "--judgements", "judged.jsonl", "--out", "new", dsn=dsn)
    assert "1 judgements or pairs name rows that don't exist, which leaves only 40 queries" in " ".join(said.split())
    assert rows(articles, "SELECT count(*) FROM semantic.judged_query") == [(0,)]


def test_nothing_is_held_out_if_a_file_cannot_be_written(
    articles: sa.Engine, judged: Judgements, here: Path, dsn: str
) -> None:
    command = ("split", NAME, "--judgements", "judged.jsonl", "--train", "none/train.jsonl", "--held-out", "held.jsonl")
    assert "Cannot write none/train.jsonl" in error(*command, dsn=dsn)
    assert rows(articles, "SELECT * FROM semantic.judged_query") == []
    assert not (here / "held.jsonl").exists()


@pytest.mark.parametrize(
    "command",
    ["queries --judgements judged.jsonl", "encoder --pairs judged.jsonl", "reranker --pairs mined.jsonl"],
)
def test_the_error_that_queries_are_too_few_counts_those_that_are_held_out(
    enough: Judgements, dsn: str, command: str
) -> None:
    ok("split", NAME, "--judgements", "judged.jsonl", "--held-out", "held.jsonl", "--share", "1", dsn=dsn)
    what, *rest = command.split()
    said = " ".join(error("train", what, NAME, *rest, "--out", "new", dsn=dsn).split())
    assert "training needs 50" in said
    assert "60 others are held out to measure with." in said
