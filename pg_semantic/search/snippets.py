"""The part of a passage that has the words of a query, and where in it they are: made in SQL, shown as text or HTML.

The words are marked in SQL with characters for private use, which are first taken out of the content. The server's
parser drops what looks like a tag of HTML, so ``<`` is another character on the way there and back.
"""

import html
import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pg_semantic import errors

_START, _STOP = "\ue000", "\ue001"
_LESS_THAN = "\x02"
_MARKED = f'StartSel="{_START}", StopSel="{_STOP}"'
_PIECES = f'{_MARKED}, MaxFragments=2, MinWords=15, MaxWords=35, ShortWord=2, FragmentDelimiter=" … "'
_WHOLE = f"{_MARKED}, HighlightAll=true"
_SHORT = 240  # characters; no longer than what is shown of a long content
_MOST_LEXEMES = 64
_IN_NO_TEXT = f"'{_LESS_THAN}'"  # a lexeme; a query of none makes the server write a notice
_TAG = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of text, and the words in it that were searched for.

    ``marks`` are the first character of each word and the one after its last, in order and apart.
    """

    text: str
    marks: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return self.text

    def html(self, tag: str = "mark") -> str:
        """The text as HTML, escaped, with an element around each word. Raises `errors.QueryError` for a wrong tag."""
        if not _TAG.fullmatch(tag):
            raise errors.QueryError(f"{tag!r} is not the name of an HTML element, as 'mark' is.")
        parts, end = [], 0
        for start, stop in self.marks:
            parts += [html.escape(self.text[end:start]), f"<{tag}>", html.escape(self.text[start:stop]), f"</{tag}>"]
            end = stop
        return "".join([*parts, html.escape(self.text[end:])])


def headline(
    config_expression: sa.ColumnElement[Any], content: sa.ColumnElement[str], query_text: sa.ColumnElement[str]
) -> sa.ColumnElement[str]:
    """The best one or two pieces of ``content`` for a query, for `parse` to read; without its words, the beginning.

    Content of at most 240 characters is shown whole. ``config_expression`` is a regconfig. Any one word of the query
    will do, of a long one the first 64 lexemes count, and any text is a query. It reads the whole content: select it
    for the rows that are shown, outside of the limit.
    """
    swapped = sa.func.translate(content, f"<{_LESS_THAN}{_START}{_STOP}", _LESS_THAN, type_=sa.Text)
    query = _any_lexeme(config_expression, query_text)
    options = sa.case((sa.func.char_length(swapped) <= _SHORT, _WHOLE), else_=_PIECES)
    return sa.func.ts_headline(config_expression, swapped, query, options, type_=sa.Text)


def parse(headline: str) -> Snippet:
    """The snippet that a `headline` says."""
    text, marks, start = "", [], None
    for part in re.split(f"([{_START}{_STOP}])", headline):
        if part == _START:
            start = len(text)
        elif part == _STOP:
            if start is not None and start < len(text):
                marks.append((start, len(text)))
            start = None
        else:
            text += part.replace(_LESS_THAN, "<")
    return Snippet(text, tuple(marks))


def _any_lexeme(config_expression: sa.ColumnElement[Any], query_text: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
    """The tsquery of a text in which any one lexeme is enough: its first ones, each in quotes."""
    words = sa.func.to_tsvector(config_expression, query_text, type_=postgresql.TSVECTOR)
    lexemes = sa.func.unnest(words).table_valued(
        sa.column("lexeme", sa.Text), sa.column("positions", sa.ARRAY(sa.SmallInteger))
    )
    first = sa.select(lexemes.c.lexeme).order_by(lexemes.c.positions[1]).limit(_MOST_LEXEMES).subquery()
    joined = sa.select(sa.func.string_agg(_in_quotes(first.c.lexeme), " | ")).scalar_subquery()
    return sa.cast(sa.func.coalesce(joined, _IN_NO_TEXT), postgresql.TSQUERY)


def _in_quotes(lexeme: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """A lexeme as a tsquery reads it, whatever a parser or dictionary put into it."""
    escaped = sa.func.replace(sa.func.replace(lexeme, "\\", "\\\\"), "'", "''")
    return sa.func.concat("'", escaped, "'", type_=sa.Text)
