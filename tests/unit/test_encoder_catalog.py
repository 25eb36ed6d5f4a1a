import pytest

from pg_semantic.index import known_encoders
from pg_semantic.index.spec import MAX_DIMENSIONS


@pytest.mark.parametrize("reference", known_encoders.DIMENSIONS)
def test_every_encoder_of_the_catalog_is_a_hub_name_that_either_storage_can_hold(reference: str) -> None:
    organization, _, name = reference.partition("/")
    assert organization
    assert name
    assert 1 <= known_encoders.DIMENSIONS[reference] <= min(MAX_DIMENSIONS.values())


def test_a_known_encoder_has_its_dimensions() -> None:
    assert known_encoders.dimensions("sentence-transformers/all-MiniLM-L6-v2") == 384


@pytest.mark.parametrize("dimensions", [1, 64, 4000])
def test_a_hashed_encoder_has_the_dimensions_that_it_names(dimensions: int) -> None:
    assert known_encoders.dimensions(f"hashed:{dimensions}") == dimensions


@pytest.mark.parametrize(
    "reference", ["", "nobody/nothing", "hashed:", "hashed:x", "hashed:-1", "hashed:64 ", "hashed:12345"]
)
def test_what_the_catalog_does_not_know_has_no_dimensions(reference: str) -> None:
    assert known_encoders.dimensions(reference) is None
