import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_semantic import errors
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import CHUNK_COLUMNS, Compressed, EncoderSpec, Hnsw, IndexSpec, KeyColumn, Lexical

LONGEST_NAME = "n" * 39

_words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=11)  # 11 characters are at most 44 bytes
_key_types = st.sampled_from(
    ["integer", "bigint", "uuid", "text", "varchar(20)", "numeric(10, 2)", "date", "timestamp(3) with time zone"]
)
_keys = st.builds(KeyColumn, name=_words.filter(lambda name: name not in CHUNK_COLUMNS), type=_key_types)
_hnsw = st.integers(2, 100).flatmap(
    lambda m: st.builds(Hnsw, m=st.just(m), ef_construction=st.integers(max(4, 2 * m), 1000))
)
_chunking = st.builds(
    Chunking, max_tokens=st.none() | st.integers(8, 512), overlap_tokens=st.integers(min_value=0, max_value=7)
)
_specs = st.builds(
    IndexSpec,
    name=_words.map(lambda words: "x" + words[:7]),  # at most 29 bytes
    table=_words.map("y".__add__),
    schema=st.none() | _words,
    key=st.lists(_keys, min_size=1, max_size=3).map(tuple),
    columns=st.lists(_words, min_size=1, max_size=3, unique=True).map(tuple),
    encoder=st.builds(EncoderSpec, reference=_words, dimensions=st.integers(1, 2000)),
    chunking=st.none() | _chunking,
    storage=st.sampled_from(["halfvec", "vector"]),
    compressed=st.none() | st.builds(Compressed, bits=st.just(True)),
    hnsw=_hnsw,
    partitions=st.integers(1, 256),
)


def declare(**changes: Any) -> IndexSpec:
    plain: dict[str, Any] = {
        "name": "article_semantic",
        "table": "article",
        "key": (KeyColumn("id", "integer"),),
        "columns": ("body",),
        "encoder": EncoderSpec("hashed:64", 64),
    }
    return IndexSpec(**(plain | changes))


@given(_specs)
def test_a_spec_survives_the_round_trip_through_json(spec: IndexSpec) -> None:
    assert IndexSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_spec_of_an_index_that_is_older_than_bm25_has_no_words() -> None:
    before = declare().to_json()
    del before["lexical"]
    assert IndexSpec.from_json(before).lexical is None


def test_a_spec_of_a_prefix_survives_json_and_an_older_spec_has_none() -> None:
    compressed = declare(compressed=Compressed(prefix=16))
    assert IndexSpec.from_json(json.loads(json.dumps(compressed.to_json()))) == compressed
    assert (compressed.prefix, declare(compressed=Compressed(bits=True)).prefix, declare().prefix) == (16, None, None)
    before = declare().to_json()
    del before["compressed"]
    assert IndexSpec.from_json(before) == declare()


def test_a_compressed_index_may_have_more_dimensions_than_an_index_on_vectors() -> None:
    wide = EncoderSpec("wide", 16_000)
    for compressed in (Compressed(prefix=4000), Compressed(bits=True)):
        assert declare(encoder=wide, compressed=compressed).storage == "halfvec"
    with pytest.raises(errors.DeclarationError, match="halfvec supports 1 to 4000 dimensions"):
        declare(encoder=wide)


@pytest.mark.parametrize(
    ("declaration", "advice"),
    [
        (Compressed, r"pass either prefix=\.\.\., such as 192, or bits=True"),
        (lambda: Compressed(prefix=8, bits=True), "pass either"),
        (lambda: Compressed(prefix=0), "use 1 to 4000"),
        (lambda: Compressed(prefix=4001), "use 1 to 4000"),
        (lambda: declare(compressed=Compressed(prefix=64)), r"use a shorter prefix, or storage='halfvec'"),
        (lambda: declare(storage=Compressed(prefix=8)), "wrong type"),
    ],
)
def test_a_compressed_index_that_cannot_be_is_refused(declaration: Callable[[], object], advice: str) -> None:
    with pytest.raises(errors.DeclarationError, match=advice):
        declaration()


