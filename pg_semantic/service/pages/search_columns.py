"""The columns of the search page: the hits of each mode, and the place of each hit in the other modes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pg_semantic.search import Hit, Snippet
from pg_semantic.service.pages.sql_trace import Ran


@dataclass(frozen=True, slots=True)
class Place:
    """The rank of a row in another column; None if it isn't among the first hits there."""

    title: str
    rank: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A hit as shown.

    Attributes:
        key: The key with its column names.
        headline: The row's headline; the key if all its text is blank.
        body: The passage or snippet without the headline; None if nothing is left.
        share: The score on the scale of its column, 0 to 1.
        places: The hit's rank in the other columns that have results.
    """

    key: str
    hit: Hit[Any]
    headline: Snippet
    body: Snippet | None
    share: float
    places: Sequence[Place] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """The results of one mode of searching; times are in milliseconds."""

    title: str
    about: str
    hits: Sequence[Shown] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    ran: Sequence[Ran] = ()
    problem: str | None = None


def shown(found: Sequence[Hit[Any]], key: Sequence[str]) -> list[Shown]:
    """Returns hits as shown in one column, without their places in others.

    Args:
        found: The hits, best first.
        key: The names of the key columns.
    """
    shares = _shares([hit.score for hit in found])
    return [_shown(hit, key, share) for hit, share in zip(found, shares, strict=True)]


def with_places(columns: Sequence[Column]) -> list[Column]:
    """Returns the columns with the place of each hit in the others."""
    answered = [column for column in columns if column.problem is None]
    ranks = {column.title: {one.key: rank for rank, one in enumerate(column.hits, start=1)} for column in answered}

    def placed(one: Shown, own: str) -> Shown:
        others = ((title, found) for title, found in ranks.items() if title != own)
        return replace(one, places=[Place(title, found.get(one.key)) for title, found in others])

    return [replace(column, hits=[placed(one, column.title) for one in column.hits]) for column in columns]


def _shown(hit: Hit[Any], key: Sequence[str], share: float) -> Shown:
    name = ", ".join(f"{column} {getattr(hit.entity, column)}" for column in key)
    text = hit.snippet or Snippet(hit.passage, ())
    headline, body = _divided(text, hit.headline or name)
    return Shown(name, hit, headline, body, share)


def _divided(text: Snippet, headline: str) -> tuple[Snippet, Snippet | None]:
    """Divides a text that begins with the headline, so that it isn't shown twice and its words stay marked."""
    length = len(headline)
    if not text.text.startswith(headline) or text.text[length : length + 1].strip():
        return Snippet(headline, ()), text
    rest = text.text[length:]
    body = rest.lstrip()
    begin = length + len(rest) - len(body)
    marks = tuple((start - begin, stop - begin) for start, stop in text.marks if start >= begin)
    title = Snippet(headline, tuple(mark for mark in text.marks if mark[1] <= length))
    return title, Snippet(body, marks) if body else None


def _shares(scores: Sequence[float]) -> list[float]:
    """Scales scores to 0..1, where 0 stands for a score of 0, or for the lowest if it is negative."""
    low, high = min(0.0, *scores, 0.0), max(0.0, *scores, 0.0)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]
