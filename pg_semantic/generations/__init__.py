"""Changing a semantic index with no outage: another copy is built beside the live one, then they change places.

`begin` starts it, workers fill it, `readiness` says how far they are, `compare` what it would change, and `switch`
makes it live in a moment. The one before is kept true, so that `rollback` is right at any time, until it is `drop`ped.
"""

from pg_semantic.generations.compare import Comparison, compare, read_judged, read_queries, sampled
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
    "read_judged",
    "read_queries",
    "rollback",
    "sampled",
    "size",
    "switch",
]
