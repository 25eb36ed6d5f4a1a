"""Tuning: the rankings that it computes are those of the server, and it changes nothing without a reason."""

import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import cli, errors, evaluation, generations, search, tuning
from pg_semantic.cli import tune_request
from pg_semantic.evaluation import Judgements
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.search import Convex, Diverse, Options, Rrf
from pg_semantic.tuning import Setting, TuningOptions, candidates
from pg_semantic.tuning.candidates import LegOptions
from pg_semantic.worker import privileges
from tests.db.library import Article, Base, ForgetfulEncoder, encoder, execute, sync

WORDS = ["harbour", "candle", "meadow", "engine", "violin", "glacier", "pepper", "lantern", "anchor", "thistle"]
QUERIES = tuple(f"{first} {second}" for first in WORDS for second in WORDS if first < second)  # 45
SETTINGS = [
    *tuning.grid(Setting()),
    Setting(Rrf(0, dense=0.3, lexical=1), depth=7),
    Setting(Rrf(5, dense=0, lexical=2), depth=3),
    Setting(Convex(3, 1), depth=1),
    Setting(Convex(0.1, 0.9), depth=20),
    *(Setting(fusion, depth, match) for fusion in (Rrf(), Convex()) for depth in (4, 30) for match in get_args(Match)),
]


def fill(engine: sa.Engine) -> None:
    """Rows with one to three of the words, many of them equal, so that there are ties in both legs."""
    with Session(engine) as session:
        chance = np.random.default_rng(0)
        for number in range(300):
            words = chance.choice(WORDS, chance.integers(1, 4))
            session.add(Article(id=number + 1, title=" ".join(words), lang="half" if number % 2 else "en"))
        session.commit()
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


def judged_by(engine: sa.Engine, options: Options) -> Judgements:
    """Judgements by which these options are the best: their first three rows are relevant."""
    grades = {}
    with Session(engine) as session:
        searcher = search.Searcher(encoder())
        for query in QUERIES:
            hits = searcher.search(session, Article.semantic, query, mode="hybrid", limit=3, options=options)
            grades[query] = {str(hit.entity.id): 3 - rank for rank, hit in enumerate(hits)}
    return Judgements(grades)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.code)
def test_the_computed_ranking_is_that_of_the_server(library: sa.Engine, setting: Setting) -> None:
    searcher = search.Searcher(encoder())
    with Session(library) as session:
        for query in QUERIES[::5]:
            vector = encoder().encode_queries([query])[0]
            how = LegOptions(depth=200, matches=get_args(Match), exact=True)
            found = candidates.find(session, Article.semantic, query, vector=vector, how=how)
            limit = min(10, setting.depth)  # a longer page reaches beyond the depth
            hits = searcher.search(
                session, Article.semantic, query, mode="hybrid", limit=limit, exact=True, options=setting.options
            )
            keys = [str(hit.entity.id) for hit in hits]
            computed = found.fused(setting.fusion, depth=setting.depth, limit=limit, match=setting.match)
            assert computed == keys


def tuned(engine: sa.Engine, judged: Judgements, **options: Any) -> tuning.Tuning:
    with Session(engine) as session:
        given = TuningOptions(measure="nDCG@3", **options)
        return tuning.tune(session, Article.semantic, judged, options=given, encoder=encoder())


def test_a_setting_that_is_better_on_queries_it_was_not_chosen_by_is_recommended(library: sa.Engine) -> None:
    wanted = Setting(Convex(0.0, 1.0))
    found = tuned(library, judged_by(library, wanted.options))
    assert found.best == found.recommended == wanted
    assert found.base == Setting()
    assert found.means[wanted] > found.base_mean
    assert 0 < found.low < found.fold_mean - found.base_mean < found.high
    assert found.p < 0.05
    assert found.queries == len(QUERIES)


