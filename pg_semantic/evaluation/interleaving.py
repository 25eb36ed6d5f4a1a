"""`interleaving_outcome`: which of two ways to search people prefer, by their clicks on interleaved pages.

The pages come from `search.interleave`, and are kept in a table from `search.impressions_table`. Only counts are read.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import sqlalchemy as sa

from pg_semantic import errors
from pg_semantic.evaluation import sessions, significance
from pg_semantic.evaluation.sessions import Session
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Team
from pg_semantic.search.impressions import of_index

Unit: TypeAlias = Literal["impression", "visitor"]

_SIGNIFICANT = 0.05
_FEW_DECISIONS = 50
_LARGE_PART = 0.05
# Quantiles of the normal distribution: 1 - 0.05 / 2, and 0.8, the chance to find a preference that exists.
_LEVEL, _POWER = 1.959964, 0.841621


@dataclass(frozen=True, slots=True)
class InterleavingOutcome:
    """Which of two interleaved searches people prefer.

    Attributes:
        index: Name of the index.
        variant: Name of the experiment.
        unit: What is counted: each ``impression``, or each ``visitor``.
        first: How many prefer the first search: more of its rows were clicked than of the second one's.
        second: How many prefer the second search.
        ties: How many have clicks, but prefer neither.
        unclicked: How many have no clicks.
        p: Two-sided p value of the sign test on those that prefer one; not corrected for other tests.
        low: Lower end of the exact 95% interval of the share that prefers the second search.
        high: Upper end of this interval.
        warnings: What keeps the figures from carrying a conclusion.
    """

    index: str
    variant: str
    unit: Unit
    first: int
    second: int
    ties: int
    unclicked: int
    p: float
    low: float
    high: float
    warnings: tuple[str, ...] = ()

    @property
    def decided(self) -> int:
        """How many prefer one of the searches. These alone count."""
        return self.first + self.second

    @property
    def share(self) -> float:
        """The share of these that prefers the second search; one half if there are none."""
        return self.second / self.decided if self.decided else 0.5

    @property
    def preferred(self) -> Team | None:
        """The search that is preferred by more than chance (p < .05); None if neither is."""
        if self.p >= _SIGNIFICANT:
            return None
        return "first" if self.first > self.second else "second"

    def require_preferred(self, team: Team) -> None:
        """Raises AssertionError unless a search is shown to be preferred (p < .05)."""
        if self.preferred != team:
            raise AssertionError(
                f"The {team} search of {self.variant!r} isn't shown to be preferred: {self.second} of {self.decided} "
                f"prefer the second one, share {self.share:.3f}, 95% interval {self.low:.3f} to {self.high:.3f}, "
                f"p {self.p:.3f}."
            )


@dataclass(frozen=True, slots=True)
class _Votes:
    """What the database counts, in units but for the last three."""

    first: int
    second: int
    ties: int
    unclicked: int
    impressions: int
    without_visitor: int
    most_by_one: int

    @property
    def p(self) -> float:
        """The p value of the sign test."""
        return significance.sign_test_p(self.first, self.second)


def interleaving_outcome(
    session: Session,
    index: BoundIndex[Any],
    table: sa.Table,
    *,
    variant: str,
    unit: Unit = "impression",
    where: Sequence[sa.ColumnElement[bool]] = (),
) -> InterleavingOutcome:
    """Counts which search of interleaved pages got more clicks.

    An impression prefers the search whose rows have more clicks in it. If people clicked without looking, each search
    would be preferred equally often, and the sign test says how far from that it is. Decide beforehand for how long you
    collect: if you stop as soon as p is below .05, it means little.

    The database counts, in one statement. With an AsyncSession:
    ``await session.run_sync(evaluation.interleaving_outcome, Article.semantic, table, variant=...)``.

    Args:
        session: A Session or Connection, whose privileges apply.
        table: The table from `search.impressions_table`.
        variant: The name of the experiment, as the impressions were stored.
        unit: Counts each ``impression``, or each ``visitor`` once, by the sum of their impressions. Impressions of the
            same visitor are not independent, so the p value of impressions is too low if some visitors have many.
        where: Conditions on the table, such as ``table.c.shown_at > ...``.

    Raises:
        errors.QueryError: There are no such impressions, or the unit is unknown.
        errors.DatabaseError: The role lacks privileges, or the database does not respond.
    """
    if unit not in get_args(Unit):
        raise errors.QueryError(f"unit={unit!r} is unknown: use one of {', '.join(get_args(Unit))}.")
    conditions = (*of_index(table, index), table.c.variant == variant, *where)
    [row] = sessions.execute(session, index, _statement(table, conditions, unit=unit))
    found = _Votes(*row)
    if not found.impressions:
        raise errors.QueryError(f"There are no impressions of {index.name!r} with the variant {variant!r}.")
    p, (low, high) = found.p, significance.share_interval(found.second, found.first)
    counts = (found.first, found.second, found.ties, found.unclicked)
    return InterleavingOutcome(index.name, variant, unit, *counts, p, low, high, tuple(_doubts(found, unit)))


def _statement(
    table: sa.Table, conditions: Sequence[sa.ColumnElement[bool]], *, unit: Unit
) -> sa.Select[*tuple[Any, ...]]:
    """Returns the SELECT of the columns of `_Votes`, one row."""
    pages = _pages(table, conditions)
    visitors = (
        sa.select(
            sa.func.sign(sa.func.sum(pages.c.preference)).label("preference"),
            sa.func.bool_or(pages.c.clicked).label("clicked"),
            sa.func.count().filter(pages.c.preference != 0).label("decided"),
        )
        .where(pages.c.visitor.is_not(None))
        .group_by(pages.c.visitor)
        .cte("visitors")
    )
    units = pages if unit == "impression" else visitors
    preference, clicked = units.c.preference, units.c.clicked
    kinds = (preference < 0, preference > 0, sa.and_(preference == 0, clicked), ~clicked)
    every = sa.select(sa.func.count()).select_from(pages)
    return sa.select(
        *(sa.func.count().filter(kind) for kind in kinds),
        every.scalar_subquery(),
        every.where(pages.c.visitor.is_(None)).scalar_subquery(),
        sa.select(sa.func.coalesce(sa.func.max(visitors.c.decided), 0)).scalar_subquery(),
    ).select_from(units)


def _pages(table: sa.Table, conditions: Sequence[sa.ColumnElement[bool]]) -> sa.CTE:
    """Returns each impression: its visitor, its preference (-1 for the first search, 1 for the second), its clicks."""
    columns = table.c
    clicked = columns.clicked_at.is_not(None)
    of_first, of_second = (sa.func.count().filter(clicked, columns.team == team) for team in get_args(Team))
    return (
        sa.select(
            sa.func.max(columns.visitor).label("visitor"),
            sa.func.sign(of_second - of_first).label("preference"),
            sa.func.bool_or(clicked).label("clicked"),
        )
        .where(*conditions)
        .group_by(columns.impression)
        .cte("pages")
    )


def _doubts(found: _Votes, unit: Unit) -> Iterator[str]:
    """Yields what keeps the figures from carrying a conclusion."""
    decided, units = found.first + found.second, f"{unit}s"
    if decided < _FEW_DECISIONS:
        yield (
            f"Only {decided} {units} prefer one of the searches: with fewer than {_FEW_DECISIONS}, only a large "
            "majority means something. Collect more."
        )
    if found.p >= _SIGNIFICANT and found.first != found.second:
        yield (
            f"No preference is shown. If the majority stays as large, it takes about {_needed(found):,} {units} that "
            "prefer one."
        )
    if unit == "visitor" and found.without_visitor:
        yield f"{found.without_visitor} of {found.impressions} impressions were left out: they have no visitor."
    if unit == "impression" and decided >= _FEW_DECISIONS and found.most_by_one > _LARGE_PART * decided:
        yield (
            f"A single visitor has {found.most_by_one} of the {decided} impressions that prefer one: count each "
            "visitor once, with unit='visitor'."
        )


def _needed(found: _Votes) -> int:
    """Returns how many decisions would show the present majority with a probability of 80%.

    The sample size of a test of one proportion, by the normal approximation (Fleiss, Levin and Paik 2003).
    """
    share = max(found.first, found.second) / (found.first + found.second)
    reach = _LEVEL * 0.5 + _POWER * math.sqrt(share * (1 - share))
    return math.ceil((reach / (share - 0.5)) ** 2)
