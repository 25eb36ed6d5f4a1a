"""Text and tables in Markdown, for the generated parts of the pages in docs/reference."""

import re
from collections.abc import Sequence

_CODE = re.compile(
    r"PG_SEMANTIC_[A-Z_]+|\$PG_SEMANTIC_[A-Z_]+|\{\".*\}|\w+://[^\s,;:]+|embedded:PATH|hashed:N|(?<![\w-])--[a-z][a-z-]+"
    r"|(?<![\w.])_?[a-z]+(?:_[a-z]+)+(?:\.\w+)?\b|(?<!\w)_estimate\b|\bsemantic\.\w+\b"
)


def code(text: object) -> str:
    """Returns a value as inline code, or nothing for an empty value."""
    return f"`{text}`" if str(text) else ""


def prose(text: str) -> str:
    """Returns plain text as Markdown, with settings, options, URLs and JSON as inline code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    shown = [part if part.startswith("`") else _CODE.sub(lambda found: f"`{found[0]}`", part) for part in parts]
    return "".join(part if part.startswith("`") else part.replace("<", r"\<").replace("*", r"\*") for part in shown)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a Markdown table; a bar in a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
