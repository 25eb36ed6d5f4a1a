"""Words that distinguish clusters of texts: they are more frequent in a cluster than in the whole sample."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

from pg_semantic.index import bm25_expressions
from pg_semantic.index.spec import Lexical

_WORD = re.compile(r"[^\W\d_]{2,24}")
_WORDS = 3  # of a cluster
_TEXTS = 2  # that must have a word, unless the cluster has fewer

LENGTH = 300
"""How many characters of a text to read, at most."""


def of(
    connection: sa.Connection, texts: Sequence[str], clusters: Sequence[int], *, lexical: Lexical | None
) -> list[tuple[str, ...]]:
    """Returns the words of each cluster: up to three, and no word twice.

    Args:
        connection: Any connection. It reads no table.
        texts: The beginnings of texts, up to `LENGTH` characters each, which the caller may show.
        clusters: The cluster of each text, from 0.
        lexical: As in `lexemes`.
    """
    whole = [text if len(text) < LENGTH else text.rpartition(" ")[0] for text in texts]  # a word may have been cut
    return terms(whole, clusters, lexemes(connection, whole, lexical))


def lexemes(connection: sa.Connection, texts: Sequence[str], lexical: Lexical | None) -> dict[str, str]:
    """Returns the lexeme of each word in the texts, in lower case; words that are stop words are left out.

    Args:
        connection: Any connection. It reads no table.
        texts: The texts, which the caller may show.
        lexical: Has the text search configuration that reduces words. None keeps them as they are.
    """
    words = sorted({word for text in texts for word in _words(text)})
    word = sa.func.unnest(sa.cast(words, sa.ARRAY(sa.Text))).column_valued("word")
    vector = sa.func.to_tsvector(bm25_expressions.config(lexical or Lexical("simple")), word, type_=TSVECTOR)
    found = sa.func.tsvector_to_array(vector, type_=sa.ARRAY(sa.Text))
    return {row.word: row.found[0] for row in connection.execute(sa.select(word, found.label("found"))) if row.found}


def terms(texts: Sequence[str], clusters: Sequence[int], known: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Returns the words of each cluster, those that distinguish it best first; see `of`.

    Args:
        texts: The texts.
        clusters: The cluster of each text, from 0.
        known: The lexeme of each word, from `lexemes`.
    """
    count = max(clusters) + 1
    forms = [Counter[tuple[str, str]]() for _ in range(count)]
    having = [Counter[str]() for _ in range(count)]
    for text, cluster in zip(texts, clusters, strict=True):
        found = {(known[word], word) for word in _words(text) if word in known}
        forms[cluster].update(found)
        having[cluster].update({lexeme for lexeme, _ in found})
    chosen: list[list[str]] = [[] for _ in range(count)]
    taken = set[str]()
    for _, cluster, lexeme in _scores(having, Counter(clusters)):
        if len(chosen[cluster]) < _WORDS and lexeme not in taken:
            chosen[cluster].append(lexeme)
            taken.add(lexeme)
    return [tuple(_form(forms[number], lexeme) for lexeme in one) for number, one in enumerate(chosen)]


def _scores(having: Sequence[Counter[str]], sizes: Mapping[int, int]) -> list[tuple[float, int, str]]:
    """Returns lexemes with their clusters, those that distinguish a cluster best first.

    The score is as in class-based TF-IDF: the share of the cluster's texts that have the lexeme, times the logarithm of
    how much that exceeds its share of all texts. A text that repeats a word counts once.
    """
    everywhere, whole = sum(having, Counter[str]()), sum(sizes.values())
    scored = []
    for cluster, counts in enumerate(having):
        for lexeme, texts in counts.items():
            share = texts / sizes[cluster]
            excess = math.log(share / (everywhere[lexeme] / whole))
            if texts >= min(_TEXTS, sizes[cluster]) and excess > 0:
                scored.append((-share * excess, cluster, lexeme))
    return sorted(scored)


def _form(forms: Mapping[tuple[str, str], int], lexeme: str) -> str:
    """Returns the most frequent form of a lexeme, the shortest of several."""
    return min((-number, len(word), word) for (of, word), number in forms.items() if of == lexeme)[2]


def _words(text: str) -> Iterator[str]:
    return (found[0].lower() for found in _WORD.finditer(text))
