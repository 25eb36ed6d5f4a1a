"""Ranking rows by meaning: statements that compose as any `Select`, and searchers that take text."""

from pg_semantic.search.searcher import AsyncSearcher, Hit, Searcher
from pg_semantic.search.statements import exact, knn

__all__ = ["AsyncSearcher", "Hit", "Searcher", "exact", "knn"]
