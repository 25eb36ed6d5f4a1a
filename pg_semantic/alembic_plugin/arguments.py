"""Converts the spec of a semantic index to the arguments of an operation, which are literals, and back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import Compressed, EncoderSpec, Hnsw, IndexSpec, KeyColumn, Lexical, Storage

_NAMELESS: dict[str, Any] = {
    "key": {"id": "integer"},
    "encoder": "hashed:1",
    "dimensions": 1,
    "chunking": None,
    "storage": "halfvec",
    "hnsw": {},
    "lexical": None,
}
_MAY_BE_LEFT_OUT = {
    "query_prompt": None,
    "document_prompt": None,
    "policy_column": None,
    "recall_objective": None,
    "partitions": 1,
    "partition_by": None,
    "compressed": None,
}


def of(spec: IndexSpec) -> dict[str, Any]:
    """Returns the arguments that describe a spec, except its name, table and schema."""
    return {
        "columns": list(spec.columns),
        "key": {column.name: column.type for column in spec.key},
        "encoder": spec.encoder.reference,
        "dimensions": spec.encoder.dimensions,
        "query_prompt": spec.encoder.query_prompt,
        "document_prompt": spec.encoder.document_prompt,
        "chunking": dataclasses.asdict(spec.chunking) if spec.chunking else None,
        "storage": spec.storage,
        "compressed": dataclasses.asdict(spec.compressed) if spec.compressed else None,
        "hnsw": dataclasses.asdict(spec.hnsw),
        "lexical": dataclasses.asdict(spec.lexical) if spec.lexical else None,
        "policy_column": spec.policy_column,
        "recall_objective": spec.recall_objective,
        "partitions": spec.partitions,
        "partition_by": spec.partition_by,
    }


def written(spec: IndexSpec) -> dict[str, Any]:
    """Returns the arguments that a migration writes out: what may be left out only if it is declared."""
    return {
        name: value
        for name, value in of(spec).items()
        if name not in _MAY_BE_LEFT_OUT or value != _MAY_BE_LEFT_OUT[name]
    }


def changed(target: IndexSpec, was: IndexSpec) -> dict[str, Any]:
    """Returns the arguments of ``was`` that differ from those of ``target``."""
    now = of(target)
    return {name: value for name, value in of(was).items() if value != now[name]}


def spec(  # noqa: PLR0913 - what can be declared
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    key: Mapping[str, str],
    encoder: str,
    dimensions: int,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    chunking: Mapping[str, Any] | None,
    storage: str,
    hnsw: Mapping[str, int],
    lexical: Mapping[str, Any] | None,
    policy_column: str | None = None,
    recall_objective: float | None = None,
    partitions: int = 1,
    partition_by: str | None = None,
    compressed: Mapping[str, Any] | None = None,
    schema: str | None = None,
) -> IndexSpec:
    """Returns the spec that these arguments describe."""
    return IndexSpec(
        name=name,
        table=table,
        schema=schema,
        key=tuple(KeyColumn(column, type_name) for column, type_name in key.items()),
        columns=tuple(columns),
        encoder=EncoderSpec(encoder, dimensions, query_prompt, document_prompt),
        chunking=None if chunking is None else Chunking(**chunking),
        storage=cast("Storage", storage),
        compressed=None if compressed is None else Compressed(**compressed),
        hnsw=Hnsw(**hnsw),
        lexical=None if lexical is None else Lexical(**lexical),
        policy_column=policy_column,
        recall_objective=recall_objective,
        partitions=partitions,
        partition_by=partition_by,
    )


def changed_back(target: IndexSpec, was: Mapping[str, Any]) -> IndexSpec:
    """Returns the old spec.

    Args:
        target: The new spec.
        was: What `changed` returned: the old value of each argument that changed.
    """
    merged = of(target) | dict(was)
    return spec(target.name, target.table, merged.pop("columns"), schema=target.schema, **merged)


def nameplate(name: str, table: str, schema: str | None, *, recall_objective: float | None = None) -> IndexSpec:
    """Returns a spec with these names, and placeholders for the rest. A drop needs only the names."""
    return spec(name, table, ["nothing"], schema=schema, recall_objective=recall_objective, **_NAMELESS)
