"""Keeps tuned settings in the database, where `search.tuned_options` reads them."""

import json

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.tuning.rerank_depth import RerankTuning
from pg_semantic.tuning.tune import Tuning

_NO_EVIDENCE = {"index", "settings", "documents", "depths"}  # times would tell other roles how many rows there are


def save(engine: sa.Engine, found: Tuning | RerankTuning) -> None:
    """Keeps what is recommended for the generation that it was tuned on, with what speaks for it.

    Replaces what was kept before. A reranker's depth is kept together with the setting that it was tuned on, until
    another setting is kept.

    Raises:
        errors.DatabaseError: The role may not write to the schema `semantic`.
    """
    evidence = {name: value for name, value in found.figures.items() if name not in _NO_EVIDENCE}
    kept = {
        "generation": found.generation_id,
        "documents": json.dumps(found.documents),
        "options": json.dumps(found.kept),
        "keep_rerank": isinstance(found, Tuning),
        "evidence": json.dumps(evidence),
    }
    with database.translated(), engine.begin() as connection:
        connection.execute(sql.statement("tuning", "save"), kept)
