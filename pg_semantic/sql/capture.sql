-- Capture: the triggers that turn a change of text into a job. Templates: `schema.py` fills in quoted identifiers.

-- name: function
-- One function for the four statement-level triggers. SECURITY DEFINER, so that writers need no rights on our tables.
-- The settings pin how key values are written as text.
CREATE FUNCTION $function() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
SET timezone = 'UTC'
SET bytea_output = 'hex'
AS $body

-- name: body
-- What it does: one branch for each kind of statement.
BEGIN
    IF TG_OP = 'INSERT' THEN
        $mark_inserted;
    ELSIF TG_OP = 'UPDATE' THEN
        $mark_updated;
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM semantic.job AS job
        USING semantic.generation AS generation, semantic.semantic_index AS semantic_index, old_rows
        WHERE semantic_index.source = TG_RELID AND semantic_index.name = $name
          AND generation.index_id = semantic_index.id
          AND job.generation_id = generation.id AND job.key = $old_key;
    ELSE
        DELETE FROM semantic.job AS job
        USING semantic.generation AS generation, semantic.semantic_index AS semantic_index
        WHERE semantic_index.source = TG_RELID AND semantic_index.name = $name
          AND generation.index_id = semantic_index.id
          AND job.generation_id = generation.id;
    END IF;
    RETURN NULL;
END

-- name: mark
-- Marks rows: a new job, or a new version of the one that is there. A new version voids a claim, so the worker
-- that holds it writes nothing and the row can be taken again at once.
INSERT INTO semantic.job AS job (generation_id, key)
        SELECT generation.id, changed.key
        FROM ($changed) AS changed (key)
        CROSS JOIN semantic.semantic_index AS semantic_index
        JOIN semantic.generation AS generation ON generation.index_id = semantic_index.id
        WHERE semantic_index.source = TG_RELID AND semantic_index.name = $name
        ON CONFLICT (generation_id, key) DO UPDATE
        SET version = job.version + 1, state = 'pending', claim = NULL, lease_until = NULL,
            priority = 0, attempts = 0, error = NULL, available_at = least(job.available_at, now())

-- name: inserted
-- Keys of inserted rows.
SELECT $new_key FROM new_rows

-- name: updated
-- Keys of rows whose text changed; of all rows if any came to have a new key, since chunks have moved with the keys.
-- Keys that only trade places within one statement can not be: a key that a foreign key refers to is checked row by row.
SELECT compared.key
            FROM (
                SELECT $new_key AS key, ($new_text) IS DISTINCT FROM ($old_text) AS changed,
                       bool_or($no_old_row) OVER () AS moved
                FROM new_rows LEFT JOIN old_rows ON $same_key
            ) AS compared
            WHERE compared.changed OR compared.moved

-- name: cancel_build
-- The first step of a drop: ends a build of the vector index, with which the drop might wait in a circle.
SELECT pg_cancel_backend(build.pid)
FROM pg_stat_progress_create_index AS build
JOIN pg_stat_activity AS builder ON builder.pid = build.pid
WHERE build.relid = $chunks AND pg_has_role(builder.usesysid, 'USAGE')

-- name: lock
-- The second: keeps another build from being begun, and workers from the table.
LOCK TABLE $chunks IN ACCESS EXCLUSIVE MODE

-- name: drop_function
-- Takes the triggers with it.
DROP FUNCTION IF EXISTS $function() CASCADE

-- name: trigger
-- One statement-level trigger; an event has its own because transition tables differ.
CREATE TRIGGER $trigger AFTER $event ON $source $transition FOR EACH STATEMENT EXECUTE FUNCTION $function()

-- name: register
-- Records a semantic index and its first generation.
SELECT semantic.register_index_v1($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: unregister
-- Forgets a semantic index, its generations and their jobs.
SELECT semantic.unregister_index_v1($chunks)
