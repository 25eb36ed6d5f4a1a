-- Capture: what appends a mark for a change of text. Templates: `capture.py` fills in quoted identifiers.

-- name: watch
-- Makes that function, once the registry knows which columns the text of a row is made of.
SELECT semantic.watch_v1($name, $source, $function_name, $statement)

-- name: watch_replica
-- Makes the function of the row trigger, with the same columns.
SELECT semantic.watch_v1($name, $source, $function_name, $statement)

-- name: replica_body
-- What the row trigger marks: rows that another server, or a session in the role of a replica, has changed. No foreign
-- key follows these, so a row whose key changed is marked by both keys. A column that is gone must not stop the
-- subscription: all rows are looked at again once the index fits its table.
DECLARE
    old_rows ALIAS FOR old;
    new_rows ALIAS FOR new;
    marked text[];
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            marked := ARRAY[$new_key];
        ELSIF TG_OP = 'DELETE' THEN
            marked := ARRAY[$old_key];
        ELSIF ($new_key) COLLATE "C" <> ($old_key) COLLATE "C" THEN
            marked := ARRAY[$old_key, $new_key];
        ELSIF (/*new_text*/) IS DISTINCT FROM (/*old_text*/) THEN
            marked := ARRAY[$new_key];
        END IF;
    EXCEPTION WHEN undefined_column THEN
        marked := ARRAY[NULL];
    END;
    INSERT INTO semantic.mark (generation_id, key)
    SELECT generation.id, marked_row.key
    FROM unnest(CAST('/*generations*/' AS integer[])) AS generation (id)
    CROSS JOIN unnest(marked) AS marked_row (key);
    RETURN NULL;
END

-- name: function
-- One function for the four statement-level triggers. SECURITY DEFINER, so that writers need no rights on our tables.
CREATE OR REPLACE FUNCTION /*function*/() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp $settings
AS $body

-- name: settings
-- How dates, times and bytes in keys are written as text; left out for other keys, since each costs every statement.
SET datestyle = 'ISO' SET timezone = 'UTC' SET bytea_output = 'hex'

-- name: body
-- The generations are written into it, not looked up: a transaction whose snapshot is older than one would not see it.
-- Which rows changed is found out in a block of its own: when a column is not there any more, the writer's statement
-- still succeeds, and all rows are looked at again once the index fits its table: that is what a mark of NULL says.
-- So does TRUNCATE: of a partition it empties the chunk table for all, since CASCADE knows no rows.
#variable_conflict use_column
DECLARE
    marked text[];
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            marked := ARRAY($inserted);
        ELSIF TG_OP = 'UPDATE' THEN
            marked := ARRAY($updated);
            IF array_position(marked, NULL) IS NOT NULL THEN
                marked := ARRAY($inserted);
            END IF;
        ELSIF TG_OP = 'DELETE' THEN
            marked := ARRAY($deleted);
        END IF;
    EXCEPTION WHEN undefined_column THEN
        marked := ARRAY[NULL];
    END;
    IF TG_OP = 'TRUNCATE' THEN
        marked := ARRAY[NULL];
    END IF;
    IF marked <> '{}' THEN
        INSERT INTO semantic.mark (generation_id, key)
        SELECT generation.id, marked_row.key
        FROM unnest(CAST('/*generations*/' AS integer[])) AS generation (id)
        CROSS JOIN unnest(marked) AS marked_row (key);
    END IF;
    RETURN NULL;
END

-- name: inserted
-- Keys of inserted rows.
SELECT $new_key FROM new_rows

-- name: deleted
-- Keys of deleted rows.
SELECT $old_key FROM old_rows

-- name: updated
-- Keys of rows whose text changed, and NULL for a row that came to have a new key: then all rows are marked, since
-- chunks have moved with the keys. Keys that only trade places within one statement can not be: a key that a foreign key
-- refers to is checked row by row. A key may be equal and yet be written otherwise, as 1.0 and 1.00.
SELECT CASE WHEN $no_old_row THEN NULL ELSE $new_key END
                FROM new_rows LEFT JOIN old_rows ON $same_key
                WHERE $no_old_row OR (/*new_text*/) IS DISTINCT FROM (/*old_text*/) $or_other_key

-- name: cancel_build
-- The first step of a drop: ends builds of late indexes, with which the drop might wait in a circle.
SELECT pg_cancel_backend(build.pid)
FROM pg_stat_progress_create_index AS build
JOIN pg_stat_activity AS builder ON builder.pid = build.pid
WHERE build.relid IN ($chunks, $receipts) AND pg_has_role(builder.usesysid, 'USAGE')

-- name: lock
-- The second: keeps another build from being begun, and workers from the tables. The source first, if it is there, as
-- those lock who write: a DELETE goes on to chunks and receipts.
SELECT semantic.lock_v1(to_regclass($source), $chunks, $receipts)

-- name: drop_function
-- Takes the triggers with them.
DROP FUNCTION IF EXISTS $function(), $replica() CASCADE

-- name: hang
-- Hangs the function on the source and on every partition of it.
SELECT semantic.capture_v1($source, CAST($function_name AS regproc), $stem)

-- name: register
-- Records a semantic index and its first generation, and makes its search function.
SELECT semantic.register_index_v3($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: unregister
-- Forgets a semantic index, its generations and their jobs.
SELECT semantic.unregister_index_v3($chunks)

-- name: prepare
-- Makes sure that a semantic index is as a change expects it to be.
SELECT semantic.prepare_generation_v1($name, $source, $was)

-- name: begin
-- Records the copy `next` of a semantic index.
SELECT semantic.begin_generation_v1($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: withdraw
-- Takes the copy back, whatever has become of it.
SELECT semantic.withdraw_generation_v1($name, $source, $target, $was)
