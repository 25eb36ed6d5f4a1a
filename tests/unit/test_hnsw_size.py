"""The size of a vector index and of its graph, compared with what servers had: see benchmarks/RESULTS.md."""

import pytest

from pg_semantic.index import hnsw_size
from pg_semantic.index.hnsw_size import HnswShape
from pg_semantic.index.spec import Storage

# Storage, dimensions, m, chunks, bytes of the index per chunk: measured on PostgreSQL 18.4 with pgvector 0.8.5.
_INDEXES: list[tuple[Storage, int, int, int, float]] = [
    ("halfvec", 64, 8, 14_813, 334.6),
    ("halfvec", 64, 16, 10_373, 435.9),
    ("halfvec", 64, 48, 4_698, 838.7),
    ("halfvec", 384, 8, 7_114, 1026.0),
    ("halfvec", 384, 16, 5_904, 1172.5),
    ("halfvec", 384, 24, 5_040, 1222.3),
    ("halfvec", 384, 32, 4_396, 1367.8),
    ("vector", 384, 16, 3_896, 2050.1),
    ("vector", 384, 32, 3_179, 2123.4),
    ("vector", 384, 48, 2_685, 2733.7),
    ("halfvec", 1536, 16, 2_323, 4101.3),
]
# Storage, dimensions, m, processes, maintenance_work_mem in MB, chunks in the server's notice.
_NOTICES: list[tuple[Storage, int, int, int, int, int]] = [
    ("halfvec", 64, 8, 1, 8, 14_234),
    ("halfvec", 64, 16, 1, 8, 9_956),
    ("halfvec", 64, 16, 2, 8, 5_176),
    ("halfvec", 64, 48, 1, 8, 4_498),
    ("halfvec", 384, 16, 1, 8, 5_656),
    ("halfvec", 384, 16, 2, 8, 2_892),
    ("halfvec", 384, 32, 1, 8, 4_211),
    ("vector", 384, 24, 1, 8, 3_346),
    ("vector", 384, 24, 2, 8, 1_695),
    ("halfvec", 1536, 48, 1, 8, 1_743),
]


@pytest.mark.parametrize(("storage", "dimensions", "m", "chunks", "measured"), _INDEXES)
def test_the_size_of_an_index_is_that_of_a_real_one(
    storage: Storage, dimensions: int, m: int, chunks: int, measured: float
) -> None:
    size = hnsw_size.index_bytes(chunks, HnswShape(dimensions, storage, m))
    assert size / chunks == pytest.approx(measured, rel=0.005)


@pytest.mark.parametrize(("storage", "dimensions", "m", "processes", "megabytes", "chunks"), _NOTICES)
def test_the_memory_of_a_graph_is_what_it_had_when_it_outgrew_its_memory(
    storage: Storage, dimensions: int, m: int, processes: int, megabytes: int, chunks: int
) -> None:
    shape, parallel = HnswShape(dimensions, storage, m), processes > 1
    graph = hnsw_size.graph_bytes(chunks, shape, parallel=parallel)
    had = megabytes * 2**20 - (4 * 2**20 if parallel else 0)
    assert graph == pytest.approx(had, rel=0.005)
    assert hnsw_size.required_memory(chunks, shape, parallel=parallel) > megabytes * 2**20


def test_an_empty_index_has_its_first_two_pages_and_one_chunk_needs_no_more() -> None:
    assert hnsw_size.index_bytes(0, HnswShape(384)) == hnsw_size.index_bytes(1, HnswShape(384)) == 2 * 8192


def test_the_neighbors_of_a_vector_as_large_as_a_page_are_on_a_page_of_their_own() -> None:
    assert hnsw_size.index_bytes(1000, HnswShape(1900, "vector")) / 8192 == pytest.approx(1001, abs=1)
    assert hnsw_size.index_bytes(100, HnswShape(2000, "vector")) == 201 * 8192


def test_partitions_divide_the_memory_and_not_the_size() -> None:
    whole, parts = HnswShape(384), HnswShape(384, partitions=16)
    largest = hnsw_size.in_largest_partition(10_000_000, parts)
    assert 10_000_000 / 16 < largest < 1.01 * 10_000_000 / 16  # they are not quite equally large
    assert hnsw_size.in_largest_partition(10_000_000, whole) == 10_000_000
    assert hnsw_size.index_bytes(10_000_000, parts) == pytest.approx(hnsw_size.index_bytes(10_000_000, whole), rel=1e-4)
    assert hnsw_size.in_largest_partition(1, parts) == 1


def test_older_servers_need_more_memory_for_the_same_graph() -> None:
    sizes = [hnsw_size.graph_bytes(10_000, HnswShape(384), server_version=one) for one in (150_000, 160_000)]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    ("size", "setting"),
    [(0, "1MB"), (1, "1MB"), (2**20, "1MB"), (64 * 2**20, "64MB"), (641 * 2**20, "650MB"), (9 * 2**30, "9300MB")],
)
def test_a_setting_is_rounded_up(size: int, setting: str) -> None:
    assert hnsw_size.as_setting(size) == setting
    assert int(setting.removesuffix("MB")) * 2**20 >= size
