"""How large the vector index and its graph get: formulas for pgvector's HNSW, without a database.

The constants are the sizes of structures in pgvector 0.8 on a 64-bit server (``src/hnsw.h``), and the pages follow
``CreateGraphPages`` in ``src/hnswbuild.c``. ``make bench-index-size`` compares both with a server.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from pg_semantic.index.spec import IndexSpec, Storage

_PAGE = 8192
_USABLE = _PAGE - 24 - 8  # without the page's header and the index's own data at its end
_LINE_POINTER = 4
_ALIGNMENT = 8  # MAXALIGN
_TID = 6
_VECTOR_HEADER = 8
_BITS: dict[Storage | Literal["bit"], int] = {"halfvec": 16, "vector": 32, "bit": 1}

# On disk: a tuple of an element without its vector, and of its neighbors without their TIDs.
_ELEMENT_TUPLE = 72
_NEIGHBOR_TUPLE = 4

# In memory: HnswElementData, a pointer to each level's array of neighbors, the array's head, an HnswCandidate.
_ELEMENT = 128
_POINTER = 8
_ARRAY = 8
_CANDIDATE = 16
_CHUNK_HEADER = 8  # of each allocation in a process's own memory; 24 on PostgreSQL 15
_CHUNK_HEADER_15 = 24
_POSTGRES_16 = 160_000
_MORE_ROOM = 1.02  # levels are drawn at random
# A parallel build reserves 3 MB less than maintenance_work_mem in shared memory, and leaves 1 MB of that unused.
_NOT_RESERVED, _UNUSED = 3 * 2**20, 2**20


@dataclass(frozen=True, slots=True)
class HnswShape:
    """What decides the size of a vector index, apart from the number of chunks.

    Args:
        dimensions: The dimensions of what is indexed.
        storage: The type of what is indexed.
        m: Maximum number of connections per node and layer; twice as many on the lowest one.
        partitions: How many partitions the index has, each with a graph of its own.
    """

    dimensions: int
    storage: Storage | Literal["bit"] = "halfvec"
    m: int = 16
    partitions: int = 1

    @classmethod
    def of(cls, spec: IndexSpec) -> "HnswShape":
        """Returns the shape of a semantic index's vector index."""
        if spec.prefix is not None:
            return cls(spec.prefix, "halfvec", spec.hnsw.m, spec.partitions)
        storage: Storage | Literal["bit"] = "bit" if spec.compressed else spec.storage
        return cls(spec.encoder.dimensions, storage, spec.hnsw.m, spec.partitions)

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector, as the server stores it."""
        return _VECTOR_HEADER + math.ceil(self.dimensions * _BITS[self.storage] / 8)


def chunk_bytes(spec: IndexSpec) -> int:
    """Returns the bytes of the vector and the prefix of a chunk in the chunk table."""
    return HnswShape(spec.encoder.dimensions, spec.storage).vector_bytes + prefix_bytes(spec)


def prefix_bytes(spec: IndexSpec) -> int:
    """Returns the bytes of the prefix of a chunk in the chunk table; 0 if it has none."""
    return 0 if spec.prefix is None else HnswShape(spec.prefix, "halfvec").vector_bytes


def graph_bytes(chunks: int, shape: HnswShape, *, parallel: bool = False, server_version: int = 180_000) -> int:
    """Returns the memory that a graph takes while it is built, in bytes. Each partition has a graph of its own.

    A node has one level more with probability 1/m, then another one with probability 1/m, and so on: 1/(m-1) on
    average. Chunks with equal vectors take as much memory as others.

    Args:
        chunks: How many chunks are indexed.
        shape: What decides the size of a node.
        parallel: Whether the graph is in shared memory, where allocations have no headers.
        server_version: The version of the server, as in ``server_version_num``.
    """
    levels = 1 / (shape.m - 1)
    header = 0 if parallel else _CHUNK_HEADER if server_version >= _POSTGRES_16 else _CHUNK_HEADER_15
    lowest = _POINTER + _ARRAY + 2 * shape.m * _CANDIDATE
    each_level = _POINTER + _ARRAY + shape.m * _CANDIDATE + header
    allocations = 4  # the element, its pointers, the neighbors on the lowest level, the vector
    one = _ELEMENT + lowest + _aligned(shape.vector_bytes) + levels * each_level + allocations * header
    return math.ceil(chunks * one)


def in_largest_partition(chunks: int, shape: HnswShape) -> int:
    """Returns how many chunks the largest partition has by chance: three standard deviations above the average.

    Args:
        chunks: How many chunks are indexed, in all partitions.
        shape: Says how many partitions there are.
    """
    if shape.partitions == 1:
        return chunks
    average = chunks / shape.partitions
    return min(chunks, math.ceil(average + 3 * math.sqrt(average)))


def required_memory(chunks: int, shape: HnswShape, *, parallel: bool = False, server_version: int = 180_000) -> int:
    """Returns the `maintenance_work_mem`, in bytes, with which the graph stays in memory: `graph_bytes` and a margin.

    With less, pgvector writes what it has to disk and inserts the other chunks there, which takes many times longer.
    """
    graph = graph_bytes(chunks, shape, parallel=parallel, server_version=server_version)
    return math.ceil(graph * _MORE_ROOM) + (_NOT_RESERVED + _UNUSED if parallel else 0)


def shared_bytes(maintenance_work_mem: int) -> int:
    """Returns the shared memory that a parallel build reserves when it begins, in bytes, however many chunks it has."""
    return max(maintenance_work_mem - _NOT_RESERVED, _NOT_RESERVED)


def index_bytes(chunks: int, shape: HnswShape) -> int:
    """Returns the size of a vector index that was just built, in bytes.

    An upper bound if chunks have equal vectors: up to ten of them share a node.
    """
    if shape.partitions > 1:
        whole = dataclasses.replace(shape, partitions=1)
        return shape.partitions * index_bytes(math.ceil(chunks / shape.partitions), whole)
    if not chunks:
        return 2 * _PAGE  # the metapage and an empty page
    element, neighbors = _aligned(_ELEMENT_TUPLE + shape.vector_bytes), _neighbors(shape.m)
    if element + neighbors + _LINE_POINTER > _USABLE - _LINE_POINTER:
        return _PAGE * (1 + 2 * chunks)  # a vector's neighbors are on the next page, and no vector fits after them
    return _PAGE * (1 + math.ceil(chunks / _nodes_per_page(element + neighbors + 2 * _LINE_POINTER, shape.m)))


def as_setting(size: int) -> str:
    """Returns a size as a value of `maintenance_work_mem`, rounded up to two digits or more: ``640MB``, ``9300MB``."""
    megabytes = max(1, math.ceil(size / 2**20))
    step = 10 ** max(0, len(str(megabytes)) - 2)
    return f"{math.ceil(megabytes / step) * step}MB"


def _nodes_per_page(node: int, m: int) -> float:
    """Returns how many nodes fit on a page, on average over the random levels of nodes.

    ``count`` nodes fit if the additional levels that they have fit into the rest of the page. The number of these
    levels has a negative binomial distribution.
    """
    return sum(_at_most((_USABLE - count * node) // (m * _TID), count, m) for count in range(1, _USABLE // node + 1))


def _at_most(levels: int, count: int, m: int) -> float:
    """Returns the probability that ``count`` nodes have at most this many additional levels in total."""
    p = 1 / m
    return sum(math.comb(count + k - 1, k) * p**k * (1 - p) ** count for k in range(levels + 1))


def _neighbors(m: int) -> int:
    return _aligned(_NEIGHBOR_TUPLE + 2 * m * _TID)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
