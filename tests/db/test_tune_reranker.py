"""Tuning a reranker: computed depths are those of searches, and no reranker is recommended without a gain."""

import dataclasses
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import cli, errors, evaluation, rerankers, search, tuning
from pg_semantic.encoders import BatchingEncoder
from pg_semantic.evaluation import Judgements
from pg_semantic.rerankers import BatchingReranker, Reranker, Scores, ScoreType
from pg_semantic.search import Convex, Diverse, Options, Rerank
from pg_semantic.search.generation_tracker import Target
from pg_semantic.tuning import RerankTuningOptions, Setting, Tuning, TuningOptions, rerank_depth, scored_hits
from pg_semantic.tuning.scored_hits import Scoring
from tests import cross_encoders
from tests.db.library import Article, CountingEncoder, ForgetfulEncoder, encoder, generation_of, rows, sync

WORDS = cross_encoders.WORDS
QUERIES = tuple(f"{first} {second}" for first in WORDS for second in WORDS if first < second)  # 45
DEPTHS = (3, 10, 40)


class HashedReranker:
    """Scores a pair by its hash, with many equal scores; counts the pairs."""

    reference = "hashed"
    score_type: ScoreType = "logit"

    def __init__(self, *, distinct: int = 1_000_000) -> None:
        self.distinct = distinct
        self.pairs = 0

    def score(self, query: str, passages: Sequence[str]) -> Scores:
        self.pairs += len(passages)
        return np.array([zlib.crc32(f"{query} {one}".encode()) % self.distinct for one in passages], np.float32)


def fill(engine: sa.Engine) -> None:
    """Rows with one to three of the words, many of them equal."""
    with Session(engine) as session:
        chance = np.random.default_rng(0)
        for number in range(300):
            words = chance.choice(WORDS, chance.integers(1, 4))
            session.add(Article(id=number + 1, title=" ".join(words)))
        session.commit()
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


def found_by(session: Session, query: str, options: Options, *, limit: int = 3) -> list[str]:
    hits = search.Searcher(encoder()).search(
        session, Article.semantic, query, mode="hybrid", limit=limit, exact=True, options=options
    )
    return [str(hit.entity.id) for hit in hits]


def judged_by(engine: sa.Engine, options: Options) -> Judgements:
    """Judgements by which these options are the best: their first three rows are relevant."""
    with Session(engine) as session:
        found = {query: found_by(session, query, options) for query in QUERIES}
    return Judgements({query: {key: 3 - rank for rank, key in enumerate(keys)} for query, keys in found.items()})


def reranking(hits: int, **options: Any) -> Options:
    return Options(rerank=Rerank(BatchingReranker(HashedReranker()), depth=hits), **options)


def tuned(
    engine: sa.Engine,
    judged: Judgements,
    *,
    reranker: Reranker | None = None,
    using: BatchingEncoder | None = None,
    **options: Any,
) -> Any:
    with Session(engine) as session:
        usual: dict[str, Any] = {"depths": DEPTHS, "measure": "nDCG@3", "exact": True}
        found = tuning.tune_rerank_depth(
            session,
            Article.semantic,
            judged,
            reranker=reranker or HashedReranker(),
            options=RerankTuningOptions(**usual | options),
            encoder=using or encoder(),
        )
        session.commit()
        return found


def fused(engine: sa.Engine, base: Options) -> Tuning:
    """A tuning of the fusion that recommends what is in use, because there is nothing else to try."""
    how = TuningOptions(base=base, settings=[])
    with Session(engine) as session:
        found = tuning.tune(session, Article.semantic, judged_by(engine, base), options=how)
        session.commit()
    assert found.recommended == Setting.of(base)
    return found


@pytest.mark.parametrize("distinct", [1_000_000, 4])
@pytest.mark.parametrize("options", [Options(), Options(fusion=Convex(0.3, 0.7), match="all", depth=20)], ids=str)
def test_the_computed_ranking_of_each_depth_is_that_of_a_search(
    library: sa.Engine, options: Options, distinct: int
) -> None:
    reranker = BatchingReranker(HashedReranker(distinct=distinct))
    live = generation_of(library)
    target = Target(live, live.tables, BatchingEncoder(encoder()))
    with Session(library) as session:
        how = Scoring(target, reranker, (*DEPTHS, 130), options, exact=True)
        computed = dict(scored_hits.search(session, Article.semantic, QUERIES[::9], how=how))
        assert tuple(computed) == QUERIES[::9]
        for query, hits in computed.items():
            assert hits.reranked(0, limit=10) == found_by(session, query, options, limit=10)
            for depth in how.depths:
                limit = min(10, depth)
                wanted = Options(options.fusion, options.match, options.depth, rerank=Rerank(reranker, depth=depth))
                assert hits.reranked(depth, limit=limit) == found_by(session, query, wanted, limit=limit)


