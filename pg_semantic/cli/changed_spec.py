"""What `generation begin` makes of its options: the changed parts of a spec."""

import dataclasses
from typing import Any

import typer

from pg_semantic.index.chunking import Chunking
from pg_semantic.index.spec import Compressed, Hnsw, IndexSpec, Lexical


def hnsw(now: IndexSpec, m: int | None, ef_construction: int | None) -> Hnsw:
    """Returns the parameters of the vector index."""
    return Hnsw(_given(m, now.hnsw.m), _given(ef_construction, now.hnsw.ef_construction))


def chunking(
    now: IndexSpec, max_tokens: int | None, overlap_tokens: int | None, *, chunked: bool | None
) -> Chunking | None:
    """Returns how texts are divided. Raises `typer.BadParameter` if the options don't fit together."""
    given = max_tokens is not None or overlap_tokens is not None
    if chunked is False and given:
        raise typer.BadParameter("--one-chunk cannot be combined with --max-tokens or --overlap-tokens.")
    if chunked is False or (now.chunking is None and not chunked and not given):
        return None
    before = now.chunking or Chunking()
    longest = before.max_tokens if max_tokens is None else max_tokens
    return Chunking(max_tokens=longest, overlap_tokens=_given(overlap_tokens, before.overlap_tokens))


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def storage(given: str | None) -> dict[str, Any]:
    """Returns how vectors are stored and indexed, as changes of a spec.

    Raises:
        typer.BadParameter: It is none of ``halfvec``, ``vector``, ``prefix=N`` and ``bits``.
    """
    match given and given.partition("="):
        case None:
            return {}
        case ("halfvec" | "vector") as kind, "", "":
            return {"storage": kind, "compressed": None}
        case "bits", "", "":
            return {"compressed": Compressed(bits=True)}
        case "prefix", "=", length if length.isdecimal():
            return {"compressed": Compressed(prefix=int(length))}
    raise typer.BadParameter(
        f"--storage {given} is unknown: use halfvec, vector, prefix=N (such as prefix=192) or bits."
    )


def lexical(now: IndexSpec, config: str | None) -> Lexical | None:
    """Returns how words are indexed; None for ``none``."""
    if config is None:
        return now.lexical
    return None if config == "none" else dataclasses.replace(now.lexical or Lexical(), config=config)


def partitions(now: IndexSpec, count: int | None, column: str | None) -> dict[str, Any]:
    """Returns the number of partitions and the column that decides them; None for ``none``, or without partitions."""
    number = _given(count, now.partitions)
    kept = now.partition_by if number > 1 else None
    return {"partitions": number, "partition_by": kept if column is None else None if column == "none" else column}