def test_a_recall_objective_may_be_missing_and_is_a_share() -> None:
    before = declare().to_json()
    del before["recall_objective"]
    assert IndexSpec.from_json(before).recall_objective is None
    assert IndexSpec.from_json(declare(recall_objective=0.95).to_json()).recall_objective == 0.95
    for objective in (0, 1, 1.5, -0.1, float("nan")):
        with pytest.raises(errors.DeclarationError, match="must be a number between 0 and 1"):
            declare(recall_objective=objective)


def test_a_spec_that_is_older_than_partitions_has_one() -> None:
    before = declare().to_json()
    del before["partitions"], before["partition_by"]
    assert IndexSpec.from_json(before) == declare(partitions=1)


def test_a_name_leaves_room_for_the_indexes_of_partitions() -> None:
    declare(partitions=256, name="n" * 31)
    declare(partitions=2, name="n" * 23, policy_column="c" * 20)
    for name, column in (("n" * 32, None), ("n" * 24, "c" * 20)):
        with pytest.raises(errors.DeclarationError, match="pass a shorter name"):
            declare(partitions=2, name=name, policy_column=column)
        declare(name=name, policy_column=column)


@pytest.mark.parametrize(
    ("declaration", "advice"),
    [
        (lambda: KeyColumn("content", "integer"), "rename it in the source table"),
        (lambda: KeyColumn("id", "regclass"), "Use another type, such as bigint, uuid or text"),
        (lambda: KeyColumn("id", "money"), "Use another type, such as bigint, uuid or text"),
        (lambda: KeyColumn("id", "integer; DROP TABLE article"), "Use another type, such as bigint, uuid or text"),
        (lambda: KeyColumn("id", "integer NOT NULL"), "Use another type, such as bigint, uuid or text"),
        (lambda: KeyColumn("id", 'app."un"ended"'), "Use another type, such as bigint, uuid or text"),
        (lambda: EncoderSpec.resolve("nobody/nothing", None), "pass dimensions=..."),
        (lambda: Hnsw(m=1), "use 2 to 100"),
        (lambda: Hnsw(m=101), "use 2 to 100"),
        (lambda: Hnsw(m=2, ef_construction=3), "use 4 to 1000"),
        (lambda: Hnsw(m=16, ef_construction=31), "use 32 to 1000 (at least 2 * m)"),
        (lambda: Hnsw(ef_construction=1001), "use 32 to 1000"),
        (lambda: declare(key=()), "has no primary key, and a semantic index needs one"),
        (lambda: declare(columns=()), "name at least one"),
        (lambda: declare(name=""), "pass another name=..., or omit it"),
        (lambda: declare(name=LONGEST_NAME + "n"), "pass a shorter name=..."),
        (lambda: declare(name="é" * 24), "pass a shorter name=..."),
        (
            lambda: declare(encoder=EncoderSpec("wide", 4001)),
            "halfvec supports 1 to 4000 dimensions, but 'wide' has 4001",
        ),
        (lambda: declare(encoder=EncoderSpec("wide", 2001), storage="vector"), "vector supports 1 to 2000 dimensions"),
        (lambda: declare(encoder=EncoderSpec("hashed:0", 0)), "supports 1 to 4000 dimensions"),
        (lambda: declare(partitions=0), "must be a number from 1 to 256"),
        (lambda: declare(partitions=257), "choose as few as memory allows"),
        (lambda: declare(partitions=4, partition_by="body"), "must be a column of the primary key of 'article'"),
        (lambda: declare(partition_by="id"), "needs partitions=... with their number"),
    ],
)
def test_a_declaration_that_can_not_be_is_refused_with_what_to_do(
    declaration: Callable[[], object], advice: str
) -> None:
    with pytest.raises(errors.DeclarationError) as refusal:
        declaration()
    assert advice in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "arguments", "advice"),
    [
        (declare, {"lexical": "simple"}, "lexical='simple' has the wrong type: pass Lexical or None"),
        (declare, {"lexical": False}, "pass Lexical or None"),
        (declare, {"lexical": Lexical}, "pass Lexical or None"),
        (declare, {"lexical": {"config": "simple"}}, "pass Lexical or None"),
        (declare, {"chunking": 256}, "chunking=256 has the wrong type: pass Chunking or None"),
        (declare, {"hnsw": None}, "hnsw=None has the wrong type: pass Hnsw"),
        (declare, {"storage": ["halfvec"]}, "pass halfvec or vector"),
        (declare, {"columns": ["title", "body"]}, "pass a tuple of str"),
        (declare, {"columns": ("title", 5)}, "pass a tuple of str"),
        (declare, {"name": 5}, "name=5 has the wrong type: pass str"),
        (declare, {"recall_objective": "0.9"}, "pass float or None"),
        (declare, {"recall_objective": True}, "pass float or None"),
        (declare, {"partitions": True}, "pass int"),
        (declare, {"partitions": "8"}, "pass int"),
        (EncoderSpec, {"reference": "hashed:64", "dimensions": True}, "dimensions=True has the wrong type: pass int"),
        (EncoderSpec, {"reference": "hashed:64", "dimensions": 64.0}, "dimensions=64.0 has the wrong type: pass int"),
        (EncoderSpec, {"reference": None, "dimensions": 64}, "reference=None has the wrong type: pass str"),
        (EncoderSpec.resolve, {"reference": None, "dimensions": None}, "isn't in the built-in catalog"),
        (EncoderSpec, {"reference": "x", "dimensions": 8, "query_prompt": 5}, "query_prompt=5 has the wrong type"),
        (Hnsw, {"m": "16"}, "m='16' has the wrong type: pass int"),
        (Lexical, {"config": None}, "config=None has the wrong type: pass str"),
        (Lexical, {"k1": "1"}, "k1='1' has the wrong type: pass float"),
        (Chunking, {"max_tokens": 8.5}, "max_tokens=8.5 has the wrong type: pass int or None"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_where_it_is_declared(
    kind: Callable[..., object], arguments: dict[str, Any], advice: str
) -> None:
    with pytest.raises(errors.DeclarationError) as refusal:
        kind(**arguments)
    assert advice in str(refusal.value)


def test_an_unknown_storage_is_refused_with_what_to_do() -> None:
    with pytest.raises(errors.DeclarationError, match="halfvec"):
        declare(storage="float8")


def test_every_derived_name_of_the_longest_name_fits_in_an_identifier() -> None:
    spec = declare(name=LONGEST_NAME)
    triggers = [f"{spec.capture_name}_{event}" for event in ("insert", "update", "delete", "truncate")]
    previous = chunk_tables.build(spec, role="previous")
    indexes = [*previous.chunks.indexes, *previous.receipts.indexes]
    derived = [*triggers, previous.receipts.name, *(str(index.name) for index in indexes)]
    assert max(len(name) for name in derived) == 63


@pytest.mark.parametrize("name", CHUNK_COLUMNS)
def test_a_key_column_can_not_have_the_name_of_a_chunk_column(name: str) -> None:
    with pytest.raises(errors.DeclarationError, match=name):
        KeyColumn(name, "integer")


def test_a_key_column_can_not_have_the_name_of_a_chunks_relationship() -> None:
    with pytest.raises(errors.DeclarationError, match="rename it"):
        KeyColumn("source", "integer")


def test_dimensions_that_are_given_win_over_the_catalog() -> None:
    assert EncoderSpec.resolve("hashed:64", 32).dimensions == 32
    assert EncoderSpec.resolve("hashed:64", None).dimensions == 64
