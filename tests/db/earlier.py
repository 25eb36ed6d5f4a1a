"""A semantic index as the code of an earlier revision made and synced it, written down as SQL.

The code of today cannot make it: it works with the newest revision only. One row each is synced, waits for a worker
and was never looked at. A revision that has no entry here leaves an index as the one before it does.
"""

import json
from typing import Any, LiteralString

import sqlalchemy as sa

from pg_semantic import encoders
from pg_semantic.database import migrate, revisions
from pg_semantic.index import hashing
from pg_semantic.index.spec import EncoderSpec
from tests.db.library import ENCODER, Article, execute

SPEC: dict[str, Any] = {
    "name": "article_semantic",
    "table": "article",
    "schema": None,
    "key": [{"name": "id", "type": "integer"}],
    "columns": ["title", "body"],
    "encoder": {"reference": ENCODER, "dimensions": 32},
    "chunking": {"max_tokens": None, "overlap_tokens": 0},
    "storage": "halfvec",
    "hnsw": {"m": 16, "ef_construction": 64},
}
LEXICAL = {"config": "english", "k1": 1.2, "b": 0.75}

_TABLES = """
CREATE TABLE article_semantic_receipt (
    id integer PRIMARY KEY REFERENCES article ON DELETE CASCADE ON UPDATE CASCADE,
    source_hash bytea NOT NULL,
    chunk_count integer NOT NULL,
    truncated boolean NOT NULL,
    embedded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX article_semantic_truncated_idx ON article_semantic_receipt (id) WHERE truncated;
CREATE TABLE article_semantic (
    id integer NOT NULL REFERENCES article ON DELETE CASCADE ON UPDATE CASCADE,
    ordinal integer NOT NULL,
    content text NOT NULL,
    vector halfvec(32) NOT NULL,
    content_hash bytea NOT NULL,
    encoder_id bigint NOT NULL,
    token_count integer NOT NULL,
    truncated boolean NOT NULL,
    embedded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, ordinal),
    CONSTRAINT article_semantic_encoder CHECK (encoder_id = 4915571097074522751)
);
CREATE INDEX article_semantic_content_idx ON article_semantic (content_hash);
"""

# Of revision 0001: it upserts jobs itself.
_CAPTURE_OF_JOBS = """
CREATE FUNCTION article_semantic_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET bytea_output = 'hex'
AS $body$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM semantic.job AS job
        USING semantic.generation AS generation, semantic.semantic_index AS semantic_index, old_rows
        WHERE semantic_index.source = TG_RELID AND semantic_index.name = 'article_semantic'
          AND generation.index_id = semantic_index.id
          AND job.generation_id = generation.id AND job.key = CAST(old_rows.id AS text);
    ELSIF TG_OP = 'TRUNCATE' THEN
        DELETE FROM semantic.job AS job
        USING semantic.generation AS generation, semantic.semantic_index AS semantic_index
        WHERE semantic_index.source = TG_RELID AND semantic_index.name = 'article_semantic'
          AND generation.index_id = semantic_index.id AND job.generation_id = generation.id;
    ELSE
        INSERT INTO semantic.job AS job (generation_id, key)
        SELECT generation.id, CAST(new_rows.id AS text)
        FROM new_rows
        CROSS JOIN semantic.semantic_index AS semantic_index
        JOIN semantic.generation AS generation ON generation.index_id = semantic_index.id
        WHERE semantic_index.source = TG_RELID AND semantic_index.name = 'article_semantic'
        ON CONFLICT (generation_id, key) DO UPDATE
        SET version = job.version + 1, state = 'pending', claim = NULL, lease_until = NULL,
            priority = 0, attempts = 0, error = NULL, available_at = least(job.available_at, now());
    END IF;
    RETURN NULL;
END
$body$;
CREATE TRIGGER article_semantic_capture_insert AFTER INSERT ON article
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION article_semantic_capture();
CREATE TRIGGER article_semantic_capture_update AFTER UPDATE ON article
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION article_semantic_capture();
CREATE TRIGGER article_semantic_capture_delete AFTER DELETE ON article
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION article_semantic_capture();
CREATE TRIGGER article_semantic_capture_truncate AFTER TRUNCATE ON article
FOR EACH STATEMENT EXECUTE FUNCTION article_semantic_capture();
"""

