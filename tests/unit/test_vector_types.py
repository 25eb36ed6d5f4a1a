import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pg_semantic.index.vector_types import StoredHalfVector, StoredVector

Kind = type[StoredVector] | type[StoredHalfVector]


@pytest.mark.parametrize("kind", [StoredVector, StoredHalfVector])
def test_a_stored_vector_is_read_as_a_list_of_numbers(kind: Kind) -> None:
    dialect: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    read = kind(3).result_processor(dialect, None)
    assert read("[1,-0.5,0]") == [1.0, -0.5, 0.0]
    assert isinstance(read("[1]"), list)
    assert read(None) is None


@pytest.mark.parametrize(("kind", "name"), [(StoredVector, "VECTOR(3)"), (StoredHalfVector, "HALFVEC(3)")])
def test_a_type_is_written_as_pgvector_writes_it(kind: Kind, name: str) -> None:
    assert kind(3).compile(dialect=postgresql.dialect()) == name  # type: ignore[no-untyped-call]
