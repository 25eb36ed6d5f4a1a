"""Semantic search for the rows of a Postgres table, declared on the mapped class you already have."""

from pg_semantic import encoders, errors, search
from pg_semantic.chunking import Chunking
from pg_semantic.declare import BoundIndex, SemanticIndex
from pg_semantic.search import AsyncSearcher, Hit, Searcher
from pg_semantic.spec import Hnsw, Lexical

__all__ = [
    "AsyncSearcher",
    "BoundIndex",
    "Chunking",
    "Hit",
    "Hnsw",
    "Lexical",
    "Searcher",
    "SemanticIndex",
    "encoders",
    "errors",
    "search",
]
