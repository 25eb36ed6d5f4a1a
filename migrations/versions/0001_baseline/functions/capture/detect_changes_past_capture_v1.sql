-- What a worker checks every few seconds. This reads catalogs and the registry, but no row of a user's table.
-- `functions` means that the capture functions must be created again, which only their owner can do.
CREATE FUNCTION semantic.detect_changes_past_capture_v1()
RETURNS TABLE (
    index_id integer, missing boolean, functions boolean, foreign_keys boolean, doubtful boolean, changes text,
    problem text
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT semantic_index.id,
           EXISTS (
               SELECT FROM semantic.missing_triggers_v1(semantic_index.source, semantic_index.name || '_capture') AS part
               WHERE part.state <> 'disabled'
           ) OR known.outdated,
           known.outdated OR 2 > (
               SELECT count(*) FROM pg_proc
               WHERE pronamespace = source.relnamespace
                 AND proname IN (semantic_index.name || '_capture', semantic_index.name || '_capture_replica')
           ),
           coalesce(bool_or(lacking.relation IS NOT NULL AND lacking.name IS NULL), false),
           coalesce(bool_or(
               lacking.name IS NOT NULL AND generation.backfilled_at IS NOT NULL AND generation.stale_since IS NULL
           ), false),
           semantic.capture_state_changes_v1(semantic_index.id, true),
           semantic.capture_problem_v1(semantic_index.id)
    FROM semantic.semantic_index
    JOIN pg_class AS source ON source.oid = semantic_index.source
    CROSS JOIN LATERAL (
        SELECT semantic.is_capture_function_outdated_v1(semantic_index.source, semantic_index.name || '_capture') AS outdated
    ) AS known
    LEFT JOIN LATERAL semantic.unsound_foreign_keys_v1(semantic_index.id) AS lacking ON true
    LEFT JOIN semantic.generation ON generation.id = lacking.generation_id
    GROUP BY semantic_index.id, source.relnamespace, known.outdated
    ORDER BY semantic_index.id
$body$;
