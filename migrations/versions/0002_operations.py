"""Marks: capture appends, workers fold. And what operators need: capture on partitions, the view ``index_status``."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = (
    # Appended to and never updated, so that a writer waits for nobody and meets no conflict at any isolation level.
    # A key of NULL says that every row is to be looked at again. No index has the key, whose length it would limit.
    # The priority is that of a job: 0 for an edit, 1 for what a large statement marks beyond its first thousand rows.
    """
    CREATE TABLE semantic.mark (
        generation_id integer NOT NULL,
        key text COLLATE "C",
        marked_at timestamptz NOT NULL DEFAULT now(),
        priority smallint NOT NULL DEFAULT 0
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)
    """,
    "CREATE INDEX mark_next_idx ON semantic.mark (generation_id, priority, marked_at)",
    """
    ALTER TABLE semantic.worker
        ADD COLUMN rows_synced bigint NOT NULL DEFAULT 0,
        ADD COLUMN rows_per_second double precision NOT NULL DEFAULT 0
    """,
    # Why a copy is not kept in sync, or why its indexes are not built, while that is so. For the owner alone: a message
    # of the server's may quote a value.
    """
    CREATE TABLE semantic.trouble (
        generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('sync', 'build')),
        reason text NOT NULL,
        failures integer NOT NULL DEFAULT 1,
        since timestamptz NOT NULL DEFAULT now(),
        next_at timestamptz NOT NULL,
        PRIMARY KEY (generation_id, kind)
    )
    """,
)

FUNCTIONS = (
    # The generations of a semantic index, asked for by its source or by a partition of it.
    """
    CREATE FUNCTION semantic.generations_of_v1(relation regclass, index_name text) RETURNS integer[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        RETURN ARRAY(
            SELECT generation.id
            FROM semantic.semantic_index
            JOIN semantic.generation ON generation.index_id = semantic_index.id
            WHERE semantic_index.name = index_name
              AND semantic_index.source = ANY (
                  relation || ARRAY(SELECT relid FROM pg_partition_ancestors(relation))
              )
        );
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.mark_v1(relation regclass, index_name text, keys text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        INSERT INTO semantic.mark (generation_id, key)
        SELECT generation.id, marked.key
        FROM unnest(semantic.generations_of_v1(relation, index_name)) AS generation (id)
        CROSS JOIN unnest(keys) AS marked (key);
    END
    $body$
    """,
    # A statement trigger fires for the named table alone, so every partition needs its own.
    """
    CREATE FUNCTION semantic.uncaptured_v1(index_source regclass, stem text)
    RETURNS TABLE (relation regclass, event text, transition text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT part.relid, event.name, event.transition
        FROM (
            SELECT index_source AS relid
            UNION
            SELECT relid FROM pg_partition_tree(index_source)
        ) AS part
        CROSS JOIN (
            VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows'),
                   ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                   ('delete', 'REFERENCING OLD TABLE AS old_rows'),
                   ('truncate', '')
        ) AS event (name, transition)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgrelid = part.relid AND tgname = stem || '_' || event.name AND tgenabled IN ('O', 'A')
        )
    $body$
    """,
    # Hangs what is missing; gives the relations that lacked it.
    """
    CREATE FUNCTION semantic.capture_v1(index_source regclass, capture regproc, stem text) RETURNS SETOF regclass
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        missing record;
    BEGIN
        FOR missing IN SELECT * FROM semantic.uncaptured_v1(index_source, stem) LOOP
            EXECUTE format(
                'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                stem || '_' || missing.event, missing.event, missing.relation, missing.transition, capture
            );
            EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', missing.relation, stem || '_' || missing.event);
            RETURN NEXT missing.relation;
        END LOOP;
    END
    $body$
    """,
    # NULL where the role may not look.
    """
    CREATE FUNCTION semantic.truncated_rows_v1(receipts regclass) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        counted bigint;
    BEGIN
        IF has_table_privilege(receipts, 'SELECT') THEN
            EXECUTE format('SELECT count(*) FROM %s WHERE truncated', receipts) INTO counted;
        END IF;
        RETURN counted;
    END
    $body$
    """,
    # What the planner believes, over all partitions; NULL before the first ANALYZE or autovacuum.
    """
    CREATE FUNCTION semantic.rows_estimate_v1(relation regclass) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT sum(reltuples)::bigint
        FROM pg_class
        WHERE oid IN (SELECT relation UNION SELECT relid FROM pg_partition_tree(relation) WHERE isleaf)
          AND relkind <> 'p' AND reltuples >= 0
    $body$
    """,
    # What the planner believes of the table's own file, with all partitions; without TOAST and indexes. Locks nothing.
    """
    CREATE FUNCTION semantic.bytes_v1(relation regclass) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT sum(relpages)::bigint * current_setting('block_size')::bigint
        FROM pg_class
        WHERE oid IN (SELECT relation UNION SELECT relid FROM pg_partition_tree(relation))
    $body$
    """,
)

VIEW = """
    CREATE VIEW semantic.index_status AS
    SELECT
        source_schema.nspname || '.' || semantic_index.name AS index_name,
        semantic_index.source,
        generation.id AS generation_id,
        generation.role,
        encoder.reference AS encoder,
        encoder.dimensions,
        generation.backfilled_at IS NOT NULL AS backfilled,
        semantic.rows_estimate_v1(semantic_index.source) AS rows_estimate,
        semantic.rows_estimate_v1(generation.receipts) AS synced_estimate,
        semantic.rows_estimate_v1(generation.chunks) AS chunks_estimate,
        semantic.truncated_rows_v1(generation.receipts) AS truncated,
        semantic.bytes_v1(semantic_index.source) + semantic.bytes_v1(generation.receipts)
            + semantic.bytes_v1(generation.chunks) AS bytes,
        jobs.pending + marks.pending AS pending,
        jobs.processing,
        jobs.failed,
        extract(epoch FROM now() - least(jobs.oldest, marks.oldest))::double precision AS oldest_pending_seconds,
        (
            SELECT count(DISTINCT relation)
            FROM semantic.uncaptured_v1(semantic_index.source, semantic_index.name || '_capture')
        ) AS uncaptured,
        (
            SELECT string_agg(concat(kind, ': ', reason), '; ' ORDER BY kind)
            FROM semantic.trouble
            WHERE trouble.generation_id = generation.id AND has_table_privilege('semantic.trouble', 'SELECT')
        ) AS trouble,
        (SELECT count(*) FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute') AS workers_alive,
        (
            SELECT coalesce(sum(rows_per_second), 0)
            FROM semantic.worker
            WHERE heartbeat_at > now() - interval '1 minute'
        ) AS rows_per_second
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    JOIN semantic.encoder ON encoder.id = generation.encoder_id
    JOIN pg_class AS source ON source.oid = semantic_index.source
    JOIN pg_namespace AS source_schema ON source_schema.oid = source.relnamespace
    JOIN pg_class AS chunks ON chunks.oid = generation.chunks
    LEFT JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE state = 'pending') AS pending,
            count(*) FILTER (WHERE state = 'processing') AS processing,
            count(*) FILTER (WHERE state = 'failed') AS failed,
            min(dirty_at) FILTER (WHERE state <> 'failed') AS oldest
        FROM semantic.job
        WHERE job.generation_id = generation.id
    ) AS jobs ON semantic.sees_all_v1(generation.id)
    LEFT JOIN LATERAL (
        SELECT count(*) AS pending, min(marked_at) AS oldest
        FROM semantic.mark
        WHERE mark.generation_id = generation.id
    ) AS marks ON semantic.sees_all_v1(generation.id)
"""

COMMENT = """
    COMMENT ON VIEW semantic.index_status IS
    'One row per semantic index and generation. Columns named _estimate are the planner''s (pg_class.reltuples), since '
    'counting would scan the tables; jobs and marks are counted, and NULL for a role that cannot '
    'read all rows. Workers and rows_per_second are of all indexes. '
    'Trouble says why an index is not kept in sync or not built, to roles that may read semantic.trouble.'
"""

GRANTS = ("GRANT SELECT ON semantic.index_status TO PUBLIC",)


def upgrade() -> None:
    for statement in (*TABLES, *FUNCTIONS, VIEW, COMMENT, *GRANTS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW semantic.index_status")
    op.execute(
        "DROP FUNCTION semantic.bytes_v1, semantic.rows_estimate_v1, semantic.truncated_rows_v1, semantic.capture_v1, "
        "semantic.uncaptured_v1, "
        "semantic.mark_v1, semantic.generations_of_v1"
    )
    op.execute("DROP TABLE semantic.mark, semantic.trouble")
    op.execute("ALTER TABLE semantic.worker DROP COLUMN rows_synced, DROP COLUMN rows_per_second")
