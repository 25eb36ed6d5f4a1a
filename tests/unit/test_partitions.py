"""The statements that create partitions, and the names of their indexes."""

import dataclasses

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, ExecutableDDLElement

from pg_semantic.index import chunk_tables, ddl, partitions
from pg_semantic.index.spec import EncoderSpec, IndexSpec, KeyColumn


def declared(count: int, schema: str | None = None) -> IndexSpec:
    return IndexSpec(
        name="part_semantic",
        table="part",
        schema=schema,
        key=(KeyColumn("Maker", "text"), KeyColumn("number", "integer")),
        columns=("label",),
        encoder=EncoderSpec("hashed:3", 3),
        lexical=None,
        partitions=count,
    )


def text(statement: ExecutableDDLElement) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return " ".join(str(statement.compile(dialect=dialect)).split())


@pytest.mark.parametrize(("schema", "prefix"), [(None, ""), ("shop", "shop.")])
def test_a_chunk_table_is_created_with_its_partitions(schema: str | None, prefix: str) -> None:
    made = [text(statement) for statement in ddl.create(declared(3, schema))]
    [table] = [one for one in made if one.startswith(f"CREATE TABLE {prefix}part_semantic (")]
    assert table.endswith('PARTITION BY HASH ("Maker", number)')
    expected = [
        f"CREATE TABLE {prefix}part_semantic_p{number} PARTITION OF {prefix}part_semantic "
        f"FOR VALUES WITH (MODULUS 3, REMAINDER {number})"
        for number in range(3)
    ]
    assert [one for one in made if "PARTITION OF" in one] == expected
    assert made.index(table) < made.index(expected[0])


def test_a_part_of_the_key_can_decide_the_partition() -> None:
    made = [text(statement) for statement in ddl.create(dataclasses.replace(declared(3), partition_by="Maker"))]
    assert [one for one in made if one.endswith('PARTITION BY HASH ("Maker")')]


def test_one_partition_is_none() -> None:
    assert not [one for one in ddl.create(declared(1)) if "PARTITION" in text(one)]
    assert not partitions.is_partitioned(chunk_tables.build(declared(1)).chunks)


def test_the_index_of_a_partition_is_like_that_of_the_table() -> None:
    index = chunk_tables.build(declared(3, "shop")).vector_index
    whole, part = partitions.CreateIndexOnOnly(index), CreateIndex(partitions.index_on("part_semantic_p2", index))
    tail = "USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 64)"
    name = "part_semantic_vector_idx"
    assert text(whole) == f"CREATE INDEX IF NOT EXISTS {name} ON ONLY shop.part_semantic {tail}"
    name = "part_semantic_p2_vector_idx"
    assert text(part) == f"CREATE INDEX CONCURRENTLY {name} ON shop.part_semantic_p2 {tail}"


def test_an_index_is_used_if_one_of_its_parts_is() -> None:
    index = chunk_tables.build(declared(3)).vector_index
    assert partitions.is_used(index, {"part_semantic_vector_idx"})
    assert partitions.is_used(index, {"part_semantic_p12_vector_idx", "other"})
    for other in ("part_semantic_pkey", "part_semantic_p1_content_hash_idx", "part_semantic__next_p1_vector_idx"):
        assert not partitions.is_used(index, {other})


def test_an_index_of_another_kind_keeps_its_own_columns_and_options() -> None:
    table = sa.Table("note", sa.MetaData(), sa.Column("words", sa.Text))
    made = sa.Index("note_words_idx", table.c.words, postgresql_using="gin", postgresql_with={"fastupdate": "off"})
    copied = CreateIndex(partitions.index_on("note_p0", made))
    expected = "CREATE INDEX CONCURRENTLY note_p0_words_idx ON note_p0 USING gin (words) WITH (fastupdate = off)"
    assert text(copied) == expected


def test_an_index_on_an_expression_keeps_it() -> None:
    table = sa.Table("note", sa.MetaData(), sa.Column("words", sa.Text))
    lower = sa.func.lower(table.c.words).label("lowered")
    made = sa.Index("note_words_idx", lower, postgresql_ops={"lowered": "text_pattern_ops"})
    copied = CreateIndex(partitions.index_on("note_p0", made))
    expected = "CREATE INDEX CONCURRENTLY note_p0_words_idx ON note_p0 (lower(words) text_pattern_ops)"
    assert text(copied) == expected
