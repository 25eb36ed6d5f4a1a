"""Training pairs and their files: read back as written, readable by their owner only, and no line is guessed."""

import gzip
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors, training
from pg_semantic.evaluation import Judgements
from pg_semantic.training import MinedPair, Pair, RowPair, ScoredChunk


def written(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_a_row_judged_relevant_gives_a_pair_and_other_rows_none() -> None:
    judged = Judgements({"how": {"7": 1, "8": 0, "9": 3}, "why": {"7": 0}})
    assert training.from_judgements(judged) == [Pair("how", "7"), Pair("how", "9")]


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_score_outside_0_to_1_is_refused(score: float) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"between 0 .* and 1"):
        Pair("how", "7", score)


@pytest.mark.parametrize("bad", ["\\ud83d", "\\u0000", "a" * 100_001])
def test_the_line_of_a_query_that_no_one_can_search_for_is_named(here: Path, bad: str) -> None:
    known = '"positive": "7", "positive_ordinal": 0, "positive_score": 1, "negatives": [], "negative_ordinals": []'
    for line, read in (
        (f'{{"query": "secret {bad}", "key": "7"}}', training.read_pairs),
        (f'{{"query": "secret {bad}", "relevant": {{"7": 1}}}}', training.read_pairs),
        (f'{{"query": "secret {bad}", {known}, "negative_scores": []}}', training.read_mined),
    ):
        with pytest.raises(errors.ConfigurationError, match=r"pairs\.jsonl, line 2: The query has") as refused:
            read(written(here, "", line))
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("bad", ["\\ud83d", "\\u0000"])
def test_the_line_of_a_key_that_no_row_has_is_named(here: Path, bad: str) -> None:
    for line, read in (
        (f'{{"query": "how", "key": "{bad}"}}', training.read_pairs),
        (f'{{"row": "7", "key": "{bad}"}}', training.read_row_pairs),
    ):
        with pytest.raises(errors.ConfigurationError, match=r"pairs\.jsonl, line 2: "):
            read(written(here, "", line))


@pytest.mark.parametrize("other", [{"score": 0.5}, {}])
def test_a_pair_with_two_scores_is_refused_and_one_that_is_repeated_counts_once(
    here: Path, other: dict[str, float]
) -> None:
    first = {"query": "secret", "key": "7", "score": 1}
    path = written(here, first, {"query": "secret", "key": "8", "score": 0}, first)
    assert training.read_pairs(path) == [Pair("secret", "7", 1), Pair("secret", "8", 0)]
    path = written(here, first, first, {"query": "secret", "key": "7"} | other)
    with pytest.raises(errors.ConfigurationError, match=r"pairs\.jsonl, line 3: An earlier line has an") as refused:
        training.read_pairs(path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("score", [1.5, -1, "Infinity", "NaN"])
def test_the_line_of_a_score_outside_0_to_1_is_named(here: Path, score: object) -> None:
    line = f'{{"query": "secret", "key": "7", "score": {score}}}'
    path = written(here, {"query": "how", "key": "7", "score": 1}, "", line)
    with pytest.raises(errors.ConfigurationError, match=r"pairs\.jsonl, line 3: .*between 0") as refused:
        training.read_pairs(path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        "7",
        '{"query": "secret"}',
        '{"key": "7"}',
        '{"query": 7, "key": "7"}',
        '{"query": "secret", "key": 7.5}',
        '{"query": "secret", "key": true}',
        '{"query": "secret", "key": null}',
        '{"query": "secret", "key": "7", "score": "1"}',
        '{"query": "secret", "key": "7", "score": true}',
        '{"query": "secret", "relevant": ["7"]}',
        '{"query": "secret", "relevant": {"7": 0.5}}',
    ],
)
def test_a_line_of_another_form_is_named_and_not_quoted(here: Path, line: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"line 2: write \{") as refused:
        training.read_pairs(written(here, {"query": "how", "key": "7"}, line))
    assert "secret" not in str(refused.value)


def test_a_blank_query_is_refused_with_its_line(here: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"line 1: .*empty query"):
        training.read_pairs(written(here, {"query": " ", "key": "7"}))


