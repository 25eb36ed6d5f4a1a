"""Evaluation: figures of variants on judgements, their differences, gates and history."""

import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import ir_measures
import pytest
import sqlalchemy as sa
from ir_measures import RR, Qrel, ScoredDoc, nDCG
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import cli, errors, evaluation, generations, search
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.evaluation import EvaluationOptions, Judgements, Variant
from pg_semantic.search import Convex, Options
from tests.db.library import Article, CountingEncoder, ForgetfulEncoder, encoder, execute, rows, sync

WORDS = [
    *("harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern"),
    *("anchor", "thistle", "walnut", "copper", "ribbon", "saddle", "marble"),
]
QUERIES = tuple(f"{first} {second}" for first in WORDS for second in WORDS if first < second)  # 105
VARIANTS = (
    Variant("now"),
    Variant("words", mode="lexical"),
    Variant("both", mode="hybrid"),
    Variant("mostly words", mode="hybrid", options=Options(fusion=Convex(dense=0.1, lexical=0.9))),
)


def fill(engine: sa.Engine) -> None:
    """One row per query, with both of its words and one more, and rows with one of the words each."""
    with Session(engine) as session:
        for number, query in enumerate(QUERIES):
            session.add(Article(id=number + 1, title=f"{query} {WORDS[number % 15]} {number}"))
        session.add_all(Article(id=1000 + number, title=f"{word} {number}") for number, word in enumerate(WORDS * 3))
        session.commit()
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


@pytest.fixture
def judged() -> Judgements:
    return Judgements({query: {str(number + 1): 2, str(1000 + number % 15): 1} for number, query in enumerate(QUERIES)})


def evaluated(engine: sa.Engine, judged: Judgements, **options: Any) -> evaluation.Evaluation:
    with Session(engine) as session:
        return evaluation.evaluate(session, Article.semantic, judged, encoder=encoder(), **options)


def test_the_figures_are_those_of_the_searcher_and_of_ir_measures(library: sa.Engine, judged: Judgements) -> None:
    report = evaluated(library, judged, variants=VARIANTS, options=EvaluationOptions(["nDCG@10", "RR@5"]))
    qrels = [Qrel(query, key, grade) for query in judged.queries for key, grade in judged.grades[query].items()]
    searcher = search.Searcher(encoder())
    with Session(library) as session:
        for variant in VARIANTS:
            how: dict[str, Any] = {"mode": variant.mode, "options": variant.options}
            run = [
                ScoredDoc(query, str(hit.entity.id), -rank)
                for query in judged.queries
                for rank, hit in enumerate(searcher.search(session, Article.semantic, query, limit=10, **how))
            ]
            expected = ir_measures.calc_aggregate([nDCG @ 10, RR @ 5], qrels, run)
            assert report[variant.name].measures == pytest.approx(
                {"nDCG@10": expected[nDCG @ 10], "RR@5": expected[RR @ 5]}, abs=1e-9
            )
    assert (report.queries, report.judgements, report.gone, report.limit) == (105, 210, 0, 10)


def test_queries_that_differ_only_in_case_count_once(library: sa.Engine, judged: Judgements) -> None:
    shouted = Judgements({query.upper(): graded for query, graded in judged.grades.items()})
    report = evaluated(library, judged.merged(shouted))
    assert (report.queries, report.unanswerable, report.judgements) == (105, 0, 210)
    assert report.base.measures == evaluated(library, judged).base.measures
    assert any("105 queries differ from another one only in case" in one for one in report.warnings)


def test_a_clear_difference_is_shown_and_its_absence_too(library: sa.Engine, judged: Judgements) -> None:
    half = Variant("half", where=[Article.id % 2 == 0])
    report = evaluated(library, judged, variants=[half, *VARIANTS[1:], dataclasses.replace(half, name="again")])
    words, again = report["words"].difference, report["again"].difference
    assert words is not None
    assert again is not None
    assert words.low > 0
    assert words.p < words.adjusted_p < 0.05
    assert words.better + words.worse <= words.queries == 105
    assert (again.mean, again.p, again.adjusted_p, again.better, again.worse) == (0, 1, 1, 0, 0)
    report.require_better("words")
    report.require_not_worse("again")
    with pytest.raises(AssertionError, match=r"'again' isn't shown to be better than 'half': the difference in nDCG"):
        report.require_better("again")
    with pytest.raises(AssertionError, match="less than the required 1"):
        report.require("nDCG@10", 1.0)
    assert report.base.difference is None
    with pytest.raises(errors.QueryError, match="is the base"):
        report.require_better("half")


