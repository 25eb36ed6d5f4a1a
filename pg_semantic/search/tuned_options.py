"""The options that `pg-semantic tune --save` keeps in the database, for applications to search with."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import orm

from pg_semantic import database, sql
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.registry import Generation
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import generation_tracker
from pg_semantic.search.fusion import Convex, Fusion, Rrf
from pg_semantic.search.request import Options
from pg_semantic.search.rerank_and_diversify import Rerank

log = logging.getLogger("pg_semantic.search")

_DECIDING = ("columns", "chunking", "lexical")
_FUSIONS: Mapping[str, type[Fusion]] = {"rrf": Rrf, "convex": Convex}


def tuned_options(session: orm.Session, index: BoundIndex[Any], *, reranker: BatchingReranker | None = None) -> Options:
    """Returns the options that were tuned for an index and kept, for a hybrid search.

    Options are tuned for the vectors, the chunks and the BM25 of documents. After a switch to a generation with others,
    returns the defaults and logs a warning, until you tune again. A switch to an encoder that encodes only queries
    differently changes nothing. Returns the defaults too if nothing was kept. Read them once at startup: this is a
    query. With an AsyncSession: ``await session.run_sync(search.tuned_options, Article.semantic)``.

    Args:
        session: Connects to the database, as a role that can read the table of the index.
        index: The semantic index, such as ``Article.semantic``.
        reranker: Use it if a depth was tuned for it and kept. If it was found not to help, if a reranker with another
            reference was tuned or none, the options have no ``rerank``.

    Raises:
        errors.IndexNotFound: The index has not been created.
    """
    live, _ = generation_tracker.read_live(session, index)
    with database.translated():
        connection = generation_tracker.connect(session, index)
        asked = {"generation": live.id, "documents": json.dumps(documents_of(live))}
        kept = connection.execute(sql.statement("tuning", "read"), asked).one_or_none()
    if kept is None:
        return Options()
    if not kept.is_current:
        fields = {"event": "tuned_options_stale", "index": live.qualified_name}
        log.warning(
            "The options of %s were tuned for other documents, so searches use the defaults: tune again.",
            live.qualified_name,
            extra=fields,
        )
        return Options()
    return _with_reranker(from_data(kept.options), kept.options.get("rerank"), reranker)


def documents_of(generation: Generation) -> dict[str, Any]:
    """Returns what decides how the documents of a generation rank, as data for JSON: not how queries are encoded."""
    spec = generation.spec.to_json()
    return {"encoder": generation.document_fingerprint} | {name: spec.get(name) for name in _DECIDING}


def from_data(data: Mapping[str, Any]) -> Options:
    """Returns options from their JSON, as `tuning.Setting.data` writes it."""
    given = dict(data["fusion"])
    fusion = _FUSIONS[given.pop("kind")](**given)
    return Options(fusion=fusion, depth=data["depth"], match=data["match"])


def _with_reranker(options: Options, kept: Mapping[str, Any] | None, reranker: BatchingReranker | None) -> Options:
    if reranker is None or kept is None or kept["reranker"] != reranker.reference:
        return options
    return dataclasses.replace(options, rerank=Rerank(reranker, depth=kept["depth"]))
