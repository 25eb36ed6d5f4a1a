"""Detects an encoder that looks like one that expects prompts, but has none."""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from pg_semantic import sql
from pg_semantic.index import known_encoders
from pg_semantic.index.known_encoders import Prompts

NAME = "prompts"
WHY = "the encoder was trained with prompts, so without them searches find less"


def findings(connection: sa.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Yields subject, what, why and repair for each index whose encoder may lack prompts."""
    statement = sql.statement("doctor", "prompts").columns(encoder=JSONB)
    for row in connection.execute(statement):
        declared = Prompts(row.encoder.get("query_prompt"), row.encoder.get("document_prompt"))
        loaded = Prompts(row.query_prompt, row.document_prompt) if row.is_loaded else None
        if lacking := known_encoders.lacking(row.encoder["reference"], declared=declared, loaded=loaded):
            what = f"its encoder {row.encoder['reference']!r} looks like {lacking.family}, which expects prompts"
            repair = f"pg-semantic generation begin {row.name} {lacking.options}"
            yield row.subject, what, WHY, repair
