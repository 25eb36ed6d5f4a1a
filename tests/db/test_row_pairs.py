"""Pairs of rows to train on: similar ones by stored vectors, and rows with themselves; and their passages."""

import itertools
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from pg_semantic import database, errors, training
from pg_semantic.search.generation_tracker import Target, read_live
from pg_semantic.training import Pair, RowPair, drawn_passages
from pg_semantic.training.encoder import similar_passages
from tests.conftest import copy_of
from tests.db.library import Article, execute, sync
from tests.db.similar_rows import VARIED, Chunk, Note, all_pairs, varied_database
from tests.db.test_cli import error, ok, parsed, run

ALL = 100_000
CROWDED = 600  # rows up to this one have few similar rows


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    with varied_database(server, template) as engine:
        yield engine


@pytest.fixture
def session(filled: sa.Engine) -> Iterator[Session]:
    with Session(filled) as opened:
        yield opened


@pytest.mark.parametrize(("least", "most"), [(0.8, 0.95), (0.9, 0.97)])
def test_similar_rows_are_those_whose_most_similar_chunks_lie_in_the_band(
    session: Session, least: float, most: float
) -> None:
    scores = all_pairs(VARIED, least - 1e-4)
    pairs = training.from_similar_rows(session, Article.semantic, least=least, most=most, limit=ALL)
    both = [(int(one.row), int(one.key)) for one in pairs]
    found = [(min(one), max(one)) for one in both]
    assert len(set(found)) == len(found) > 100
    assert all(least - 1e-4 <= scores[pair] <= most + 1e-4 for pair in found)
    assert len({one.row for one in pairs}) == len(pairs)
    inside = {pair for pair, score in scores.items() if least + 1e-4 < score < most - 1e-4 and pair[1] <= CROWDED}
    assert {row for pair in inside for row in pair} <= {row for pair in found for row in pair}


def test_the_limit_and_the_seed_choose_rows(session: Session) -> None:
    some = training.from_similar_rows(session, Article.semantic, limit=20)
    assert 0 < len(some) <= 20
    assert some == training.from_similar_rows(session, Article.semantic, limit=20)
    assert some != training.from_similar_rows(session, Article.semantic, limit=20, seed=1)
    assert some == sorted(some, key=lambda one: one.row)


def test_both_rows_of_a_pair_fulfill_the_conditions(session: Session) -> None:
    even = training.from_similar_rows(session, Article.semantic, where=[Article.id % 2 == 0], limit=ALL)
    assert even
    assert {int(key) % 2 for one in even for key in (one.row, one.key)} == {0}
    with pytest.raises(errors.QueryError, match="where has a condition on note"):
        training.from_similar_rows(session, Article.semantic, where=[Note.number == 1])


