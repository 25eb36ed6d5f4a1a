"""Tuning the chunk size: sizes are compared on one sample in memory, and today's is kept without a reason."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from pg_semantic import cli, errors, evaluation, search, tuning
from pg_semantic.evaluation import Judgements
from pg_semantic.index.chunking import Chunking
from pg_semantic.tuning import ChunkTuningOptions, row_sample, sample_ranking
from tests.db.library import Article, ForgetfulEncoder, encoder, rows, sync

FILL = ["stone", "river", "cloud", "table", "paper", "glass", "wheel", "bread", "chair", "field", "snow", "brick"]
TOPICS = tuple(f"topic{number} subject{number}" for number in range(30))
ROWS = 90


def fill(engine: sa.Engine) -> None:
    """Long rows. One in three answers a query in one paragraph, and another has its words at two ends."""
    chance = np.random.default_rng(0)

    def filler(words: int) -> str:
        return " ".join(chance.choice(FILL, words))

    with Session(engine) as session:
        for number, topic in enumerate(TOPICS):
            first, second = topic.split()
            paragraphs = [filler(12) for _ in range(8)]
            paragraphs[number % 8] = f"{first} {second} {first} {second} {first} {second} {filler(2)}"
            scattered = [f"{word} {filler(5)}" for word in (first, second) * 5]
            session.add(Article(id=number * 3 + 1, body="\n\n".join(paragraphs)))
            session.add(Article(id=number * 3 + 2, body="\n\n".join(scattered)))
            session.add(Article(id=number * 3 + 3, body="\n\n".join(filler(12) for _ in range(6))))
        session.commit()
    sync(engine)


@pytest.fixture
def library(filled: sa.Engine) -> sa.Engine:
    return filled


def judged(*, answer: int = 1) -> Judgements:
    """Judgements by which the row answers that has the words in one paragraph, or (2) at two ends."""
    return Judgements({topic: {str(number * 3 + answer): 1} for number, topic in enumerate(TOPICS)})


def tuned(engine: sa.Engine, judgements: Judgements, **options: Any) -> Any:
    with Session(engine) as session:
        usual: dict[str, Any] = {"sizes": (16, 64), "measure": "RR@10"}
        given = ChunkTuningOptions(**usual | options)
        found = tuning.tune_chunk_size(session, Article.semantic, judgements, options=given, encoder=encoder())
        session.commit()
        return found


def test_the_ranking_of_todays_chunks_is_that_of_an_exact_search(library: sa.Engine) -> None:
    with Session(library) as session:
        sample = row_sample.read(session, Article.semantic, judged=frozenset(), most=1_000, seed=0)
        assert len(sample) == ROWS
        divided = sample_ranking.divided(sample, Chunking(), encoder())
        vectors = sample_ranking.encoded(encoder(), [divided], lambda *_: None)
        queries = sample_ranking.unit(encoder().encode_queries(TOPICS))
        for query, keys in zip(queries, divided.ranked(vectors, queries, limit=ROWS), strict=True):
            found = session.execute(search.exact(Article.semantic, query, limit=ROWS))
            scores = {str(row.id): score for row, score in found}
            assert sorted(keys) == sorted(scores)
            in_order = [scores[key] for key in keys]  # stored vectors are rounded to 16 bits
            assert all(better > worse - 0.002 for better, worse in itertools.pairwise(in_order))


def test_a_size_that_is_better_on_queries_it_was_not_chosen_by_is_recommended(library: sa.Engine) -> None:
    found = tuned(library, judged())
    assert found.recommended.chunking == Chunking(16)
    assert found.recommended.code == "chunking=Chunking(max_tokens=16)"
    assert found.today.chunking == Chunking()
    assert found.recommended.mean > found.today.mean
    assert 0 < found.low < found.fold_mean - found.today.mean
    assert (found.rows, found.queries) == (ROWS, len(TOPICS))
    assert [one.times == one.chunks / found.today.chunks for one in found.sizes] == [True] * 3
    assert found.recommended.times > 4


def test_todays_size_is_kept_without_a_gain(library: sa.Engine) -> None:
    found = tuned(library, judged(answer=2))
    assert found.recommended == found.today
    same = tuned(library, judged(), sizes=(200,))  # no text is as long
    assert same.recommended == same.today
    assert same.sizes[1].mean == same.today.mean == same.fold_mean


def test_the_overlap_of_the_index_is_kept_and_todays_size_is_not_tried_twice() -> None:
    options = ChunkTuningOptions(sizes=(64, 256, 16))
    assert options.recipes(Chunking(None, 4), encoder()) == [Chunking(None, 4), Chunking(16, 4), Chunking(64, 4)]
    assert options.recipes(None, encoder()) == [None, Chunking(16), Chunking(64), Chunking(256)]


def test_nothing_is_written_but_that_queries_were_tuned_on(library: sa.Engine) -> None:
    stored = "SELECT count(*), max(embedded_at), sum(hashtext(chunk::text)) FROM article_semantic AS chunk"
    before = rows(library, stored), rows(library, "SELECT count(*) FROM semantic.generation")
    tuned(library, judged())
    assert (rows(library, stored), rows(library, "SELECT count(*) FROM semantic.generation")) == before
    assert rows(library, "SELECT count(*) FROM semantic.job") == [(0,)]
    assert rows(library, "SELECT count(*) FROM semantic.judged_query WHERE NOT held_out") == [(len(TOPICS),)]


def test_the_sample_has_all_judged_rows_and_random_ones_by_the_seed(library: sa.Engine) -> None:
    keys = frozenset(str(number) for number in (1, 50, 90))
    with Session(library) as session:
        samples = [row_sample.read(session, Article.semantic, judged=keys, most=20, seed=seed) for seed in (1, 1, 2)]
        alone = row_sample.read(session, Article.semantic, judged=keys, most=3, seed=1)
        with pytest.raises(errors.QueryError, match="The sample has 2 rows, but 3 were judged"):
            row_sample.read(session, Article.semantic, judged=keys, most=2, seed=1)
    assert [len(one) for one in samples] == [20, 20, 20]
    assert samples[0] == samples[1] != samples[2]
    assert all(keys <= one.keys() for one in samples)
    assert list(samples[0]) == sorted(samples[0], key=int)
    assert alone.keys() == keys


def test_held_out_queries_are_left_out(library: sa.Engine) -> None:
    with Session(library) as session:
        parts = evaluation.split(session, Article.semantic, judged(), held_out=0.4)
        session.commit()
    found = tuned(library, judged())
    assert found.held_out == len(parts.held_out) > 0
    assert found.queries == len(TOPICS) - found.held_out


@pytest.mark.parametrize(
    ("sizes", "error", "said"),
    [
        ((16, 512), errors.ConfigurationError, "reads 256 tokens, so its chunks can't have 512"),
        ((), errors.ConfigurationError, "no chunk size to try"),
        ((4,), errors.DeclarationError, "too small"),
    ],
)
def test_sizes_that_no_index_can_have_are_refused(
    library: sa.Engine, sizes: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        tuned(library, judged(), sizes=sizes)


def test_the_command_says_what_a_change_costs_and_how_to_make_it(library: sa.Engine, dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(
        "".join(json.dumps({"query": q, "relevant": g}) + "\n" for q, g in judged().grades.items()), "utf-8"
    )
    arguments = ["tune", "article_semantic", "--judgements", str(file), "--measure", "RR@10", "--dsn", dsn]
    arguments += ["--chunk-sizes", "16,64", "--sample", "80", "--seed", "1"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "chunking=Chunking(max_tokens=16)" in said
    assert "encoding all rows again" in said
    assert "pg-semantic generation begin article_semantic --max-tokens 16" in said
    figures = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"]).stdout)
    assert (figures["rows"], figures["recommended"]) == (80, "chunking=Chunking(max_tokens=16)")
    assert TOPICS[0] not in json.dumps(figures)
    refused = CliRunner().invoke(cli.app, [*arguments, "--save"])
    assert refused.exit_code != 0
    assert "a chunk size is none" in str(refused.exception)


def test_queries_that_the_encoder_finds_nothing_in_are_left_out_and_counted(library: sa.Engine) -> None:
    def with_encoder(given: ForgetfulEncoder) -> Any:
        options = ChunkTuningOptions(sizes=(16, 64), measure="RR@10")
        with Session(library) as session:
            return tuning.tune_chunk_size(session, Article.semantic, judged(), options=options, encoder=given)

    found = with_encoder(ForgetfulEncoder(*TOPICS[3:5]))
    same = tuned(library, judged().only(set(TOPICS) - set(TOPICS[3:5])), sample=ROWS)
    assert (found.queries, found.zero, same.zero) == (len(TOPICS) - 2, 2, 0)
    assert [one.mean for one in found.sizes] == [one.mean for one in same.sizes]
    with pytest.raises(errors.QueryError, match="finds nothing in 30 of 30 queries"):
        with_encoder(ForgetfulEncoder(*TOPICS))
