"""How commands print: tables and sentences for a person, JSON for a script.

No word is ever broken, nor a command that is to be typed. A table that is wider than the terminal, or than 80 columns
where there is none (or ``COLUMNS`` says otherwise), becomes one block of lines per record.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

console = Console(highlight=False, emoji=False)  # `:a:` in a key or a message is no picture

# A word, or what is typed as it stands: in backticks, or a command of ours to the end of its sentence.
_WORD = re.compile(r"(?:`[^`]*`|\bpg-semantic [^;`]*|\S)+")
_PROSE_WIDTH = 40  # columns that a last column of sentences is at least wide
_UNBOUNDED = 100_000


def say(text: str, *, to: Console | None = None) -> None:
    """Prints sentences for a person; square brackets are markup.

    On a terminal lines end between words, and never within a command; elsewhere they are not wrapped at all.
    """
    target = to or console
    styled = Text.from_markup(text, emoji=False)
    for line in _wrapped(styled, target.width) if target.is_terminal else [styled]:
        target.print(line, soft_wrap=True)


def verbatim(text: str) -> None:
    """Prints what is to be copied as it stands, on one line."""
    console.print(Text(text), soft_wrap=True)


def record(fields: Iterable[tuple[str, object]], *, indent: int = 0) -> None:
    """Prints names and values, one below the other; long values go on below themselves."""
    cells = [(name, _cell(value)) for name, value in fields]
    label = max((cell_len(name) for name, _ in cells), default=0)
    for name, cell in cells:
        lines = list(_wrapped(Text(cell), max(console.width - indent - label - 2, _PROSE_WIDTH))) or [Text()]
        for number, line in enumerate(lines):
            margin = Text(" " * indent + (name if number == 0 else "").ljust(label), style="bold")
            console.print(Text.assemble(margin, "  ", line), soft_wrap=True)


def escaped(text: object) -> str:
    """Text for `say` whose square brackets are brackets."""
    return escape(str(text))


def one_line(text: str, *, width: int) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def as_json(value: "DataclassInstance | dict[str, Any] | Sequence[Any]") -> None:
    """JSON on standard output; dataclasses become objects."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")  # one write: workers share the pipe
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Prints a table, or a record per row where that is too wide; cells are plain text, numbers stand to the right."""
    rows = [list(row) for row in rows]
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    if not rows:
        console.print("(no rows)")
        return
    grid = _grid(columns, rows)
    if grid is not None:
        console.print(grid)
        return
    for number, row in enumerate(rows):
        if number:
            console.print()
        record(zip(columns, row, strict=True))


def _grid(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table | None:
    """The rows as a table in which only sentences of the last column are wrapped; None where that is too wide."""
    last = len(columns) - 1
    prose = any(" " in _cell(row[last]) for row in rows)
    words = [cell_len(word) for row in rows for word in _cell(row[last]).split()]
    grid = Table(header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in rows)
        wraps = prose and number == last
        least = max(words, default=0) if wraps else None
        grid.add_column(name, justify="right" if numeric else "left", no_wrap=not wraps, min_width=least)
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row))
    unbounded = console.options.update(max_width=_UNBOUNDED)
    natural = console.measure(grid, options=unbounded).maximum
    if prose:
        widest = max(cell_len(_cell(row[last])) for row in rows)
        natural -= max(0, widest - max(_PROSE_WIDTH, *words, cell_len(columns[last])))
    return grid if natural <= console.width else None


def _wrapped(text: Text, width: int) -> Iterator[Text]:
    """The lines of a text, ended between words."""
    for line in text.split("\n", allow_blank=True):
        offsets = [0]
        for word in _WORD.finditer(line.plain):
            if word.start() > offsets[-1] and cell_len(line.plain[offsets[-1] : word.end()]) > width:
                offsets.append(word.start())
        for part in line.divide(offsets[1:]):
            part.rstrip()
            yield part


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