def test_a_depth_that_is_better_on_queries_it_was_not_chosen_by_is_recommended(library: sa.Engine) -> None:
    found = tuned(library, judged_by(library, reranking(10)))
    assert found.best == found.recommended == 10
    none, *_, deepest = found.depths
    assert (none.depth, deepest.depth) == (None, 40)
    assert {one.depth: one.mean for one in found.depths}[10] == 1
    assert 0 < found.low < found.fold_mean - none.mean
    assert found.code.endswith(", rerank=Rerank(reranker, depth=10))")
    times = [one.p50_ms for one in found.depths]
    assert times == sorted(times)


def test_no_reranker_is_recommended_without_a_gain(library: sa.Engine) -> None:
    found = tuned(library, judged_by(library, Options()))
    assert found.recommended is None
    assert found.depths[0].mean == 1 > found.fold_mean
    assert found.code == Setting().code


def test_every_hit_is_scored_once(library: sa.Engine) -> None:
    reranker, judged = HashedReranker(), judged_by(library, Options())
    tuned(library, judged, reranker=reranker)
    assert reranker.pairs == len(judged) * DEPTHS[-1]


def test_the_time_includes_encoding_also_of_queries_that_are_cached(library: sa.Engine) -> None:
    counting, judged = CountingEncoder(), judged_by(library, Options())
    with BatchingEncoder(counting) as shared:
        tuned(library, judged, using=shared)
        counting.encoded.clear()
        tuned(library, judged, using=shared)
    assert counting.encoded == Counter(judged.queries)


def test_the_shallowest_depth_that_is_not_shown_to_be_worse_is_chosen() -> None:
    chance = np.random.default_rng(0)
    good = chance.uniform(0.4, 0.8, 200)
    noise = chance.normal(0, 0.05, (3, 200))
    assert rerank_depth.shallowest(np.stack([good - 0.2, good, good + 0.001]) + noise) == 1
    assert rerank_depth.shallowest(np.stack([good - 0.2, good - 0.1, good]) + noise) == 2
    assert rerank_depth.shallowest(np.stack([good, good, good])) == 0


def test_held_out_queries_are_left_out_and_the_others_recorded(library: sa.Engine) -> None:
    judged = judged_by(library, Options())
    with Session(library) as session:
        parts = evaluation.split(session, Article.semantic, judged, held_out=0.4)
        session.commit()
    reranker = HashedReranker()
    found = tuned(library, judged, reranker=reranker)
    assert found.held_out >= len(parts.held_out) > 0
    assert reranker.pairs == found.queries * DEPTHS[-1] == (len(judged) - found.held_out) * DEPTHS[-1]
    assert rows(library, "SELECT count(*) FROM semantic.judged_query WHERE NOT held_out") == [(found.queries,)]


