"""Finds the settings of a search that rank best on judged queries, and says whether they are worth a change.

`tune` asks each leg once per query, computes every setting from their rankings, and cross-validates the choice.
`tune_rerank_depth` does so for the depth of a reranker, and `tune_chunk_size` for the chunk size, on a sample.
`tune_ef_search` needs no judgements: it finds how far a scan of the vector index must look.
"""

from pg_semantic.tuning.chunk_size import ChunkSize, ChunkTuning, ChunkTuningOptions, tune_chunk_size
from pg_semantic.tuning.ef_search import RecallTuning, keep_ef_search, tune_ef_search
from pg_semantic.tuning.grid import Setting, grid
from pg_semantic.tuning.rerank_depth import RerankedDepth, RerankTuning, RerankTuningOptions, tune_rerank_depth
from pg_semantic.tuning.store import save
from pg_semantic.tuning.tune import Tuning, TuningOptions, tune

__all__ = [
    "ChunkSize",
    "ChunkTuning",
    "ChunkTuningOptions",
    "RecallTuning",
    "RerankTuning",
    "RerankTuningOptions",
    "RerankedDepth",
    "Setting",
    "Tuning",
    "TuningOptions",
    "grid",
    "keep_ef_search",
    "save",
    "tune",
    "tune_chunk_size",
    "tune_ef_search",
    "tune_rerank_depth",
]
