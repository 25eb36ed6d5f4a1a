"""The gate of a switch: judged queries, on which nothing was trained, decide whether a copy is good enough."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import cli, errors, evaluation, generations
from pg_semantic.cli import error_exit
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.evaluation import Judgements, Variant
from pg_semantic.worker import privileges
from tests.db.library import Article, ForgetfulEncoder, execute, generation_of, sync

NAME = "article_semantic"
WORDS = [
    *("harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern"),
    *("anchor", "thistle", "walnut", "copper", "ribbon", "saddle", "marble"),
]
QUERIES = tuple(f"{first} {second}" for first in WORDS for second in WORDS if first < second)  # 105
JUDGED = Judgements({query: {str(number + 1): 1} for number, query in enumerate(QUERIES)})


def fill(engine: sa.Engine) -> None:
    """One row per query, with other words too, in an index whose encoder tells most of the words apart."""
    with Session(engine) as session:
        session.add_all(
            Article(id=number + 1, title=f"{query} {WORDS[number % 15]} {WORDS[number * 7 % 15]} {number}")
            for number, query in enumerate(QUERIES)
        )
        session.commit()
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


def begin(engine: sa.Engine, dimensions: int) -> None:
    """Begins and fills a copy: the more dimensions the encoder has, the fewer words it confuses."""
    live = generations.find(engine, NAME, "live")
    encoder = dataclasses.replace(live.spec.encoder, reference=f"hashed:{dimensions}", dimensions=dimensions)
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=encoder))
    sync(engine)


def test_a_worse_copy_is_refused_with_the_interval(library: sa.Engine) -> None:
    begin(library, 4)
    for worse_by in (None, 0.0, 0.01):
        with pytest.raises(
            errors.GenerationError, match=r"was not switched: 'next' isn't shown to be .*95% interval -"
        ):
            generations.require_relevance(library, NAME, JUDGED, worse_by=worse_by)


def test_a_copy_that_is_not_filled_is_not_judged(library: sa.Engine) -> None:
    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    refused = r"\(next\) can't be measured yet: the backfill is not complete.*Run a worker first"
    with pytest.raises(errors.GenerationError, match=refused):
        generations.require_relevance(library, NAME, JUDGED, worse_by=0.0)
    with Session(library) as session:
        both = [Variant("now"), Variant("new", generation="next")]
        report = evaluation.evaluate(session, Article.semantic, JUDGED, variants=both)
    assert "'new' is too low: the next generation isn't filled yet. Run a worker first." in report.warnings
    sync(library)
    assert generations.require_relevance(library, NAME, JUDGED, worse_by=0.01).warnings == ()


def test_an_equal_copy_is_not_better_and_not_worse(library: sa.Engine) -> None:
    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    sync(library)
    with pytest.raises(errors.GenerationError, match="isn't shown to be better"):
        generations.require_relevance(library, NAME, JUDGED)
    generations.require_relevance(library, NAME, JUDGED, worse_by=0.01)
    report = generations.require_relevance(library, NAME, JUDGED, worse_by=0.0)
    assert report["next"].measures == report["live"].measures


def test_a_better_copy_passes_whatever_the_variant_says_of_generations(library: sa.Engine) -> None:
    begin(library, 4)
    generations.switch(library, NAME)
    generations.drop(library, NAME, "previous", grace_seconds=0)
    begin(library, 512)
    report = generations.require_relevance(library, NAME, JUDGED, how=Variant("any", generation="next"))
    assert [one.generation for one in report.variants] == ["live", "next"]
    assert report["next"].measures["nDCG@10"] > report["live"].measures["nDCG@10"]


def test_queries_that_were_trained_on_decide_nothing(library: sa.Engine) -> None:
    begin(library, 4)
    with Session(library) as session:
        evaluation.record_training(session, Article.semantic, QUERIES[:50])
        session.commit()
    with pytest.raises(errors.GenerationError, match="over 55 queries"):
        generations.require_relevance(library, NAME, JUDGED)
    with pytest.raises(errors.QueryError, match="All of these queries were trained or tuned on"):
        generations.require_relevance(library, NAME, JUDGED.only(QUERIES[:50]))


def test_queries_that_differ_only_in_case_count_once(library: sa.Engine) -> None:
    begin(library, 512)
    query = QUERIES[0]
    shouted = [query.upper(), query.title(), f"  {query} "]
    judged = JUDGED.only([query]).merged(Judgements(dict.fromkeys(shouted, JUDGED.grades[query])))
    both = generations.find(library, NAME, "live"), generations.find(library, NAME, "next")
    found = generations.compare(library, both, judged.queries, judged=judged)
    assert found.queries == 1
    assert found.difference is not None
    assert found.difference.queries == 1


def test_a_person_is_told_what_a_comparison_does_not_show(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    JUDGED.write(tmp_path / "judged.jsonl")
    with Session(library) as session:
        evaluation.record_training(session, Article.semantic, QUERIES[:50])
        session.commit()
    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    told = invoke(dsn, "compare", NAME, "--judgements", tmp_path / "judged.jsonl").stderr
    assert "(next) isn't filled yet: the backfill is not complete" in told
    assert "50 of 105 queries were tuned or trained on" in told
    sync(library)
    assert invoke(dsn, "compare", NAME).stderr == ""


def test_only_what_the_role_may_not_know_is_left_unsaid(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    JUDGED.write(tmp_path / "judged.jsonl")
    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    sync(library)
    compare = ("compare", NAME, "--judgements", tmp_path / "judged.jsonl")
    role = f"reader_{str(library.url.database)[-8:]}"
    execute(library, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    privileges.follow(library)
    done = invoke(with_options(dsn, f"-c role={role}"), *compare)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    execute(library, f"DROP OWNED BY {role}; DROP ROLE {role}")
    with library.begin() as connection:
        connection.execute(sa.text("LOCK TABLE semantic.judged_query"))
        done = invoke(with_options(dsn, "-c lock_timeout=100"), *compare)
    assert isinstance(done.exception, errors.DatabaseError)
    assert "lock" in str(done.exception)


def with_options(dsn: str, options: str) -> str:
    return sa.make_url(dsn).update_query_dict({"options": options}).render_as_string(hide_password=False)


def test_there_must_be_a_copy(library: sa.Engine) -> None:
    with pytest.raises(errors.GenerationError, match="has no next generation"):
        generations.require_relevance(library, NAME, JUDGED)


def invoke(dsn: str, *arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["generation", *map(str, arguments), "--dsn", dsn])


def test_the_command_switches_only_through_the_gate(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in JUDGED.grades.items()), "utf-8")
    begin(library, 4)
    for loss in (0, 0.01):
        done = invoke(dsn, "switch", NAME, "--judgements", file, "--unless-worse", loss)
        assert isinstance(done.exception, errors.GenerationError)
        assert error_exit.exit_code(done.exception) == 4
    assert generation_of(library).spec.encoder.reference == "hashed:32"
    compared = json.loads(invoke(dsn, "compare", NAME, "--judgements", file, "--json").stdout)
    assert compared["difference"]["high"] < 0
    assert compared["live_ndcg"] > compared["ndcg"]
    assert [share for share, _, _ in compared["scores"]] == [0.9, 0.75, 0.5, 0.25, 0.1]
    assert "min_score of next" in " ".join(invoke(dsn, "compare", NAME, "--judgements", file).output.split())
    generations.switch(library, NAME)
    generations.drop(library, NAME, "previous", grace_seconds=0)
    begin(library, 512)
    done = invoke(dsn, "switch", NAME, "--judgements", file, "--if-better")
    assert done.exit_code == 0, done.output
    assert generation_of(library).spec.encoder.reference == "hashed:512"


def test_the_command_accepts_an_equal_copy_and_qrels(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    sync(library)
    qrels, topics = tmp_path / "qrels", tmp_path / "topics"
    qrels.write_text("".join(f"{n} 0 {n + 1} 1\n{n} 0 999 -2\n" for n in range(20)), "utf-8")
    topics.write_text("".join(f"{n}\t{QUERIES[n]}\n" for n in range(20)), "utf-8")
    done = invoke(dsn, "switch", NAME, "--judgements", qrels, "--topics", topics, "--unless-worse", 0)
    assert done.exit_code == 0, done.output
    assert "20 grades below 0, which mark spam, are read as 0" in done.stderr
    assert generation_of(library).spec.hnsw.m == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--if-better",), "need --judgements"),
        (("--judgements", "x"), "needs --if-better or --unless-worse"),
        (("--judgements", "x", "--if-better", "--unless-worse", "0.1"), "cannot be combined"),
    ],
)
@pytest.mark.usefixtures("articles")
def test_options_that_say_nothing_are_refused(dsn: str, arguments: tuple[str, ...], said: str) -> None:
    done = invoke(dsn, "switch", NAME, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_queries_that_an_encoder_knows_nothing_of_are_counted_and_count_as_alike(library: sa.Engine) -> None:
    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    sync(library)
    both = (live, generations.find(library, NAME, "next"))
    blind = ForgetfulEncoder(*QUERIES[:20])
    found = generations.compare(library, both, QUERIES[:40], load=lambda _: BatchingEncoder(blind))
    assert (found.queries, found.zero, found.overlap) == (40, 20, 1)


def test_tuned_options_that_a_switch_ends_are_mentioned(library: sa.Engine, tmp_path: Path) -> None:
    JUDGED.write(tmp_path / "judged.jsonl")
    dsn = library.url.set(drivername="postgresql").render_as_string(hide_password=False)
    given = ("--judgements", str(tmp_path / "judged.jsonl"), "--dsn", dsn, "--how")

    def said(command: str, how: str, *more: str) -> str:
        done = CliRunner().invoke(cli.app, ["generation", command, NAME, *given, how, *more])
        assert done.exit_code == 0, done.output
        return " ".join(done.stderr.split())

    live = generations.find(library, NAME, "live")
    generations.begin(library, live, dataclasses.replace(live.spec, hnsw=dataclasses.replace(live.spec.hnsw, m=8)))
    sync(library)
    assert "A switch ends their use" not in said("compare", "mode=hybrid, fusion=tuned")
    generations.drop(library, NAME, "next")
    begin(library, 64)
    assert "A switch ends their use" in said("compare", "mode=hybrid, fusion=tuned")
    assert "A switch ends their use" not in said("compare", "mode=hybrid")
    assert "A switch ends their use" in said("switch", "mode=hybrid,fusion=tuned", "--unless-worse", "1")
