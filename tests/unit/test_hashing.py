import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pg_semantic.index import hashing


@given(st.text(st.characters(codec="utf-8")))
def test_the_content_hash_is_the_sha256_of_the_utf8_bytes(text: str) -> None:
    assert hashing.content_hash(text) == hashlib.sha256(text.encode("utf-8")).digest()


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 4000))
def test_an_encoder_id_fits_in_a_positive_bigint(reference: str, dimensions: int) -> None:
    assert 0 <= hashing.encoder_id(reference, dimensions) < 2**63


def test_an_encoder_id_differs_by_reference_and_by_dimensions() -> None:
    pairs = [("a", 1), ("b", 1), ("a", 2), ("a1", 1), ("a", 11)]
    assert len({hashing.encoder_id(*pair) for pair in pairs}) == len(pairs)


def test_an_encoder_id_never_changes_since_tables_have_it_in_a_check() -> None:
    assert hashing.encoder_id("sentence-transformers/all-MiniLM-L6-v2", 384) == 6734652153222843690
