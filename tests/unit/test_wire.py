import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pgvector import HalfVector, Vector

from pg_semantic.worker import copy_rows

_numbers = st.floats(-1, 1, width=32)
_vectors = st.integers(1, 8).flatmap(
    lambda dimensions: st.lists(st.lists(_numbers, min_size=dimensions, max_size=dimensions), min_size=1, max_size=4)
)


@given(_vectors)
def test_halfvec_travels_as_pgvector_writes_it(vectors: list[list[float]]) -> None:
    wire = copy_rows.to_wire([np.array(vector, np.float32) for vector in vectors], "halfvec")
    assert wire == [HalfVector(vector).to_binary() for vector in vectors]


@given(_vectors)
def test_vector_travels_as_pgvector_writes_it(vectors: list[list[float]]) -> None:
    wire = copy_rows.to_wire([np.array(vector, np.float32) for vector in vectors], "vector")
    assert wire == [Vector(vector).to_binary() for vector in vectors]


def test_no_vectors_make_no_bytes() -> None:
    assert copy_rows.to_wire([], "halfvec") == []
