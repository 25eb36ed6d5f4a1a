"""Changes a semantic index without downtime: builds another copy next to the live one, then swaps them.

`begin` starts the new copy and workers fill it. `coverage` shows the progress, `compare` how results would
change, and `switch` makes the copy live at once. Workers keep the previous copy up to date until you `drop` it, so
`rollback` is correct at any time.
"""

from pg_semantic.generations.compare_results import Comparison, compare, read_queries, sampled
from pg_semantic.generations.gate import require_relevance
from pg_semantic.generations.lifecycle import Disk, begin, clear, disk, drop, find, rollback, size, switch
from pg_semantic.generations.readiness import Coverage, coverage

__all__ = [
    "Comparison",
    "Coverage",
    "Disk",
    "begin",
    "clear",
    "compare",
    "coverage",
    "disk",
    "drop",
    "find",
    "read_queries",
    "require_relevance",
    "rollback",
    "sampled",
    "size",
    "switch",
]