def test_a_gain_on_a_few_queries_proves_nothing(library: sa.Engine, judged: Judgements) -> None:
    half = Variant("half", where=[Article.id % 2 == 0])
    odd = judged.only(query for number, query in enumerate(QUERIES[:8]) if number % 2 == 0)  # rows that half lacks
    report = evaluated(library, odd, variants=[half, VARIANTS[1], dataclasses.replace(half, name="again")])
    gain = report["words"].difference
    assert gain is not None
    assert (gain.queries, gain.better, gain.low > 0) == (4, 4, True)
    with pytest.raises(AssertionError, match=r"isn't shown to be better than 'half'.* p 0\.\d+, over 4 queries"):
        report.require_better("words")
    with pytest.raises(AssertionError, match=r"shown to be at most 0\.01 worse"):
        report.require_not_worse("again")
    report.require_not_worse("again", by=0)  # it is equal on every query


def test_generations_with_other_encoders_are_compared_by_rows(library: sa.Engine, judged: Judgements) -> None:
    with pytest.raises(errors.GenerationError, match="has no next generation"):
        evaluated(library, judged, variants=[Variant("now"), Variant("next", generation="next")])
    live = generations.find(library, "article_semantic", "live")
    larger = dataclasses.replace(
        live.spec, encoder=dataclasses.replace(live.spec.encoder, reference="hashed:48", dimensions=48)
    )
    generations.begin(library, live, larger)
    sync(library)
    both = [Variant("now"), Variant("next", generation="next"), Variant("exact", generation="next", exact=True)]
    before = evaluated(library, judged, variants=both)
    assert [one.encoder for one in before.variants] == ["hashed:32", "hashed:48", "hashed:48"]
    generations.switch(library, "article_semantic")
    after = evaluated(library, judged, variants=[Variant("now"), Variant("previous", generation="previous")])
    assert after["now"].measures == before["next"].measures
    assert after["previous"].measures == before["now"].measures


def test_rows_that_are_gone_are_left_out_and_counted(library: sa.Engine, judged: Judgements) -> None:
    execute(library, "DELETE FROM article WHERE id IN (1, 1000)")
    sync(library)
    report = evaluated(library, judged)
    lost = sum(graded.keys() <= {"1", "1000"} for graded in judged.grades.values())
    assert report.gone == 1 + sum("1000" in graded for graded in judged.grades.values())
    assert (report.unanswerable, report.queries) == (lost, 105 - lost)
    assert f"Queries left out because no row that exists is relevant to them: {lost}." in report.warnings
    assert any("left out because their rows don't exist" in warning for warning in report.warnings)
    execute(library, "DELETE FROM article")
    with pytest.raises(errors.QueryError, match="no query has a relevant row"):
        evaluated(library, judged)


def test_few_queries_and_unequal_holes_are_warned_about(library: sa.Engine, judged: Judgements) -> None:
    few = judged.only(QUERIES[:20])
    report = evaluated(library, few, variants=VARIANTS[:2], options=EvaluationOptions(["nDCG@1", "RR@5"]))
    assert "Few queries (20): with fewer than 50, trust only large differences." in report.warnings
    assert abs(report["words"].judged - report["now"].judged) > 0.05
    assert any("may come from unjudged rows" in warning for warning in report.warnings)
    assert report["words"].condensed is not None
    assert report["words"].condensed >= report["words"].measures["nDCG@1"]


