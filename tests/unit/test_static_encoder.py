"""A table of word vectors as an encoder: the vectors of sentence-transformers, and a limit on the length of texts."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pg_semantic.encoders import tokenization
from pg_semantic.encoders.local import backends, token_budget
from pg_semantic.encoders.local.transformer import TransformerEncoder
from pg_semantic.settings import Settings
from tests.acceptance import architectures

LIMIT = 12
TEXTS = [
    "",
    "unknown \u4e2d\u6587",
    *(" ".join(architectures.words(count, start=40 * count)) for count in range(1, 40)),
]


def tokenizer(*, limit: int | None = LIMIT) -> Tokenizer:
    words = dict.fromkeys(word.lower() for word in architectures.words(3000))
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["[UNK]", "[CLS]", *words])}, "[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $0", special_tokens=[("[CLS]", 1)])
    if limit is not None:
        made.enable_truncation(limit)
    return made


def saved(folder: Path, made: Tokenizer) -> Path:
    table = np.random.default_rng(0).normal(size=(made.get_vocab_size(), 16)).astype(np.float32)
    whole = SentenceTransformer(modules=[StaticEmbedding(made, embedding_weights=table), Normalize()], device="cpu")
    whole.save(str(folder), create_model_card=False)
    return folder


def load(folder: Path) -> TransformerEncoder:
    return backends.load(folder, reference="any", dimensions=None, settings=Settings(device="cpu"))


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_its_vectors_are_those_of_sentence_transformers(tmp_path: Path, limit: int | None) -> None:
    folder = saved(tmp_path / "table", tokenizer(limit=limit))
    encoder, reference = load(folder), SentenceTransformer(str(folder), device="cpu")
    for _ in range(2):
        encoder.count_tokens(TEXTS[::2])  # which are then read from a cache
        np.testing.assert_allclose(encoder.encode_documents(TEXTS), reference.encode(TEXTS), atol=1e-6)
        np.testing.assert_allclose(encoder.encode_queries(TEXTS), reference.encode(TEXTS), atol=1e-6)


def test_its_limit_is_that_of_its_tokenizer_and_counts_have_no_special_tokens(tmp_path: Path) -> None:
    bounded, other = load(saved(tmp_path / "a", tokenizer())), load(saved(tmp_path / "b", tokenizer(limit=None)))
    assert (bounded.max_tokens, other.max_tokens) == (LIMIT, tokenization.NO_LIMIT)
    assert bounded.count_tokens(["three words here", "w " * 40]) == [3, 40]
    assert bounded.fingerprint != other.fingerprint


def test_pieces_of_a_long_text_fit_the_limit(tmp_path: Path) -> None:
    encoder = load(saved(tmp_path / "table", tokenizer()))
    pieces = encoder.splitter(max_tokens=LIMIT, overlap_tokens=0)(" ".join(architectures.words(200)))
    assert max(encoder.count_tokens(pieces)) <= LIMIT
    reference = SentenceTransformer(str(tmp_path / "table"), device="cpu")
    np.testing.assert_allclose(encoder.encode_documents(pieces), reference.encode(pieces), atol=1e-6)


def test_it_reads_many_texts_at_once(tmp_path: Path) -> None:
    assert load(saved(tmp_path / "table", tokenizer())).budget.tokens == token_budget.OF_A_TABLE
