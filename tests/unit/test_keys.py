import json

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import keys
from pg_semantic.spec import KeyColumn
from tests.unit.statement_text import binds, text

_TABLE = sa.table("part", sa.column("maker", sa.Uuid), sa.column("number", sa.Integer))
_MAKER, _NUMBER = _TABLE.c.maker, _TABLE.c.number


@given(st.text())
def test_a_key_of_one_column_is_its_text_even_if_it_looks_like_json(key: str) -> None:
    assert keys.split(key, 1) == [key]


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_a_key_of_several_columns_survives_the_round_trip(parts: list[str]) -> None:
    assert keys.split(json.dumps(parts), len(parts)) == parts


def test_a_key_of_one_column_is_written_as_that_column() -> None:
    assert text(keys.as_text([_NUMBER])) == "CAST(part.number AS TEXT)"


def test_a_key_of_several_columns_is_written_as_a_json_array() -> None:
    assert text(keys.as_text([_MAKER, _NUMBER])) == (
        "CAST(jsonb_build_array(CAST(part.maker AS TEXT), CAST(part.number AS TEXT)) AS TEXT)"
    )


def test_wanted_keys_travel_as_one_bind_a_column_however_many_they_are() -> None:
    written = ['["acme", "1"]', '["acme", "2"]', '["zeta", "1"]']
    statement = sa.select(keys.wanted(written, 2))
    assert text(statement) == (
        "SELECT anon_1.key, anon_1.part_0, anon_1.part_1 "
        "FROM unnest(%(param_1)s::TEXT[], %(param_2)s::TEXT[], %(param_3)s::TEXT[]) AS anon_1(key, part_0, part_1)"
    )
    assert list(binds(statement).values()) == [written, ["acme", "acme", "zeta"], ["1", "2", "1"]]


def test_no_wanted_key_makes_a_table_of_no_rows() -> None:
    assert list(binds(sa.select(keys.wanted([], 2))).values()) == [[], [], []]


def test_a_row_is_found_by_its_bare_columns_so_that_an_index_on_the_key_serves() -> None:
    found = keys.found(keys.wanted(['["acme", "1"]'], 2), [_MAKER, _NUMBER])
    assert text(found) == "part.maker = CAST(anon_1.part_0 AS UUID) AND part.number = CAST(anon_1.part_1 AS INTEGER)"


@pytest.mark.parametrize(
    ("type_name", "function"),
    [
        ("smallint", "int2send"),
        ("integer", "int4send"),
        ("bigint", "int8send"),
        ("uuid", "uuid_send"),
        ("text", "textsend"),
        ("varchar(20)", "varcharsend"),
        ("character varying(20)", "varcharsend"),
        ("char(3)", "bpcharsend"),
        ("character(3)", "bpcharsend"),
        ("bytea", "byteasend"),
        ("date", "date_send"),
        ("numeric", "numeric_send"),
        ("numeric(10, 2)", "numeric_send"),
        ("NUMERIC(10,2)", "numeric_send"),
        ("timestamp", "timestamp_send"),
        ("timestamp(3)", "timestamp_send"),
        ("timestamp without time zone", "timestamp_send"),
        ("timestamp(3) without time zone", "timestamp_send"),
        ("timestamp with time zone", "timestamptz_send"),
        ("timestamp(6) with time zone", "timestamptz_send"),
        ("TIMESTAMP(6) WITH TIME ZONE", "timestamptz_send"),
    ],
)
def test_a_key_of_every_type_travels_as_the_bytes_of_its_send_function(type_name: str, function: str) -> None:
    KeyColumn("number", type_name)  # the type is one that a key may have
    assert text(keys.wire(_NUMBER, type_name)) == f"{function}(CAST(part.number AS INTEGER))"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("INTEGER", "integer"),
        ("character varying(20)", "varchar(20)"),
        ("character(3)", "char(3)"),
        ("char", "character(1)"),
        ("numeric(10, 2)", "numeric(10,2)"),
        ("numeric(10)", "numeric(10, 0)"),
        ("timestamp", "timestamp without time zone"),
        ("timestamp(3)", "timestamp(3) without time zone"),
    ],
)
def test_a_type_is_one_however_it_is_written(one: str, other: str) -> None:
    assert keys.written_alike(one) == keys.written_alike(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("integer", "bigint"),
        ("varchar", "varchar(20)"),
        ("varchar", "text"),
        ("numeric", "numeric(10, 0)"),
        ("numeric(10, 2)", "numeric(10)"),
        ("timestamp", "timestamp with time zone"),
    ],
)
def test_types_that_differ_are_not_one(one: str, other: str) -> None:
    assert keys.written_alike(one) != keys.written_alike(other)
