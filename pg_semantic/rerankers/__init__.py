"""Rerankers: what scores a query and a passage together. `load` finds one by its reference."""

from pg_semantic.rerankers.base import Reranker, Scores, ScoreType
from pg_semantic.rerankers.load import load
from pg_semantic.rerankers.shared import SharedReranker

__all__ = ["Reranker", "ScoreType", "Scores", "SharedReranker", "load"]
