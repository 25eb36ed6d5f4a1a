"""Encoders: what turns text into vectors. `load` finds one by its reference."""

from pg_semantic.encoders.base import Encoder, Vectors
from pg_semantic.encoders.load import load
from pg_semantic.encoders.queries import QueryEncoder

__all__ = ["Encoder", "QueryEncoder", "Vectors", "load"]
