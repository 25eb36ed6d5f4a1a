"""Merges the hits of two ways to search into one page, so that clicks on it say which of them people prefer."""

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pg_semantic import errors
from pg_semantic.search import validation
from pg_semantic.search.results import Hit

T = TypeVar("T")

Team = Literal["first", "second"]


@dataclass(frozen=True, slots=True)
class Drafted(Generic[T]):
    """A hit on an interleaved page.

    Attributes:
        hit: The hit, of the search that drafted it.
        team: Whether the ``first`` or the ``second`` search gets the credit for a click. None if neither does.
    """

    hit: Hit[T]
    team: Team | None


def interleave(
    first_hits: Sequence[Hit[T]], second_hits: Sequence[Hit[T]], *, seed: str | uuid.UUID, limit: int = 10
) -> list[Drafted[T]]:
    """Merges two rankings by team draft (Radlinski, Kurup and Joachims, CIKM 2008).

    In each round, a coin decides which search picks first. Each then picks its best hit that is not on the page yet. So
    each has the same chance of a click from people who click without looking, at any rank. Hits that say nothing about
    the searches have no team: those at the beginning of the page that both rankings have at the same ranks, and those
    that follow when one of the rankings has come to its end.

    To show a further page, search as far as its end, interleave with the same seed and that limit, and take the slice.
    Both rankings should have ``limit`` hits if that many rows match.

    Args:
        first_hits: The hits of one search, best first, with their keys: ``Options(keys=True)``.
        second_hits: The hits of another search of the same index, for the same query.
        seed: Decides the coins. The same seed and rankings give the same page, so pass the id of the impression.
        limit: How many hits to return.

    Returns:
        The hits in the order in which to show them, each row once.

    Raises:
        errors.QueryError: A hit has no key, or the limit is out of range.
    """
    validation.check_page(limit=limit, offset=0)
    first, second = _by_key(first_hits), _by_key(second_hits)
    shared = _common_beginning(list(first), list(second))
    page = [Drafted(first.pop(key), None) for key in shared]
    for key in shared:
        del second[key]
    coin = random.Random(str(seed))  # noqa: S311 - repeatable, and not a secret
    while len(page) < limit and _both_can_pick(first, second):
        for team in _order(coin):
            own, other = (first, second) if team == "first" else (second, first)
            key = next(iter(own))
            page.append(Drafted(own.pop(key), team))
            other.pop(key, None)
    page += [Drafted(hit, None) for hit in (second | first).values()]
    return page[:limit]


def key_of(hit: Hit[T]) -> str:
    """Returns the key of a hit.

    Raises:
        errors.QueryError: The search did not return keys.
    """
    if hit.key is None:
        raise errors.QueryError("A hit has no key: search with options=Options(keys=True).")
    return hit.key


def _by_key(hits: Iterable[Hit[T]]) -> dict[str, Hit[T]]:
    """Returns the hits by key, best first; of hits with the same key, the best one."""
    found: dict[str, Hit[T]] = {}
    for hit in hits:
        found.setdefault(key_of(hit), hit)
    return found


def _common_beginning(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Returns the keys up to the first rank at which two rankings differ."""
    differs = (number for number, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return list(first[: next(differs, min(len(first), len(second)))])


def _both_can_pick(first: dict[str, Hit[T]], second: dict[str, Hit[T]]) -> bool:
    """Whether each search has a hit left for this round, whichever picks first.

    If that depended on the coin, one search would get the better rank more often.
    """
    if not first or not second:
        return False
    return bool(first.keys() - {next(iter(second))}) and bool(second.keys() - {next(iter(first))})


def _order(coin: random.Random) -> tuple[Team, Team]:
    return ("first", "second") if coin.getrandbits(1) else ("second", "first")