def test_the_settings_in_use_are_kept_if_they_are_the_best(library: sa.Engine) -> None:
    in_use = Options(fusion=Convex(0.0, 1.0))
    found = tuned(library, judged_by(library, in_use), base=in_use)
    assert found.best == found.recommended == found.base == Setting.of(in_use)
    assert found.fold_mean == found.base_mean == 1


def test_held_out_queries_are_left_out_and_counted(library: sa.Engine) -> None:
    judged = judged_by(library, Options())
    with Session(library) as session:
        parts = evaluation.split(session, Article.semantic, judged, held_out=0.4)
        session.commit()
    found = tuned(library, judged)
    assert found.queries == len(judged) - found.held_out
    assert found.held_out >= len(parts.held_out) > 0


def test_what_was_tuned_on_is_not_held_out_later(library: sa.Engine) -> None:
    judged = judged_by(library, Options())
    some = judged.only(QUERIES[:20])
    with Session(library) as session:
        tuning.tune(session, Article.semantic, some, options=TuningOptions(measure="nDCG@3"), encoder=encoder())
        session.commit()
        parts = evaluation.split(session, Article.semantic, judged, held_out=1)
    assert set(parts.train.queries) >= set(some.queries)
    assert not set(parts.held_out.queries) & set(some.queries)


def test_too_few_queries_are_refused(library: sa.Engine) -> None:
    with pytest.raises(errors.QueryError, match="fewer than two queries have a relevant row"):
        tuned(library, judged_by(library, Options()).only(QUERIES[:1]))
    with pytest.raises(errors.QueryError, match=r"relevant row. 45 judgements are about rows that don't exist.$"):
        tuned(library, Judgements({query: {"9999": 1} for query in QUERIES}))


def switch_to(engine: sa.Engine, **changes: Any) -> None:
    live = generations.find(engine, "article_semantic", "live")
    generations.begin(engine, live, live.spec.__class__.from_json(live.spec.to_json() | changes))
    sync(engine)
    generations.switch(engine, "article_semantic")


def test_kept_options_are_read_by_applications_until_a_switch_to_other_documents(
    library: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def kept() -> Options:
        with Session(library) as session:
            return search.tuned_options(session, Article.semantic)

    assert kept() == Options()
    found = tuned(library, judged_by(library, Options(fusion=Convex(0.0, 1.0))))
    tuning.save(library, found)
    assert kept() == found.recommended.options != Options()
    tuning.save(library, tuned(library, judged_by(library, Options(fusion=Rrf(2)))))
    assert kept().fusion != found.recommended.fusion
    tuning.save(library, found)
    switch_to(library, hnsw={"m": 8, "ef_construction": 32})
    assert kept() == found.recommended.options  # the same documents
    generations.drop(library, "article_semantic", "previous")
    switch_to(library, columns=["title"])
    assert kept() == Options()
    assert "were tuned for other documents" in caplog.text
    generations.rollback(library, "article_semantic")
    assert kept() == found.recommended.options


def test_the_match_of_the_base_is_tuned_with_and_kept(library: sa.Engine) -> None:
    base = Options(match="all", depth=20)
    found = tuned(library, judged_by(library, Options(fusion=Convex(0.0, 1.0), match="all")), base=base)
    assert found.recommended == Setting(Convex(0.0, 1.0), 20, "all")
    assert found.recommended.code == 'Options(fusion=Convex(dense=0, lexical=1), depth=20, match="all")'
    tuning.save(library, found)
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic) == Options(Convex(0.0, 1.0), match="all", depth=20)
    given = TuningOptions(base=base, settings=[Setting(Convex(1, 0))])
    assert {setting.match for setting in given.tried} == {"all"}


def test_match_is_tuned_if_asked_for_and_kept(library: sa.Engine) -> None:
    judged = judged_by(library, Options(fusion=Convex(0.0, 1.0), match="all"))
    usual = tuned(library, judged)
    assert {(setting.depth, setting.match) for setting in usual.means} == {(100, "any")}
    found = tuned(library, judged, matches=("any", "all"))
    assert len(found.means) == 2 * len(usual.means)
    assert found.recommended == Setting(Convex(0.0, 1.0), match="all")
    assert found.means[found.recommended] == 1 > max(usual.means.values())
    tuning.save(library, found)
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic) == Options(Convex(0.0, 1.0), match="all")


