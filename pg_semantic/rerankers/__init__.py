"""Rerankers, which score a query and a passage together. `load` loads one by its reference."""

from pg_semantic.rerankers.base import Reranker, Scores, ScoreType
from pg_semantic.rerankers.batching_reranker import BatchingReranker
from pg_semantic.rerankers.load import load

__all__ = ["BatchingReranker", "Reranker", "ScoreType", "Scores", "load"]
