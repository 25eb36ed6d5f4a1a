import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.encoders.hashed import HashedEncoder

_texts = st.lists(st.text(), min_size=1, max_size=5)


def test_its_vectors_are_the_same_on_every_machine() -> None:
    vector = HashedEncoder(4).encode_documents(["tea"])[0]
    np.testing.assert_allclose(vector, [-0.18201786, 0.82407224, 0.36186016, 0.39601970], rtol=1e-6)


@given(_texts)
def test_its_vectors_have_unit_length(texts: list[str]) -> None:
    vectors = HashedEncoder(64).encode_documents(texts)
    assert vectors.shape == (len(texts), 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@given(_texts)
def test_a_text_has_the_same_vector_alone_and_among_others(texts: list[str]) -> None:
    encoder = HashedEncoder(16)
    alone = [encoder.encode_documents([text])[0] for text in texts]
    np.testing.assert_array_equal(encoder.encode_documents(texts), alone)


def test_documents_and_queries_are_encoded_alike() -> None:
    encoder = HashedEncoder(16)
    np.testing.assert_array_equal(encoder.encode_queries(["hot tea"]), encoder.encode_documents(["Hot, tea!"]))


def test_texts_that_share_words_are_nearer_than_texts_that_share_none() -> None:
    query, shares, shares_none = HashedEncoder(256).encode_documents(
        ["how to brew green tea", "green tea leaves", "sorting a linked list"]
    )
    assert query @ shares > query @ shares_none + 0.2


def test_no_text_makes_no_vector() -> None:
    assert HashedEncoder(16).encode_documents([]).shape == (0, 16)


def test_words_beyond_the_limit_are_not_read() -> None:
    encoder = HashedEncoder(16, max_tokens=2)
    np.testing.assert_array_equal(encoder.encode_documents(["a b c"]), encoder.encode_documents(["a b d"]))
    assert encoder.count_tokens(["a b c"]) == [3]


@pytest.mark.parametrize("other", [HashedEncoder(65), HashedEncoder(64, max_tokens=8)])
def test_the_fingerprint_differs_by_what_decides_the_vectors(other: HashedEncoder) -> None:
    assert HashedEncoder(64).fingerprint != other.fingerprint


def test_the_fingerprint_is_that_of_any_encoder_made_alike() -> None:
    assert HashedEncoder(64).fingerprint == HashedEncoder(64).fingerprint


def test_the_fingerprint_is_that_of_earlier_releases() -> None:
    assert HashedEncoder(64).fingerprint == "5f13c763c60882ca02a26d2a47200c5974eaf3f622a9e7ace4c6ef7c50f8177c"
    prompted = HashedEncoder(64, query_prompt="a: ", document_prompt="b: ")
    assert prompted.fingerprint == "fb8febc5afb5e1f6d53d0d386a74e912618b0f944a1b231139583096d29cf7e2"


@pytest.mark.parametrize(
    "other", [HashedEncoder(65), HashedEncoder(64, max_tokens=8), HashedEncoder(64, document_prompt="a page: ")]
)
def test_the_document_fingerprint_differs_by_what_decides_the_vectors_of_documents(other: HashedEncoder) -> None:
    assert HashedEncoder(64).document_fingerprint != other.document_fingerprint


def test_the_document_fingerprint_is_that_of_any_encoder_of_the_same_documents() -> None:
    other = HashedEncoder(64, query_prompt="a question: ")
    assert HashedEncoder(64).document_fingerprint == other.document_fingerprint
    assert HashedEncoder(64).fingerprint != other.fingerprint


@given(st.lists(st.text("abc", min_size=1), max_size=100).map(" ".join), st.integers(4, 20))
def test_the_splitter_cuts_pieces_of_at_most_the_tokens_asked_for(text: str, max_tokens: int) -> None:
    encoder = HashedEncoder(8)
    pieces = encoder.splitter(max_tokens=max_tokens, overlap_tokens=0)(text)
    assert all(count <= max_tokens for count in encoder.count_tokens(pieces))
