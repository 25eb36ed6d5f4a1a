"""What commands print at any width: whole words, whole commands, and a record per row where a table is too wide."""

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pg_semantic.cli import output

WORDS = st.text("abcxyz0189._-/:本é", min_size=1, max_size=45)
CELLS = st.one_of(st.integers(0, 10**12), st.none(), st.lists(WORDS, max_size=12).map(" ".join))
TABLES = st.integers(1, 9).flatmap(
    lambda size: st.tuples(
        st.lists(st.text("abcdef ", min_size=1, max_size=9).map(str.strip).filter(bool), min_size=size, max_size=size),
        st.lists(st.lists(CELLS, min_size=size, max_size=size), min_size=1, max_size=3),
    )
)
COMMAND = "pg-semantic generation status shop.article_with_a_long_name_semantic"
SENTENCE = f"It is begun. A running worker fills it; see with `{COMMAND}` how far it is, and then go on."


def printed(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "console", Console(file=io.StringIO(), width=width, highlight=False))
        output.table(columns, rows)
        assert isinstance(output.console.file, io.StringIO)
        return output.console.file.getvalue().splitlines()


def test_one_of_a_thing_is_not_called_several() -> None:
    assert [output.counted(count, "row") for count in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [output.counted(count, "query", plural="queries") for count in (1, 2)] == ["1 query", "2 queries"]


def said(text: str, *, width: int, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False, color_system=None)
    output.say(text, to=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@given(TABLES, st.integers(40, 240))
def test_a_table_breaks_no_word_and_fits_unless_a_word_does_not(
    table: tuple[list[str], list[list[object]]], width: int
) -> None:
    columns, rows = table
    lines = printed(columns, rows, width)
    words = {word for line in lines for word in re.split(r"[\s┏━┳┓┃┡╇┩│└─┴┘]+", line)}
    assert {word for row in rows for cell in row if isinstance(cell, str) for word in cell.split()} <= words
    longest = max((cell_len(word) for word in words), default=0)
    assert all(cell_len(line) <= max(width, 12 + longest, 60) for line in lines)


def test_a_table_that_is_too_wide_is_a_record_per_row() -> None:
    columns = ["index", "encoder", "rows"]
    rows: list[list[object]] = [["shop." + "n" * 50, "e" * 40, 3], ["b", "c", None]]
    assert printed(columns, rows, 80) == [
        f"index    shop.{'n' * 50}", f"encoder  {'e' * 40}", "rows     3", "", "index    b", "encoder  c", "rows     -",
    ]  # fmt: skip
    assert len(printed(columns, rows, 120)) == 6


def test_sentences_of_the_last_column_are_wrapped_where_there_is_room_for_them() -> None:
    lines = printed(["id", "passage"], [[1, "word " * 40]], 80)
    assert lines[0].startswith("┏")
    assert all(cell_len(line) <= 80 for line in lines)


def test_no_rows_are_said_to_be_none() -> None:
    assert printed(["index"], [], 80) == ["(no rows)"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_command_in_a_sentence_stays_whole_on_a_terminal(width: int) -> None:
    lines = said(SENTENCE, width=width, terminal=True)
    assert any(f"`{COMMAND}`" in line for line in lines)
    assert " ".join(line.strip() for line in lines) == SENTENCE
    assert all(len(line) <= width or f"`{COMMAND}`" in line for line in lines)


def test_a_sentence_that_is_piped_is_one_line() -> None:
    assert said(SENTENCE, width=80, terminal=False) == [SENTENCE]


@given(st.lists(WORDS, min_size=1, max_size=40).map(" ".join), st.integers(20, 120))
@example(":a: [b] :smile:", 80)
def test_a_sentence_breaks_no_word(sentence: str, width: int) -> None:
    lines = said(output.escaped(sentence), width=width, terminal=True)
    assert " ".join(line.strip() for line in lines) == sentence
