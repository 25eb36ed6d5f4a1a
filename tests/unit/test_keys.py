import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from pg_semantic.index import keys
from pg_semantic.index.spec import KeyColumn
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
    assert text(keys.as_text([_NUMBER])) == 'CAST(part.number AS TEXT) COLLATE "C"'


def test_a_key_of_several_columns_is_written_as_a_json_array() -> None:
    assert text(keys.as_text([_MAKER, _NUMBER])) == (
        "CAST(jsonb_build_array(CAST(part.maker AS TEXT), CAST(part.number AS TEXT)) AS TEXT)"
    )


def test_wanted_keys_travel_as_one_bind_a_column_however_many_they_are() -> None:
    written = ['["acme", "1"]', '["acme", "2"]', '["zeta", "1"]']
    statement = sa.select(keys.key_table(written, 2))
    assert text(statement) == (
        "SELECT anon_1.key, anon_1.part_0, anon_1.part_1 "
        "FROM unnest(%(param_1)s::TEXT[], %(param_2)s::TEXT[], %(param_3)s::TEXT[]) AS anon_1(key, part_0, part_1)"
    )
    assert list(binds(statement).values()) == [written, ["acme", "acme", "zeta"], ["1", "2", "1"]]


def test_no_wanted_key_makes_a_table_of_no_rows() -> None:
    assert list(binds(sa.select(keys.key_table([], 2))).values()) == [[], [], []]


def test_a_row_is_found_by_its_bare_columns_so_that_an_index_on_the_key_serves() -> None:
    found = keys.matches_key_table(keys.key_table(['["acme", "1"]'], 2), [_MAKER, _NUMBER])
    assert text(found) == "part.maker = CAST(anon_1.part_0 AS UUID) AND part.number = CAST(anon_1.part_1 AS INTEGER)"


def test_a_key_of_any_type_travels_as_the_bytes_of_a_record() -> None:
    sent = "SUBSTRING(record_send(row(CAST(part.number AS INTEGER))) FROM %(substring_1)s::INTEGER)"
    assert text(keys.copy_binary(_NUMBER)) == sent


@pytest.mark.parametrize(
    ("column_type", "name"),
    [
        (sa.Enum("a", name="state"), "state"),
        (sa.Enum("a", name="State", schema="App"), '"App"."State"'),
        (sa.Enum("a", name="state", native_enum=False, length=9), "varchar(9)"),
        (sa.String(20, collation="NoCase"), 'varchar(20) COLLATE "NoCase"'),
        (postgresql.DOMAIN("Ref", sa.Text, create_type=False), '"Ref"'),
        (sa.ARRAY(sa.Text), "text[]"),
        (sa.Interval(second_precision=3), "interval(3)"),
        (sa.Double(), "double precision"),
        (postgresql.BIT(8), "bit(8)"),
        (sa.Time(timezone=True), "time with time zone"),
    ],
)
def test_the_name_of_a_type_is_that_of_postgres(column_type: sa.types.TypeEngine[Any], name: str) -> None:
    assert keys.type_name(column_type) == name
    assert KeyColumn("id", name).type == name


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
        ("state", "public.state"),
        ('"State"', 'app."State"'),
        ('"App"."State"', 'public."State"'),
        ("state", '"state"'),
        ('varchar(20) COLLATE "nocase"', "character varying(20) COLLATE public.nocase"),
        ("text[]", "TEXT[]"),
    ],
)
def test_a_type_is_one_however_it_is_written(one: str, other: str) -> None:
    assert keys.normalized_type(one) == keys.normalized_type(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("integer", "bigint"),
        ("varchar", "varchar(20)"),
        ("varchar", "text"),
        ("numeric", "numeric(10, 0)"),
        ("numeric(10, 2)", "numeric(10)"),
        ("timestamp", "timestamp with time zone"),
        ("state", '"State"'),
        ("char", '"char"'),
        ("text", "text[]"),
    ],
)
def test_types_that_differ_are_not_one(one: str, other: str) -> None:
    assert keys.normalized_type(one) != keys.normalized_type(other)