# From revision 0002 on: it appends marks.
_CAPTURE_OF_MARKS = """
CREATE FUNCTION article_semantic_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
    marked text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        marked := ARRAY(SELECT CAST(new_rows.id AS text) FROM new_rows);
    ELSIF TG_OP = 'UPDATE' THEN
        marked := ARRAY(SELECT CAST(new_rows.id AS text) FROM new_rows);
    ELSIF TG_OP = 'DELETE' THEN
        marked := ARRAY(SELECT CAST(old_rows.id AS text) FROM old_rows);
    ELSE
        marked := ARRAY[NULL];
    END IF;
    IF marked <> '{}' THEN
        PERFORM semantic.mark_v1(TG_RELID, 'article_semantic', marked);
    END IF;
    RETURN NULL;
END
$body$;
SELECT semantic.capture_v1('article', 'article_semantic_capture', 'article_semantic_capture');
"""

_LEXICAL = """
ALTER TABLE article_semantic_receipt
    ADD COLUMN lexemes tsvector NOT NULL,
    ADD COLUMN weights sparsevec(1000000000) NOT NULL,
    ADD COLUMN weights_length double precision NOT NULL;
"""

_REGISTER = """
SELECT semantic.{function}(
    'article_semantic', 'article', 'article_semantic', 'article_semantic_receipt', :encoder, CAST(:spec AS jsonb)
)
"""

_FINGERPRINT = "UPDATE semantic.encoder SET fingerprint = :fingerprint, max_tokens = :max_tokens"

_CHUNK = """
INSERT INTO article_semantic (id, ordinal, content, vector, content_hash, encoder_id, token_count, truncated)
VALUES (:id, 0, :text, CAST(:vector AS halfvec), :hash, :encoder, 2, false)
"""

_RECEIPT = """
INSERT INTO article_semantic_receipt (id, source_hash, chunk_count, truncated) VALUES (:id, :hash, 1, false)
"""

_RECEIPT_WITH_LEXEMES = """
INSERT INTO article_semantic_receipt
SELECT :id, :hash, 1, false, now(), lexemes, semantic.bm25_weights_v1(lexemes, 100, 1.2, 0.75), 100
FROM semantic.lexemes_v1('english', :text) AS lexemes
"""

_LATE_INDEX = """
CREATE INDEX article_semantic_vector_idx ON article_semantic
USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 64)
"""


def make(engine: sa.Engine, revision: str) -> None:
    """Leaves a database at the revision, with an index made there: row 1 is synced, 2 waits, 3 has never been seen."""
    migrate.upgrade(engine, to=revision)
    Article.__table__.create(engine)  # type: ignore[attr-defined]
    execute(engine, "INSERT INTO article VALUES (3, 'a violet sea', NULL, 'en')")
    execute(engine, _TABLES)
    lexical = has_lexical(revision)
    if lexical:
        execute(engine, _LEXICAL)
    number = EncoderSpec(ENCODER, 32).id
    marks = revision >= "0002"
    _run(engine, _CAPTURE_OF_MARKS if marks else _CAPTURE_OF_JOBS)
    spec = SPEC | ({"lexical": LEXICAL} if lexical else {})
    register = _REGISTER.format(function="register_index_v2" if revision >= "0004" else "register_index_v1")
    execute(engine, register, encoder=number, spec=json.dumps(spec))
    execute(engine, "INSERT INTO article VALUES (1, 'a red apple', NULL, 'en')")
    _sync_row(engine, 1, "a red apple", lexical=lexical)
    execute(engine, _LATE_INDEX)
    execute(engine, "INSERT INTO article VALUES (2, 'a green pear', NULL, 'en')")


def shaped_at() -> tuple[str, ...]:
    """Every revision but the newest that left an index otherwise than the one before it."""
    return tuple(revision for revision in made_at() if revision in {"0001", "0002", "0003"})


def has_lexical(revision: str) -> bool:
    """Whether the code of a revision knew of BM25."""
    return revision >= "0003"


def made_at() -> tuple[str, ...]:
    """Every revision but the newest."""
    return revisions.known()[:-1]


def _sync_row(engine: sa.Engine, key: int, text: str, *, lexical: bool) -> None:
    encoder = encoders.load(ENCODER)
    vector = [float(number) for number in encoder.encode_documents([text])[0]]
    binds = {"id": key, "hash": hashing.content_hash(text)}
    execute(engine, _FINGERPRINT, fingerprint=encoder.fingerprint, max_tokens=encoder.max_tokens)
    number = EncoderSpec(ENCODER, 32).id
    execute(engine, _CHUNK, **binds, text=text, vector=str(vector), encoder=number)
    if lexical:
        execute(engine, _RECEIPT_WITH_LEXEMES, **binds, text=text)
    else:
        execute(engine, _RECEIPT, **binds)
    for table in ("job", "mark"):
        if sa.inspect(engine).has_table(table, "semantic"):
            with engine.begin() as connection:
                connection.execute(sa.delete(sa.table(table, schema="semantic")))


def _run(engine: sa.Engine, script: LiteralString) -> None:
    """A script whose colons are its own."""
    with engine.begin() as connection:
        connection.exec_driver_sql(script)
