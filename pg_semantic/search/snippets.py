"""Snippets: the part of a passage that has the words of a query, with those words marked. Made in SQL.

The SQL marks words with private-use characters, which it first removes from the content. The server's text search
parser drops anything that looks like an HTML tag, so ``<`` is replaced before and restored after.
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
_SHORT = 240  # characters; no longer than the fragments of longer content
_MOST_LEXEMES = 64
_IN_NO_TEXT = f"'{_LESS_THAN}'"  # a lexeme that no text has; an empty query would make the server send a notice
_TAG = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Snippet:
    """The part of a passage that has the words of the query. ``str(snippet)`` is its text.

    Attributes:
        text: The text, without markup.
        marks: The words of the query in the text, as ``(start, stop)`` character offsets, in order and without overlap.
    """

    text: str
    marks: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return self.text

    def html(self, tag: str = "mark") -> str:
        """Returns the text as escaped HTML, with an element around each word of the query.

        Args:
            tag: The name of that element, in lower case.

        Raises:
            errors.QueryError: ``tag`` is not the name of an HTML element.
        """
        if not _TAG.fullmatch(tag):
            raise errors.QueryError(f"{tag!r} is not the name of an HTML element, such as 'mark'.")
        parts, end = [], 0
        for start, stop in self.marks:
            parts += [html.escape(self.text[end:start]), f"<{tag}>", html.escape(self.text[start:stop]), f"</{tag}>"]
            end = stop
        return "".join([*parts, html.escape(self.text[end:])])


def fragments(
    config_expression: sa.ColumnElement[Any], content: sa.ColumnElement[str], query_text: sa.ColumnElement[str]
) -> sa.ColumnElement[str]:
    """Returns SQL for the best one or two fragments of ``content`` for a query, to be read by `parse`.

    Content of up to 240 characters is returned whole; if no word of the query matches, longer content is returned from
    its beginning. The SQL reads the whole content, so select it outside the limit, for the rows that are shown.

    Args:
        config_expression: The text search configuration, a regconfig.
        content: The text to take fragments from.
        query_text: Any text. Each of its words can match; only the first 64 lexemes count.
    """
    swapped = sa.func.translate(content, f"<{_LESS_THAN}{_START}{_STOP}", _LESS_THAN, type_=sa.Text)
    query = _any_lexeme(config_expression, query_text)
    options = sa.case((sa.func.char_length(swapped) <= _SHORT, _WHOLE), else_=_PIECES)
    return sa.func.ts_headline(config_expression, swapped, query, options, type_=sa.Text)


def parse(fragments: str) -> Snippet:
    """Returns the snippet in the value of `fragments`."""
    text, marks, start = "", [], None
    for part in re.split(f"([{_START}{_STOP}])", fragments):
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
    """A tsquery that matches any of the first lexemes of a text, each of them quoted."""
    words = sa.func.to_tsvector(config_expression, query_text, type_=postgresql.TSVECTOR)
    lexemes = sa.func.unnest(words).table_valued(
        sa.column("lexeme", sa.Text), sa.column("positions", sa.ARRAY(sa.SmallInteger))
    )
    first = sa.select(lexemes.c.lexeme).order_by(lexemes.c.positions[1]).limit(_MOST_LEXEMES).subquery()
    joined = sa.select(sa.func.string_agg(_in_quotes(first.c.lexeme), " | ")).scalar_subquery()
    return sa.cast(sa.func.coalesce(joined, _IN_NO_TEXT), postgresql.TSQUERY)


def _in_quotes(lexeme: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Quotes a lexeme for a tsquery, whatever a parser or dictionary put into it."""
    escaped = sa.func.replace(sa.func.replace(lexeme, "\\", "\\\\"), "'", "''")
    return sa.func.concat("'", escaped, "'", type_=sa.Text)