def test_the_kept_depth_is_returned_for_the_same_reranker_and_its_setting(library: sa.Engine) -> None:
    base = Options(fusion=Convex(0.3, 0.7), match="all", depth=20)
    found = tuned(library, judged_by(library, reranking(10, fusion=base.fusion, match="all", depth=20)), base=base)
    tuning.save(library, found)
    shared, other = BatchingReranker(HashedReranker()), HashedReranker()
    other.reference = "another"
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic) == base
        assert search.tuned_options(session, Article.semantic, reranker=BatchingReranker(other)) == base
        options = search.tuned_options(session, Article.semantic, reranker=shared)
        assert options.rerank == Rerank(shared, depth=10)
        assert (options.fusion, options.match, options.depth) == (base.fusion, base.match, base.depth)
    tuning.save(library, fused(library, base))  # which keeps the setting
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic, reranker=shared) == options
    tuning.save(library, fused(library, dataclasses.replace(base, fusion=Convex(0.5, 0.5))))
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic, reranker=shared).rerank is None
    tuning.save(library, tuned(library, judged_by(library, base), base=base))
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic, reranker=shared) == base
    assert rows(library, "SELECT evidence ? 'depths', evidence ->> 'reranker' FROM semantic.tuned_options") == [
        (False, "hashed")
    ]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"depths": (2, 10)}, errors.ConfigurationError, "A depth of 2 is less than the 3 rows of nDCG@3"),
        ({"depths": (10, 2000)}, errors.QueryError, "depth must be between 1 and 1000"),
        ({"depths": ()}, errors.ConfigurationError, "no depth to try"),
        ({"measure": "AP"}, errors.ConfigurationError, "AP has no cutoff"),
        ({"base": Options(diverse=Diverse())}, errors.ConfigurationError, "tuned without diverse"),
    ],
)
def test_what_no_search_would_do_is_refused(library: sa.Engine, given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        tuned(library, judged_by(library, Options()), **given)


def test_the_command_shows_quality_and_time_of_each_depth_and_keeps_what_it_recommends(
    library: sa.Engine, dsn: str, tmp_path: Path
) -> None:
    folder = str(cross_encoders.save(tmp_path / "reranker"))
    shared = BatchingReranker(rerankers.load(folder))
    judged = judged_by(library, Options(rerank=Rerank(shared, depth=10)))
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in judged.grades.items()), "utf-8")
    arguments = ["tune", "article_semantic", "--judgements", str(file), "--measure", "nDCG@3", "--dsn", dsn]
    arguments += ["--reranker", folder, "--rerank-depths", "3,10,40", "--exact"]
    done = CliRunner().invoke(cli.app, [*arguments, "--save"])
    assert done.exit_code == 0, done.output
    assert "p50 ms" in done.output
    assert "rerank=Rerank(reranker, depth=10))" in done.output.replace("\n", "")
    figures = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"]).stdout)
    assert figures["recommended"] == 10
    assert [one["depth"] for one in figures["depths"]] == [None, 3, 10, 40]
    assert QUERIES[0] not in json.dumps(figures)
    with Session(library) as session:
        assert search.tuned_options(session, Article.semantic, reranker=shared).rerank == Rerank(shared, depth=10)
    both = CliRunner().invoke(cli.app, [*arguments, "--match", "all"])
    assert both.exit_code != 0
    assert "--reranker is tuned by itself" in str(both.exception)


def test_a_reranker_is_tuned_on_what_the_tuned_fusion_finds(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    folder = str(cross_encoders.save(tmp_path / "reranker"))
    judged = judged_by(library, Options(fusion=Convex(0.0, 1.0)))
    with Session(library) as session:
        found = tuning.tune(
            session, Article.semantic, judged, options=TuningOptions("nDCG@3", exact=True), encoder=encoder()
        )
        session.commit()
    tuning.save(library, found)
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in judged.grades.items()), "utf-8")
    arguments = ["tune", "article_semantic", "--judgements", str(file), "--measure", "nDCG@3", "--dsn", dsn, "--json"]
    arguments += ["--reranker", folder, "--rerank-depths", "10"]
    figures = json.loads(CliRunner().invoke(cli.app, arguments).stdout)
    assert figures["base"] == found.recommended.code == "Options(fusion=Convex(dense=0, lexical=1))"
    assert figures["recommended"] is None


@pytest.mark.parametrize("unknown", [(QUERIES[0], QUERIES[7]), QUERIES[5:7]])
def test_queries_that_the_encoder_finds_nothing_in_are_left_out_and_counted(
    library: sa.Engine, unknown: tuple[str, ...]
) -> None:
    judged = judged_by(library, reranking(40))
    found = tuned(library, judged, using=BatchingEncoder(ForgetfulEncoder(*unknown)))
    same = tuned(library, judged.only(set(QUERIES) - set(unknown)))
    assert (found.queries, found.zero, same.zero) == (len(QUERIES) - 2, 2, 0)
    assert [one.mean for one in found.depths] == [one.mean for one in same.depths]
    with pytest.raises(errors.QueryError, match="finds nothing in 45 of 45 queries"):
        tuned(library, judged, using=BatchingEncoder(ForgetfulEncoder(*QUERIES)))
