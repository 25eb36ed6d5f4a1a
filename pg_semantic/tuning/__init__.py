"""Finds the settings of a search that rank best on judged queries, and says whether they are worth a change.

`tune` asks each leg once per query, computes every setting from the two rankings, and cross-validates the choice.
`tune_ef_search` needs no judgements: it finds how far a scan of the vector index must look.
"""

from pg_semantic.tuning.ef_search import RecallTuning, keep_ef_search, tune_ef_search
from pg_semantic.tuning.grid import Setting, grid
from pg_semantic.tuning.store import save
from pg_semantic.tuning.tune import Tuning, TuningOptions, tune

__all__ = [
    "RecallTuning",
    "Setting",
    "Tuning",
    "TuningOptions",
    "grid",
    "keep_ef_search",
    "save",
    "tune",
    "tune_ef_search",
]