def test_depth_is_tuned_if_asked_for_and_kept(library: sa.Engine) -> None:
    judged = judged_by(library, Options(depth=3))
    found = tuned(library, judged, depths=(3, 100))
    assert len(found.means) == 2 * len(tuned(library, judged).means)
    assert found.recommended == Setting(depth=3)
    assert found.means[found.recommended] == 1
    tuning.save(library, found)
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic) == Options(depth=3)


def test_the_command_tunes_depth_and_match(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    judged = judged_by(library, Options(fusion=Convex(0.0, 1.0), match="all"))
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in judged.grades.items()), "utf-8")
    arguments = ["tune", "article_semantic", "--judgements", str(file), "--measure", "nDCG@3", "--dsn", dsn, "--json"]
    asked = ["--match", "any", "--match", "all", "--depths", "50,100"]
    figures = json.loads(CliRunner().invoke(cli.app, [*arguments, *asked]).stdout)
    assert len(figures["settings"]) == 4 * 22
    assert 'match="all"' in figures["recommended"]
    wrong = CliRunner().invoke(cli.app, [*arguments, "--depths", "50,many"])
    assert wrong.exit_code != 0
    assert "--depths 50,many: write whole numbers" in str(wrong.exception)


def test_depth_and_match_of_the_settings_in_use_are_kept_without_evidence(library: sa.Engine) -> None:
    in_use = Options(fusion=Convex(0.0, 1.0), match="all", depth=20)
    found = tuned(library, judged_by(library, in_use), base=in_use, depths=(5, 100), matches=("any", "phrase"))
    assert found.recommended == found.base == Setting.of(in_use)


