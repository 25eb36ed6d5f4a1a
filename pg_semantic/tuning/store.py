"""Keeps tuned settings in the database, where `search.tuned_options` reads them."""

import json

import sqlalchemy as sa

from pg_semantic import database, sql
from pg_semantic.tuning.tune import Tuning


def save(engine: sa.Engine, found: Tuning) -> None:
    """Keeps the recommended setting for the generation that it was tuned on, with what speaks for it.

    Raises:
        errors.DatabaseError: The role may not write to the schema `semantic`.
    """
    evidence = {name: value for name, value in found.figures.items() if name not in {"index", "settings", "documents"}}
    kept = {
        "generation": found.generation_id,
        "documents": json.dumps(found.documents),
        "options": json.dumps(found.recommended.data),
        "evidence": json.dumps(evidence),
    }
    with database.translated(), engine.begin() as connection:
        connection.execute(sql.statement("tuning", "save"), kept)