def test_the_pool_is_what_no_one_judged_and_fills_the_holes(
    library: sa.Engine, judged: Judgements, tmp_path: Path
) -> None:
    report = evaluated(library, judged, variants=VARIANTS)
    file = tmp_path / "pool.csv"
    count = report.write_pool(file)
    assert file.stat().st_mode & 0o077 == 0
    with file.open(encoding="utf-8", newline="") as opened:
        records = list(csv.DictReader(opened))
    assert len(records) == count > 0
    assert all(one["key"] not in judged.grades[one["query"]] and one["grade"] == "" for one in records)
    file.write_text("query,key,grade\n" + "".join(f"{one['query']},{one['key']},0\n" for one in records), "utf-8")
    full = evaluated(library, judged.merged(Judgements.read(file)), variants=VARIANTS)
    assert full.pool() == []
    assert [one.judged for one in full.variants] == [1.0] * 4
    assert [one.measures for one in full.variants] == [one.measures for one in report.variants]


def test_differences_are_reported_apart_for_rows_seen_in_training(library: sa.Engine, judged: Judgements) -> None:
    training = Judgements({"another question": {str(number + 1): 1 for number in range(30)}})
    report = evaluated(library, judged, variants=VARIANTS[:2], options=EvaluationOptions(training=training))
    seen, unseen, every = report["words"].seen, report["words"].unseen, report["words"].difference
    assert seen is not None
    assert unseen is not None
    assert every is not None
    assert (seen.queries, unseen.queries, every.queries) == (30, 75, 105)
    assert every.mean == pytest.approx((seen.mean * 30 + unseen.mean * 75) / 105)


def test_the_session_of_the_caller_keeps_its_changes(library: sa.Engine, judged: Judgements) -> None:
    with Session(library) as session:
        article = session.get_one(Article, 1)
        article.title = "not flushed yet"
        evaluation.evaluate(session, Article.semantic, judged.only(QUERIES[:3]), encoder=encoder())
        assert article in session
        session.commit()
    assert rows(library, "SELECT title FROM article WHERE id = 1") == [("not flushed yet",)]


def test_history_tells_whether_the_same_search_has_become_worse(library: sa.Engine, judged: Judgements) -> None:
    def change() -> evaluation.Change | None:
        return evaluation.change(library, evaluated(library, judged))

    assert change() is None
    evaluation.require_not_worse(None, evaluated(library, judged))
    evaluation.save(library, evaluated(library, judged, variants=VARIANTS))
    same = change()
    assert same is not None
    assert (same.mean, same.is_worse) == (0, False)
    execute(library, "UPDATE article SET title = 'nothing of interest' WHERE id % 2 = 0 AND id < 1000")
    sync(library)
    worse = change()
    assert worse is not None
    assert worse.is_worse
    with pytest.raises(AssertionError, match="nDCG@10 of 'now' fell by"):
        evaluation.require_not_worse(worse, evaluated(library, judged))
    assert evaluation.change(library, evaluated(library, judged.only(QUERIES[1:]))) is None  # other judgements


def test_evaluations_with_other_limits_are_not_compared(library: sa.Engine, judged: Judgements) -> None:
    evaluation.save(library, evaluated(library, judged, options=EvaluationOptions(limit=10)))
    for limit, compared in ((20, False), (10, True), (None, True)):
        found = evaluation.change(library, evaluated(library, judged, options=EvaluationOptions(limit=limit)))
        assert (found is not None) is compared


def test_the_time_of_a_search_includes_encoding_also_of_queries_that_are_cached(
    library: sa.Engine, judged: Judgements
) -> None:
    counting, few = CountingEncoder(), judged.only(QUERIES[:5])
    with Session(library) as session, BatchingEncoder(counting) as shared:
        for warming in (1, 0):  # the first query also warms up, unless it is cached
            evaluation.evaluate(session, Article.semantic, few, variants=VARIANTS, encoder=shared)
            assert counting.encoded == Counter(few.queries) + Counter({few.queries[0]: warming})
            counting.encoded.clear()


def test_relevant_rows_that_are_lost_count_as_worse(library: sa.Engine) -> None:
    own = Judgements({query: {str(number + 1): 1} for number, query in enumerate(QUERIES)})
    evaluation.save(library, evaluated(library, own))
    execute(library, "DELETE FROM article WHERE id <= 30")
    sync(library)
    report = evaluated(library, own)
    assert (report.queries, report.unanswerable) == (75, 30)
    lost = evaluation.change(library, report)
    assert lost is not None
    assert lost.is_worse