def test_each_leg_is_asked_once_for_each_query(library: sa.Engine) -> None:
    judged = judged_by(library, Options()).only(QUERIES[:4])
    ran: list[str] = []
    sa.event.listen(library, "before_cursor_execute", lambda *event: ran.append(event[2]))
    tuned(library, judged, depths=(5, 100, 200), matches=("any", "all"))
    searches = [text for text in ran if "<=>" in text]
    assert len(searches) == len(judged)
    assert [text.count("bm25_query_weights_v1") for text in searches] == [2] * len(judged)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"depths": (0, 50)}, errors.QueryError, "depth=0"),
        ({"depths": (2, 50)}, errors.ConfigurationError, "nDCG@3 looks at more rows than the 2"),
        ({"matches": ("every",)}, errors.ConfigurationError, "match='every' is unknown: use one of any, all"),
    ],
)
def test_depths_and_matches_that_no_search_has_are_refused(
    library: sa.Engine, given: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        tuned(library, judged_by(library, Options()), **given)


@pytest.mark.parametrize(
    ("base", "said"),
    [(Options(min_score=0.5), "min_score"), (Options(diverse=Diverse(0.5), min_score=0.1), "diverse and min_score")],
)
def test_a_base_with_steps_after_the_fusion_is_refused(library: sa.Engine, base: Options, said: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"tuned without {said}: leave them out of the base"):
        tuned(library, judged_by(library, Options()), base=base)


def test_queries_that_differ_only_in_case_are_tuned_on_once(library: sa.Engine) -> None:
    judged = judged_by(library, Options())
    shouted = Judgements({query.upper(): graded for query, graded in judged.grades.items()})
    assert tuned(library, judged.merged(shouted)).queries == len(judged)


def test_an_application_that_only_reads_the_table_gets_the_tuned_options(library: sa.Engine) -> None:
    tuning.save(library, tuned(library, judged_by(library, Options(fusion=Convex(0.0, 1.0)))))
    role = f"reader_{str(library.url.database)[-8:]}"
    execute(library, f"CREATE ROLE {role}; GRANT SELECT ON article TO {role}")
    privileges.follow(library)
    with Session(library) as session:
        session.execute(sa.text(f"SET LOCAL ROLE {role}"))
        assert search.tuned_options(session, Article.semantic).fusion == Convex(0.0, 1.0)
    execute(library, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_command_prints_a_line_to_paste_and_keeps_it(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    judged = judged_by(library, Options(fusion=Convex(0.0, 1.0)))
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in judged.grades.items()), "utf-8")
    arguments = ["tune", "article_semantic", "--judgements", str(file), "--measure", "nDCG@3", "--dsn", dsn]
    done = CliRunner().invoke(cli.app, [*arguments, "--save"])
    assert done.exit_code == 0, done.output
    assert "Options(fusion=Convex(dense=0, lexical=1))" in done.output
    figures = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"]).stdout)
    assert figures["recommended"] == "Options(fusion=Convex(dense=0, lexical=1))"
    assert QUERIES[0] not in json.dumps(figures)
    compared = ["--variant", "a:mode=hybrid,fusion=convex,dense=0,lexical=1", "--variant", "b:mode=hybrid,fusion=tuned"]
    evaluated = ["evaluate", "article_semantic", "--judgements", str(file), "--dsn", dsn, *compared, "--json"]
    first, second = json.loads(CliRunner().invoke(cli.app, evaluated).stdout)["variants"]
    assert first["settings"] == second["settings"]
    execute(library, "UPDATE semantic.tuned_options SET options = options")  # one row
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic).fusion == Convex(0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--sample 9", "--sample means nothing for a fusion or a reranker"),
        ("--reranker x --sample 9", "--sample means nothing for a fusion or a reranker"),
        ("--chunk-sizes 64 --exact", "--exact means nothing for --chunk-sizes"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options: str, said: str) -> None:
    arguments = ["tune", "article_semantic", "--judgements", "judged.jsonl", *options.split()]
    with pytest.raises(errors.ConfigurationError, match=f"^{said}"):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def test_a_session_that_is_bound_by_class_is_tuned_with(library: sa.Engine) -> None:
    judged = judged_by(library, Options())
    with Session(binds={Base: library}) as session:
        options = TuningOptions(measure="nDCG@3")
        assert tuning.tune(session, Article.semantic, judged, options=options, encoder=encoder()).queries == len(
            QUERIES
        )


def test_queries_that_the_encoder_finds_nothing_in_are_left_out_and_counted(library: sa.Engine) -> None:
    """As those of an encoder without subwords, all of whose words are unknown."""
    judged, blind = judged_by(library, Options()), ForgetfulEncoder(QUERIES[0], QUERIES[7])
    options = TuningOptions(measure="nDCG@3")
    with Session(library) as session:
        found = tuning.tune(session, Article.semantic, judged, options=options, encoder=blind)
        session.commit()
        parts = evaluation.split(session, Article.semantic, judged, held_out=1)
    others = judged.only(set(QUERIES) - set(blind.unknown))
    assert (found.queries, found.zero, found.figures["zero"]) == (len(others), 2, 2)
    assert found.means == tuned(library, others).means
    assert set(parts.held_out.queries) <= set(blind.unknown)  # they were not tuned on


def test_a_tuning_without_any_query_that_the_encoder_knows_is_refused(library: sa.Engine) -> None:
    judged, blind = judged_by(library, Options()), ForgetfulEncoder(*QUERIES[1:])
    with Session(library) as session, pytest.raises(errors.QueryError, match="finds nothing in 44 of 45 queries"):
        tuning.tune(session, Article.semantic, judged, options=TuningOptions(measure="nDCG@3"), encoder=blind)


def test_the_command_says_how_many_queries_the_encoder_finds_nothing_in(library: sa.Engine) -> None:
    found = dataclasses.replace(tuned(library, judged_by(library, Options())), zero=3)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        tune_request.say_gain(found, base_mean=found.base_mean)
    said = " ".join(printed.getvalue().split())
    assert "Queries left out, because the encoder finds nothing in them (their vectors are zero): 3." in said
