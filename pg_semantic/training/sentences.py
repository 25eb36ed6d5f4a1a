"""Pairs without any judgement, from the indexed texts themselves: a sentence asks for the rest (`from_texts`).

This is the inverse cloze task of Lee, Chang and Toutanova (ACL 2019).
"""

import random
import re
from typing import Any

from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import generation_tracker, legs
from pg_semantic.search.generation_tracker import Target
from pg_semantic.search.legs import Where
from pg_semantic.training import drawn_passages
from pg_semantic.training.pairs import Pair

_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|(?<=[\u0e00-\u0eff])\s+(?=[\u0e00-\u0eff])|\n+")  # noqa: RUF001
_LEAST_WORDS, _MOST_WORDS = 4, 40
_PAGES = 4  # of random rows, each twice as long as the one before
WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""A character of Thai, Lao, Burmese, Khmer, Japanese or Chinese."""
_CHARACTERS = 2  # of these that count as a word


def from_texts(
    session: orm.Session, index: BoundIndex[Any], *, where: Where = (), limit: int = 2_000, seed: int = 0
) -> list[Pair]:
    """Returns a pair for each of some random rows: a sentence of its text asks for it.

    Train on them with ``EncoderTraining(without_quotes=True)``, which cuts the sentence out of the passage. Otherwise
    the encoder learns to find copies. People don't ask in such sentences, so judgements teach more; use these pairs if
    you have none and the encoder doesn't know the language or the subject of your rows.

    Args:
        where: Conditions on the table, as in a search.
        limit: How many pairs to return, at most. Rows without a sentence of 4 to 40 words, and without other text, are
            left out, and others looked at in their place: up to 15 times as many rows. In languages without spaces, two
            characters count as a word; Thai and Lao sentences end at spaces.
        seed: Chooses the rows and sentences. Computes a hash for each row of the index.

    Raises:
        errors.QueryError: A condition belongs to another table, or the limit isn't positive.
        errors.IndexNotFound: The index has not been created.
    """
    if limit < 1:
        raise errors.QueryError(f"limit={limit}: limit must be 1 or more.")
    filters = legs.conditions(where)
    legs.require_own(index, list(filters))
    with database.translated():
        live, _ = generation_tracker.read_live(session, index)
        bound = Target(live, live.tables, None).bound(index)
        connection, choose = generation_tracker.connect(session, index), random.Random(seed)  # noqa: S311 - no secret
        pairs: list[Pair] = []
        for page in range(_PAGES):
            count = limit << page
            chosen = drawn_passages.one_of_each_row(bound, count=count, where=filters, seed=seed, after=count - limit)
            rows = connection.execute(chosen).all()
            pairs += [Pair(choose.choice(found), key) for key, text in rows if (found := sentences(text))]
            if len(pairs) >= limit:
                break
    return pairs[:limit]


def sentences(text: str) -> list[str]:
    """Returns the sentences and lines of a text that can ask for the rest of it, of 4 to 40 words."""
    parts = [part.strip() for part in _ENDS.split(text) if part.strip()]
    if len(parts) == 1:
        return []
    return [part for part in parts if _LEAST_WORDS <= _words(part) <= _MOST_WORDS]


def _words(text: str) -> int:
    """Returns about how many words a text has, also in languages that are written without spaces."""
    return max(len(text.split()), len(WITHOUT_SPACES.findall(text)) // _CHARACTERS)