def test_rows_of_tenants_become_no_pair_for_a_role_that_bypasses_policies(session: Session) -> None:
    session.execute(sa.text("ALTER TABLE article ENABLE ROW LEVEL SECURITY"))
    with pytest.raises(errors.QueryError, match="has row-level security, which the current role bypasses"):
        training.from_similar_rows(session, Article.semantic)
    assert training.from_similar_rows(session, Article.semantic, where=[Article.id < 500], limit=5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"least": 0.9, "most": 0.9}, "least=0.9, most=0.9"),
        ({"least": 0}, "least=0"),
        ({"most": 1.1}, "most=1.1"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_a_band_or_limit_out_of_range_is_refused(session: Session, given: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.QueryError, match=said):
        training.from_similar_rows(session, Article.semantic, **given)


def test_random_rows_ask_for_themselves(session: Session) -> None:
    every = training.from_rows(session, Article.semantic, limit=ALL)
    assert {one.row for one in every} == {str(chunk.row) for chunk in VARIED}
    assert all(one.row == one.key for one in every)
    assert training.from_rows(session, Article.semantic, limit=7) == every[:7]
    assert training.from_rows(session, Article.semantic, limit=7, seed=1) != every[:7]
    blank = "INSERT INTO article (id, title, lang) SELECT i, CASE WHEN i % 2 = 0 THEN ' ' END, 'en'"
    session.execute(sa.text(f"{blank} FROM generate_series(9001, 9999) i"))
    assert training.from_rows(session, Article.semantic, limit=ALL) == every  # rows without text teach nothing
    few = training.from_rows(session, Article.semantic, where=[Article.id < 4])
    assert {one.key for one in few} == {"1", "2", "3"}
    with pytest.raises(errors.QueryError, match="limit=0"):
        training.from_rows(session, Article.semantic, limit=0)


def unit(chunk: Chunk) -> Any:
    return chunk.vector / np.linalg.norm(chunk.vector)


def test_the_passages_of_two_rows_are_their_most_similar_chunks(session: Session) -> None:
    several = sorted({chunk.row for chunk in VARIED if chunk.ordinal})
    pairs = [RowPair(str(one), str(other)) for one, other in itertools.pairwise(several[:40])]
    found = similar_passages.read(session, Article.semantic, [*pairs, RowPair("1", "99999"), RowPair("x", "1")], seed=0)
    assert list(found) == pairs
    for pair, (first, second) in found.items():
        assert (first[0], second[0]) == (pair.row, pair.key)
        chunks = [[one for one in VARIED if one.row == int(key)] for key in (pair.row, pair.key)]
        cosines = {(one.ordinal, other.ordinal): unit(one) @ unit(other) for one, other in itertools.product(*chunks)}
        assert cosines[first[1], second[1]] == pytest.approx(max(cosines.values()), abs=2e-3)


def test_a_row_that_asks_for_itself_has_one_of_its_passages_by_the_seed(session: Session) -> None:
    several = [RowPair(str(row), str(row)) for row in sorted({chunk.row for chunk in VARIED if chunk.ordinal == 8})]
    found = similar_passages.read(session, Article.semantic, several, seed=0)
    assert all(first == second for first, second in found.values())
    assert {ordinal for (_, ordinal), _ in found.values()} == {0, 8}
    assert found == similar_passages.read(session, Article.semantic, several, seed=0)
    assert found != similar_passages.read(session, Article.semantic, several, seed=1)


def test_composite_keys_are_named_as_everywhere(server: sa.URL, template: str) -> None:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Note.metadata.create_all(engine)
        with Session(engine) as session:
            texts = [f"a b c d e f g h i j {n % 3} {n}" for n in range(9)]
            session.add_all(Note(place=f'a "{n}"', number=n, body=body) for n, body in enumerate(texts))
            session.commit()
        sync(engine)
        with Session(engine) as session:
            pairs = training.from_similar_rows(session, Note.semantic, least=0.5, most=0.999)
            assert pairs
            found = similar_passages.read(session, Note.semantic, pairs, seed=0)
            assert {(json.dumps([f'a "{n}"', str(n)]), 0) for n in range(9)} >= {
                one for both in found.values() for one in both
            }
            assert len(found) == len(pairs)
            live, _ = read_live(session, Note.semantic)
            bound = Target(live, live.tables, None).bound(Note.semantic)
            for select in (drawn_passages.of_any_chunks, drawn_passages.one_of_each_row):
                drawn = session.execute(select(bound, count=99, where=[Note.number < 5], seed=0))
                assert {row[0] for row in drawn} == {json.dumps([f'a "{n}"', str(n)]) for n in range(5)}
        engine.dispose()


WORDS = "harbour candle meadow engine violin glacier pepper lantern"


@pytest.fixture
def synced(articles: sa.Engine, here: Path) -> sa.Engine:
    """Eight articles of two sentences, in two languages."""
    for number, word in enumerate(WORDS.split(), start=1):
        text = f"All about the {word} is here. Nothing more is to be said."
        lang = "en" if number % 2 else "de"
        execute(articles, "INSERT INTO article VALUES (:id, :title, :title, :lang)", id=number, title=text, lang=lang)
    sync(articles)
    return articles


def test_the_command_writes_pairs_of_each_kind_which_only_you_can_read(synced: sa.Engine, here: Path, dsn: str) -> None:
    def made(*given: str) -> Path:
        out = here / "made.jsonl"
        count = parsed("pairs", "article_semantic", *given, "--out", str(out), dsn=dsn)
        assert count["pairs"] == len(out.read_text("utf-8").splitlines()) > 0
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        return out

    sentences = training.read_pairs(made("--sentences", "5"))
    assert len(sentences) == 5
    assert all("." in one.query for one in sentences)
    titles = training.read_pairs(made("--column", "title", "--where", "lang=de"))
    assert {int(one.key) % 2 for one in titles} == {0}
    some = [training.read_pairs(made("--column", "title", "--limit", "4", "--seed", seed)) for seed in ("0", "0", "1")]
    assert some[0] == some[1] != some[2]
    assert [len(one) for one in some] == [4, 4, 4]
    assert len(training.read_row_pairs(made("--rows", "6"))) == 6
    similar = training.read_row_pairs(made("--similar-rows", "6", "--least", "0.3", "--most", "0.999"))
    assert all(one.row != one.key for one in similar)
    assert "harbour" not in (here / "made.jsonl").read_text("utf-8")


def test_the_command_leaves_out_the_rows_of_held_out_judgements(synced: sa.Engine, here: Path, dsn: str) -> None:
    training.write_pairs(here / "held_out.jsonl", [Pair("a violin", "005"), Pair("a candle", "2")])
    command = ("pairs", "article_semantic", "--out", "made.jsonl", "--without-rows-of", "held_out.jsonl")
    assert parsed(*command, "--rows", "8", dsn=dsn) == {"pairs": 6, "left_out": 2}
    assert {one.row for one in training.read_row_pairs(here / "made.jsonl")} == set("134678")
    assert "Left out 2 pairs" in ok(*command, "--column", "title", dsn=dsn)
    assert {one.key for one in training.read_pairs(here / "made.jsonl")} == set("134678")


def test_without_any_pair_the_command_says_what_to_do_and_writes_nothing(
    synced: sa.Engine, here: Path, dsn: str
) -> None:
    command = ("pairs", "article_semantic", "--out", "made.jsonl")
    for given, advice in (
        (("--similar-rows", "2", "--least", "0.9999", "--most", "1"), "lower --least"),
        (("--column", "title", "--where", "lang=none"), "check --column and --where"),
    ):
        refused = run(*command, *given, dsn=dsn)
        assert refused.returncode == 1
        assert advice in refused.stderr
    assert not (here / "made.jsonl").exists()


def test_a_mistake_in_the_command_is_one_line(synced: sa.Engine, dsn: str) -> None:
    command = ("pairs", "article_semantic", "--out", "made.jsonl")
    for given in ((), ("--rows", "2", "--sentences", "2")):
        refused = run(*command, *given, dsn=dsn)
        assert refused.returncode == 2
        assert "Pass one of --sentences" in " ".join(refused.stderr.replace("│", " ").split())
    for given in (("--rows", "2", "--least", "0.5"), ("--sentences", "2", "--most", "0.9")):
        refused = run(*command, *given, dsn=dsn)
        assert refused.returncode == 2
        assert "--least and --most need --similar-rows" in " ".join(refused.stderr.replace("│", " ").split())
    for given, said in (
        (("--rows", "2", "--limit", "1"), "--limit needs --column"),
        (("--column", "title", "--seed", "1"), "--seed needs --limit"),
    ):
        refused = run(*command, *given, dsn=dsn)
        assert refused.returncode == 2
        assert said in " ".join(refused.stderr.replace("│", " ").split())
    assert "the band must lie" in error(*command, "--similar-rows", "3", "--least", "0.9", "--most", "0.8", dsn=dsn)


def test_files_of_rows_are_read_as_written_and_a_wrong_line_is_named(here: Path) -> None:
    pairs = [RowPair("1", "2"), RowPair('["a", "1"]', '["b", "2"]')]
    training.write_row_pairs(here / "rows.jsonl", pairs)
    assert training.read_row_pairs(here / "rows.jsonl") == pairs
    (here / "rows.jsonl").write_text('{"row": 1, "key": 2}\n{"row": "1"}\n')
    with pytest.raises(errors.ConfigurationError, match=r"rows\.jsonl, line 2: write \{"):
        training.read_row_pairs(here / "rows.jsonl")


def test_rows_without_sentences_are_replaced_by_others(server: sa.URL, template: str) -> None:
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        Note.metadata.create_all(engine)
        with Session(engine) as session:
            bodies = [
                "One sentence of several words. And a second one that follows it." if n < 4 else "short"
                for n in range(40)
            ]
            session.add_all(Note(place="here", number=number, body=body) for number, body in enumerate(bodies))
            session.commit()
        sync(engine)
        with Session(engine) as session:
            every = training.from_texts(session, Note.semantic)
            assert {json.loads(pair.key)[1] for pair in every} == {"0", "1", "2", "3"}
            assert training.from_texts(session, Note.semantic, limit=3) == every[:3]  # of 45 rows at most
        engine.dispose()
