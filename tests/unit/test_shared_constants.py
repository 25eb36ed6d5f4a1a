"""Numbers that Python and the SQL functions of a plain SQL search share: both searches must rank alike."""

import re

import pytest

from pg_semantic.database import revisions
from pg_semantic.index import chunk_tables
from pg_semantic.recall import objective
from pg_semantic.search import fusion, scan_settings

FUNCTIONS = revisions.folder() / "versions" / "0001_baseline" / "functions"


def numbers(file: str, pattern: str) -> set[int]:
    """The numbers that a pattern finds in a function."""
    return {int(found) for found in re.findall(pattern, (FUNCTIONS / file).read_text("utf-8"))}


@pytest.mark.parametrize(
    ("file", "pattern", "expected"),
    [
        ("search/hybrid_sql_v1.sql", r"CAST\((\d+) AS double precision\)", {int(fusion.Rrf().k)}),
        ("search/hybrid_sql_v1.sql", r"(\d+) \* \(1 <<", {fusion._DEPTH}),
        ("search/search_sql_v1.sql", r"depth := (\d+);", {fusion._DEPTH}),
        ("search/search_template_values_v1.sql", r"depth \* (\d+)", {scan_settings._EF_SEARCH_FACTOR}),
        (
            "search/search_template_values_v1.sql",
            r"coalesce\(chosen, (\d+)\)",
            {objective.DEFAULT_EF_SEARCH},
        ),
        (
            "search/search_template_values_v1.sql",
            r"coalesce\(chosen, \d+\)\), (\d+)\)",
            {objective.MAX_EF_SEARCH},
        ),
        ("search/create_search_function_v1.sql", r"max_scan_tuples = (\d+)", {scan_settings._MAX_SCAN_TUPLES}),
        ("search/create_search_function_v1.sql", r"scan_mem_multiplier = (\d+)", {scan_settings._SCAN_MEM_MULTIPLIER}),
        ("bm25/lexeme_position_v1.sql", r"% (\d+) \+ 1", {chunk_tables.PLACES}),
        ("bm25/bm25_document_weights_v1.sql", r"/(\d+)'", {chunk_tables.PLACES}),
    ],
)
def test_a_number_is_the_same_in_python_and_in_sql(file: str, pattern: str, expected: set[int]) -> None:
    assert numbers(file, pattern) == expected
