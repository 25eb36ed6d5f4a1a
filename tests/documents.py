"""Reads the project's documents: their code blocks, links and tables."""

from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [t.content for t in MarkdownIt().parse(document.read_text()) if t.type == "fence" and t.info == language]


def commands(document: Path) -> list[str]:
    """Every line of a shell block that runs our command, without its comment."""
    lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.startswith("pg-semantic ")]


def links(document: Path) -> Iterator[str]:
    """Targets of links within the project."""
    for token in _walk(MarkdownIt().parse(document.read_text())):
        target = token.attrs.get("href")
        if isinstance(target, str) and "://" not in target:
            yield target.partition("#")[0]


def rows(document: Path) -> list[list[str]]:
    """Cells of every table row, headings too."""
    lines = [line for line in document.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _walk(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or [])