def test_a_file_of_judgements_is_read_as_its_relevant_rows_and_whole_numbers_are_keys(here: Path) -> None:
    path = written(
        here, {"query": "how", "relevant": {"7": 2, "8": 0}}, {"query": "why", "key": 9}, {"query": "how", "key": "7"}
    )
    assert training.read_pairs(path) == [Pair("how", "7"), Pair("why", "9")]


def test_a_file_without_pairs_or_without_text_is_refused(here: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="no pairs"):
        training.read_pairs(written(here, {"query": "how", "relevant": {}}))
    with pytest.raises(errors.ConfigurationError, match="Cannot read"):
        training.read_pairs(here / "none.jsonl")
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.ConfigurationError, match=r"Cannot read .*: it is not text in UTF-8\. Convert it first"):
        training.read_pairs(here / "binary")


@pytest.mark.parametrize("read", [training.read_pairs, training.read_row_pairs, training.read_mined])
@pytest.mark.parametrize("line", ["[" * 100_000, '{"query": ' + "[" * 100_000, '{"a":' * 100_000])
def test_a_line_that_is_nested_too_deep_is_named(here: Path, read: Callable[[Path], object], line: str) -> None:
    (here / "deep.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(errors.ConfigurationError, match=r"deep.jsonl, line 2: write \{"):
        read(here / "deep.jsonl")


_MINED = MinedPair("how", ScoredChunk("7", 0, 0.5), (ScoredChunk("8", 1, 0.25),))


@pytest.mark.parametrize(
    ("write", "read", "one"),
    [
        (training.write_pairs, training.read_pairs, Pair("how", "7", 0.5)),
        (training.write_row_pairs, training.read_row_pairs, RowPair("7", "8")),
        (training.write_mined, training.read_mined, _MINED),
    ],
)
def test_files_may_be_compressed(here: Path, write: Any, read: Any, one: object) -> None:
    write(here / "written", [one])
    packed = here / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + (here / "written").read_bytes()))
    assert read(packed) == [one]


_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # what Postgres can have
_TEXTS = st.text(_CHARACTERS, min_size=1).filter(str.strip)
_SCORES = st.floats(-1e6, 1e6)
_CHUNKS = st.builds(ScoredChunk, key=st.text(_CHARACTERS), ordinal=st.integers(0), score=_SCORES)


@given(
    st.lists(
        st.builds(Pair, _TEXTS, st.text(_CHARACTERS), st.none() | st.floats(0, 1)),
        min_size=1,
        unique_by=lambda one: (one.query, one.key),
    )
)
def test_pairs_are_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    training.write_pairs(path, pairs)
    assert training.read_pairs(path) == pairs


@given(st.lists(st.builds(MinedPair, _TEXTS, _CHUNKS, st.lists(_CHUNKS).map(tuple))))
def test_mined_pairs_are_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[MinedPair]
) -> None:
    path = tmp_path_factory.mktemp("mined") / "mined.jsonl"
    training.write_mined(path, pairs)
    assert training.read_mined(path) == pairs


def test_a_mined_line_with_a_score_missing_is_named(here: Path) -> None:
    path = here / "mined.jsonl"
    training.write_mined(path, [MinedPair("how", ScoredChunk("7", 0, 0.5), (ScoredChunk("8", 1, 0.25),))])
    line = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(line | {"negative_scores": []}), "utf-8")
    with pytest.raises(errors.ConfigurationError, match="line 1: write"):
        training.read_mined(path)


def test_only_the_owner_can_read_a_file_even_if_others_could_read_the_one_before(here: Path) -> None:
    path = here / "mined.jsonl"
    path.write_text("old", "utf-8")
    path.chmod(0o644)
    training.write_mined(path, [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text("utf-8") == ""
    assert list(here.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_reported_and_leaves_nothing(here: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="Cannot write"):
        training.write_pairs(here / "none" / "pairs.jsonl", [])
    (here / "folder").mkdir()
    with pytest.raises(errors.ConfigurationError, match="Cannot write"):
        training.write_pairs(here / "folder", [Pair("how", "7")])
    assert list(here.iterdir()) == [here / "folder"]
