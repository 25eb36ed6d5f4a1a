"""Files of results to be judged: no grade is ever lost, and no half of a file is left."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_semantic import errors
from pg_semantic.evaluation import pool_file, private_csv

HEADER = "query,key,grade\n"
POOL = [("where, then?", "1"), ("=1", "2")]


def test_a_pool_without_grades_is_replaced_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "pool.csv"
    file.write_text(HEADER + "a,1,\n" + "b,2, \n")
    file.chmod(0o644)
    for pool in (POOL, [], POOL):
        pool_file.write(file, pool)
        with file.open(newline="") as opened:
            assert [(one["query"].removeprefix("'"), one["key"], one["grade"]) for one in csv.DictReader(opened)] == [
                (query, key, "") for query, key in pool
            ]
    assert file.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a,1,\nb,2,0\n",
        HEADER + "a,1,,2\n",
        "query,key\na,1\n",
        "key,query,grade\n1,a,\n",
        '{"query": "a", "relevant": {"1": 1}}\n',
        HEADER + '"a',
        "\0\udcff",
    ],
)
def test_a_file_with_grades_or_anything_else_is_not_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "judged.csv"
    file.write_text(text, errors="surrogateescape")
    before = file.read_bytes()
    with pytest.raises(errors.ConfigurationError, match="isn't a list of results without grades"):
        pool_file.write(file, POOL)
    assert file.read_bytes() == before
    with pytest.raises(errors.ConfigurationError, match="isn't a list of results without grades"):
        pool_file.require_replaceable(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str]]:
        yield ("half",)
        raise OSError(28, "No space left on device")

    file = tmp_path / "queries.csv"
    file.write_text("before")
    with pytest.raises(errors.ConfigurationError, match=r"Cannot write .*queries\.csv: No space left on device\."):
        private_csv.write(file, ("query",), rows())
    assert (file.read_text(), list(tmp_path.iterdir())) == ("before", [file])
