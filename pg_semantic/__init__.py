"""Semantic search for the rows of a Postgres table, declared on the mapped class you already have."""

from pg_semantic import encoders, errors, search
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.declare import SemanticIndex
from pg_semantic.index.spec import Compressed, Hnsw, Lexical
from pg_semantic.search import AsyncSearcher, Hit, Searcher

__all__ = [
    "AsyncSearcher",
    "BoundIndex",
    "Chunking",
    "Compressed",
    "Hit",
    "Hnsw",
    "Lexical",
    "Searcher",
    "SemanticIndex",
    "encoders",
    "errors",
    "search",
]
