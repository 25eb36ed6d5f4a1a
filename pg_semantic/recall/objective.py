"""How many candidates a scan needs to reach a recall objective: the decision, as pure functions of what was measured.

Recall is the share of the ten nearest chunks that the vector index finds. Each estimate comes from a number of queries,
so it has an interval, and nothing is changed until the whole interval is on one side of the objective. A worker looks
at the estimate after each measurement, so one of many 95% intervals is below the objective by chance. Hence a miss is
only what a wider interval shows, with a bound for all looks of a week together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pg_semantic.recall.score_interval import NORMAL_QUANTILE, interval

State: TypeAlias = Literal["met", "open", "missed", "unreachable"]

# pgvector's limit, and what a scan uses for up to 50 rows unless another value was chosen for the index.
MAX_EF_SEARCH = 1000
DEFAULT_EF_SEARCH = 100

# Values of hnsw.ef_search, each about half as large again as the one before. The time of a scan grows in proportion.
STEPS = (16, 24, 32, 48, 64, 100, 150, 200, 300, 400, 600, 800, MAX_EF_SEARCH)

UNREACHABLE_ADVICE = "raise ef_construction or m (`hnsw=Hnsw(...)` in the declaration), or lower the objective"

# Lower ef_search only if at most this share of the misses that the objective allows is likely to happen.
_FAR_ABOVE = 0.25
_KEPT = 2000  # queries that count at each value of ef_search, at least

# Raise ef_search by chance in at most 5% of all weeks with a recall at the objective. That error is spent evenly
# (Bonferroni; Lan and DeMets 1983 call it an alpha spending function) on the looks of the seven days for which a
# measurement counts, one a minute. This is the quantile of the normal distribution for 0.05 / 10,080.
_MISS_QUANTILE = 4.4189


@dataclass(frozen=True, slots=True)
class RecallEstimate:
    """What was measured at one value of ``hnsw.ef_search``.

    Attributes:
        queries: How many queries were measured.
        found: How many of the nearest chunks they found, in total.
        expected: How many there were to find.
    """

    queries: int
    found: int
    expected: int

    @property
    def recall(self) -> float:
        """The share that was found, 0 to 1."""
        return self.found / self.expected

    @property
    def low(self) -> float:
        """The lower end of the 95% interval of the recall over all queries."""
        return interval(self.recall, self.queries)[0]

    @property
    def high(self) -> float:
        """The upper end."""
        return interval(self.recall, self.queries)[1]

    @property
    def highest(self) -> float:
        """The recall that is excluded however often a worker looks: the upper end of the interval that shows a miss."""
        return interval(self.recall, self.queries, quantile=_MISS_QUANTILE)[1]

    def state(self, objective: float, *, ef_search: int) -> State:
        """Says how the recall compares with an objective: ``open`` until it is shown to be met or to be missed.

        Args:
            objective: The share that should be found.
            ef_search: The value that was measured; a miss at the highest one is ``unreachable``.
        """
        if self.low >= objective:
            return "met"
        if self.highest >= objective:
            return "open"
        return "missed" if ef_search < MAX_EF_SEARCH else "unreachable"


def next_ef_search(objective: float, *, now: int, estimates: Mapping[int, RecallEstimate]) -> int:
    """Returns the value to scan with from now on: one step more after a miss, one step less far above the objective.

    A step down needs an interval that leaves at most a quarter of the misses that the objective allows. It never goes
    below the default, because searches with filters profit from it, nor to a value that is known to miss the objective.

    Args:
        objective: The share of the nearest chunks that should be found.
        now: The value in use.
        estimates: What was measured lately, by value.
    """
    known = estimates.get(now)
    if known is None:
        return now
    if known.highest < objective:
        return next((step for step in STEPS if step > now), now)
    lower = max((step for step in STEPS if step < now), default=now)
    tried = estimates.get(lower)
    if lower < DEFAULT_EF_SEARCH or (tried is not None and tried.highest < objective):
        return now
    return lower if 1 - known.low <= (1 - objective) * _FAR_ABOVE else now


def queries_needed(objective: float) -> int:
    """Returns how many queries it takes to show that an objective is met, if they find everything.

    The score interval of n perfect queries ends at n / (n + z²), where z is the quantile of the normal distribution.
    """
    return math.ceil(objective / (1 - objective) * NORMAL_QUANTILE**2)


def queries_kept(objective: float) -> int:
    """Returns how many of the newest queries count: 2000, or as many as it takes to show that fewer would be enough.

    To find out that a recall is far above a high objective takes four times as many queries as to show that it is met,
    and one miss among them must not hide it.
    """
    return max(_KEPT, math.ceil(2 * queries_needed(objective) / _FAR_ABOVE))
