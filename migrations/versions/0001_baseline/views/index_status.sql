-- For operators: how up to date each generation is.
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
    semantic.size_estimate_v1(semantic_index.source) + semantic.size_estimate_v1(generation.receipts)
        + semantic.size_estimate_v1(generation.chunks) AS bytes,
    jobs.pending + marks.pending AS pending,
    jobs.processing,
    jobs.failed,
    extract(epoch FROM now() - least(jobs.oldest, marks.oldest))::double precision AS oldest_pending_seconds,
    (
        SELECT count(DISTINCT relation)
        FROM semantic.missing_triggers_v1(semantic_index.source, semantic_index.name || '_capture')
    ) AS uncaptured,
    (
        SELECT string_agg(concat(kind, ': ', reason), '; ' ORDER BY kind)
        FROM semantic.problem
        WHERE problem.generation_id = generation.id AND has_table_privilege('semantic.problem', 'SELECT')
    ) AS problem,
    (SELECT count(*) FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute') AS workers_alive,
    (
        SELECT coalesce(sum(rows_per_second), 0)
        FROM semantic.worker
        WHERE heartbeat_at > now() - interval '1 minute'
    ) AS rows_per_second,
    (
        SELECT string_agg(DISTINCT paused, '; ')
        FROM semantic.worker
        WHERE heartbeat_at > now() - interval '1 minute'
    ) AS backfill_paused,
    CASE
        WHEN generation.backfilled_at IS NULL AND generation.stale_since IS NULL
            AND semantic.sees_all_rows_v1(generation.id) THEN generation.backfill_rows
    END AS backfill_rows,
    generation.stale_since,
    generation.stale_reason,
    CASE
        WHEN generation.stale_since IS NULL OR NOT semantic.sees_all_rows_v1(generation.id) THEN NULL
        WHEN generation.backfilled_at IS NOT NULL THEN 0
        WHEN semantic.rows_estimate_v1(semantic_index.source) > 0 THEN least(1, generation.backfill_rows
            / CAST(semantic.rows_estimate_v1(semantic_index.source) AS double precision))
    END AS reconciled,
    concat_ws(
        '; ', semantic.capture_problem_v1(semantic_index.id),
        CASE WHEN source.oid IS NOT NULL
            THEN semantic.capture_state_changes_v1(semantic_index.id, true)
                || ': rows may be out of date until a worker has compared them'
        END
    ) AS capture_problem
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
JOIN semantic.encoder ON encoder.id = generation.encoder_id
JOIN pg_class AS chunks ON chunks.oid = generation.chunks
LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
JOIN pg_namespace AS source_schema ON source_schema.oid = coalesce(source.relnamespace, chunks.relnamespace)
LEFT JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE state = 'pending') AS pending,
        count(*) FILTER (WHERE state = 'processing') AS processing,
        count(*) FILTER (WHERE state = 'failed') AS failed,
        min(dirty_at) FILTER (WHERE state <> 'failed') AS oldest
    FROM semantic.job
    WHERE job.generation_id = generation.id
) AS jobs ON semantic.sees_all_rows_v1(generation.id)
LEFT JOIN LATERAL (
    SELECT count(*) AS pending, min(marked_at) AS oldest
    FROM semantic.mark
    WHERE mark.generation_id = generation.id
) AS marks ON semantic.sees_all_rows_v1(generation.id);

COMMENT ON VIEW semantic.index_status IS
'One row per semantic index and generation. Columns named _estimate come from statistics of the planner and of the '
'server, because counting would scan the tables. Jobs and marks are counted, and NULL for a role that cannot '
'read all rows. workers_alive, rows_per_second and backfill_paused cover all indexes. '
'problem says why an index is not kept in sync or not built, for roles that can read semantic.problem. '
'Until the first backfill is complete, backfill_rows is how many rows it has looked at: the others have no job yet. '
'Since stale_since, rows without a job may be out of date; reconciled is the share of rows compared since then. '
'capture_problem says what keeps rows from being captured.';
