"""Encoders turn texts into vectors. `load` loads one by its reference."""

from pg_semantic.encoders.base import Encoder, Vectors
from pg_semantic.encoders.batching_encoder import BatchingEncoder
from pg_semantic.encoders.load import load

__all__ = ["BatchingEncoder", "Encoder", "Vectors", "load"]
