"""Finds the settings of a search that rank best on judged queries, and says whether they are worth a change.

`tune` asks each leg once per query, computes every setting from the two rankings, and cross-validates the choice.
"""

from pg_semantic.tuning.grid import Setting, grid
from pg_semantic.tuning.store import save
from pg_semantic.tuning.tune import Tuning, TuningOptions, tune

__all__ = ["Setting", "Tuning", "TuningOptions", "grid", "save", "tune"]