def test_no_query_is_kept_in_the_database(library: sa.Engine, judged: Judgements) -> None:
    evaluation.save(library, evaluated(library, judged, variants=VARIANTS))
    kept = rows(library, "SELECT CAST(evaluation AS text) FROM semantic.evaluation")
    assert len(kept) == 4
    assert not [text for (text,) in kept for query in QUERIES if query in text]


def invoke(dsn: str, *arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["evaluate", "article_semantic", *map(str, arguments), "--dsn", dsn])


def test_the_command_prints_writes_gates_and_keeps(
    library: sa.Engine, dsn: str, judged: Judgements, tmp_path: Path
) -> None:
    file, queries = tmp_path / "judged.jsonl", tmp_path / "queries.csv"
    file.write_text("".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in judged.grades.items()), "utf-8")
    given = ("--judgements", file, "--variant", "now", "--variant", "words:mode=lexical")
    done = invoke(dsn, *given, "--per-query", queries, "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert (figures["queries"], [one["name"] for one in figures["variants"]]) == (105, ["now", "words"])
    assert QUERIES[0] not in done.stdout
    with queries.open(encoding="utf-8", newline="") as opened:
        losses = [float(one["difference"]) for one in csv.DictReader(opened)]
    assert losses == sorted(losses)
    assert len(losses) == 105
    assert len(rows(library, "SELECT FROM semantic.evaluation")) == 2
    done = invoke(dsn, *given, "--min", "nDCG@10=0.999", "--not-worse-than", "last", "--no-save")
    assert done.exit_code == 1
    assert "less than the required 0.999" in done.stderr
    assert "fell by" not in done.stderr
    assert len(rows(library, "SELECT FROM semantic.evaluation")) == 2
    done = CliRunner().invoke(cli.app, ["index", "drop", "article_semantic", "--yes", "--dsn", dsn])
    assert done.exit_code == 0, done.output
    assert rows(library, "SELECT FROM semantic.evaluation") == []


def test_who_cannot_read_earlier_figures_is_told_before_any_search(
    library: sa.Engine, dsn: str, judged: Judgements, tmp_path: Path
) -> None:
    role = "reader_" + str(library.url.database)[-8:]
    judged.write(tmp_path / "judged.jsonl")
    execute(library, f"CREATE ROLE {role} LOGIN; GRANT SELECT ON article TO {role}")
    assert CliRunner().invoke(cli.app, ["privileges", "--dsn", dsn]).exit_code == 0
    as_role = sa.make_url(dsn).set(username=role).render_as_string(hide_password=False)
    searched = ("--judgements", tmp_path / "judged.jsonl", "--per-query", tmp_path / "queries.csv")
    try:
        assert invoke(as_role, *searched, "--no-save").exit_code == 0
        (tmp_path / "queries.csv").unlink()
        done = invoke(as_role, *searched, "--not-worse-than", "last")
        assert "permission denied for table evaluation" in " ".join(str(done.exception).split())
        assert not (tmp_path / "queries.csv").exists()
    finally:
        execute(library, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_measure_of_all_results_needs_no_more_of_them_than_the_limit(library: sa.Engine, judged: Judgements) -> None:
    report = evaluated(library, judged, options=EvaluationOptions(["AP"], limit=5))
    asked = evaluated(library, judged, options=EvaluationOptions(["AP@5", "Judged@5"])).base
    assert (report.limit, report.base.measures["AP"]) == (5, asked.measures["AP@5"])
    assert report.base.judged == asked.measures["Judged@5"] < 1
    with pytest.raises(errors.ConfigurationError, match="limit=5 is too low for Judged@10"):
        EvaluationOptions(["AP", "Judged@10"], limit=5)


@pytest.mark.usefixtures("library")
def test_training_judgements_can_be_qrels_of_the_same_topics(dsn: str, tmp_path: Path) -> None:
    topics, qrels = tmp_path / "topics.txt", tmp_path / "qrels.txt"
    topics.write_text("".join(f"{number}\t{query}\n" for number, query in enumerate(QUERIES)), "utf-8")
    qrels.write_text("".join(f"{number} 0 {number + 1} 1\n" for number in range(105)), "utf-8")
    some, table = tmp_path / "some.txt", tmp_path / "some.csv"
    some.write_text("".join(f"{number} 0 {number + 1} 1\n" for number in range(30)), "utf-8")
    table.write_text("query,key\n" + "".join(f"{QUERIES[number]},{number + 1}\n" for number in range(30)), "utf-8")
    for training in (some, table):
        given = ("--judgements", qrels, "--topics", topics, "--training", training, "--no-save", "--json")
        done = invoke(dsn, *given, "--variant", "now", "--variant", "words:mode=lexical")
        assert done.exit_code == 0, done.output
        _, words = json.loads(done.stdout)["variants"]
        assert (words["seen"]["queries"], words["unseen"]["queries"]) == (30, 75)


@pytest.mark.usefixtures("library")
def test_the_command_does_not_write_a_pool_over_grades(dsn: str, judged: Judgements, tmp_path: Path) -> None:
    file, pool = tmp_path / "judged.jsonl", tmp_path / "pool.csv"
    judged.only(QUERIES[:3]).write(file)
    given = ("--judgements", file, "--pool", pool, "--no-save")
    for _ in range(2):
        assert invoke(dsn, *given).exit_code == 0
    graded = pool.read_text("utf-8").replace(",\n", ",1\n", 1)
    pool.write_text(graded, "utf-8")
    done = invoke("postgresql://nowhere.invalid/x", *given)  # refused before anything is measured
    assert isinstance(done.exception, errors.ConfigurationError)
    assert "isn't a list of results without grades" in str(done.exception)
    assert pool.read_text("utf-8") == graded


@pytest.mark.usefixtures("library")
def test_judgements_can_be_a_select(dsn: str) -> None:
    done = invoke(dsn, "--judgements-sql", "SELECT title, id FROM article WHERE id < 50", "--no-save")
    assert done.exit_code == 0, done.output
    assert "49 queries" in done.output


@pytest.mark.usefixtures("articles")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "pass either --judgements or --judgements-sql"),
        (("--judgements", "x", "--judgements-sql", "SELECT"), "pass either"),
        (("--judgements", "x", "--min", "nDCG@10"), "write a measure and a number"),
        (("--judgements", "x", "--min", "nDCG@10=nan"), "write a measure and a number"),
        (("--judgements-sql", "SELECT", "--topics", "x"), "--topics has no effect with --judgements-sql"),
        (("--judgements-sql", "SELECT", "--split", "dev"), "--split dev names qrels of a BEIR folder"),
        (("--judgements", "x.csv", "--split", "dev"), "--split dev names qrels of a BEIR folder"),
        (("--judgements", "x", "--not-worse-than", "first"), "takes only `last`"),
        (("--judgements", "x", "--per-query", "./x"), "x is named by two options"),
        (("--judgements", "x", "--pool", "y", "--per-query", "y"), "y is named by two options"),
    ],
)
def test_wrong_usage_of_the_command_is_explained(dsn: str, arguments: tuple[str, ...], said: str) -> None:
    done = invoke(dsn, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("option", ["--pool", "--per-query"])
def test_a_file_that_cannot_be_written_is_named_before_any_search(
    judged: Judgements, tmp_path: Path, option: str
) -> None:
    judged.write(tmp_path / "judged.jsonl")
    given = ("--judgements", tmp_path / "judged.jsonl", option, tmp_path / "none" / "out.csv")
    done = invoke("postgresql://nowhere.invalid/x", *given)
    assert isinstance(done.exception, errors.ConfigurationError)
    assert "Cannot write" in str(done.exception)


def test_a_query_that_the_encoder_knows_no_word_of_finds_nothing_and_does_not_end_the_evaluation(
    library: sa.Engine, judged: Judgements
) -> None:
    blind = ForgetfulEncoder(*QUERIES[:2])
    with Session(library) as session:
        report = evaluation.evaluate(session, Article.semantic, judged, variants=VARIANTS, encoder=blind)
    usual = evaluated(library, judged, variants=VARIANTS)
    assert report["words"].measures == usual["words"].measures
    others = {one["query"]: one["base_value"] for one in usual.per_query("words")}
    found = {one["query"]: one["base_value"] for one in report.per_query("words")}
    assert found == others | dict.fromkeys(blind.unknown, 0.0)
    assert sum("finds nothing for 2 queries, because their vectors are zero" in one for one in report.warnings) == 3
