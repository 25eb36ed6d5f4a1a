-- Capture: what appends a mark for a change of text. Templates: `index/triggers.py` fills in quoted identifiers.

-- name: watch
-- Makes that function, once the registry knows which columns the text of a row is made of.
SELECT semantic.watch_v1($name, $source, $function_name, $statement)

-- name: watch_replica
-- Makes the function of the row trigger, with the same columns.
SELECT semantic.watch_v1($name, $source, $function_name, $statement)

-- name: replica_body
-- What the row trigger marks: rows that another server, or a session in the role of a replica, has changed. No foreign
-- key follows these, so a row whose key changed is marked by both keys, and one whose carried column changed is marked.
-- A column that is gone must not stop the subscription: all rows are looked at again once the index fits its table.
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
        ELSIF (/*new_text*/) IS DISTINCT FROM (/*old_text*/) $or_carried THEN
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
-- Without JIT: a plan made for a large statement would be compiled again for every small one after it.
CREATE OR REPLACE FUNCTION /*function*/() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off $settings
AS $body

-- name: settings
-- How dates, times, intervals, floats and bytes in keys are written as text; left out for keys that need none of it,
-- since each costs every statement.
SET datestyle = 'ISO' SET timezone = 'UTC' SET bytea_output = 'hex' SET intervalstyle = 'postgres' SET extra_float_digits = 1

-- name: body
-- Marks stream from the transition tables into semantic.mark: no statement is too large, and none costs memory.
-- A missing column is found by a probe, which reads no row, or, for an UPDATE, looks for the first row to mark: most
-- UPDATEs change no text, and end there. The marks are written outside of its block, since a write in a block with
-- EXCEPTION is a subtransaction. The writer's statement then still succeeds, and leaves a mark without a key: all rows
-- are looked at again once the index fits its table. So does TRUNCATE: of a partition it empties the chunk table for
-- all, since CASCADE knows no rows.
-- The generations are written into it, not looked up: a transaction whose snapshot is older than one would not see it.
#variable_conflict use_column
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            PERFORM $new_key FROM new_rows WHERE false;
        ELSIF TG_OP = 'UPDATE' THEN
            PERFORM FROM new_rows FULL JOIN old_rows ON /*same_key*/ WHERE $is_changed LIMIT 1;
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
        ELSIF TG_OP = 'DELETE' THEN
            PERFORM $old_key FROM old_rows WHERE false;
        ELSE
            RAISE undefined_column;
        END IF;
    EXCEPTION WHEN undefined_column THEN
        INSERT INTO semantic.mark (generation_id)
        SELECT generation.id FROM (VALUES /*generation_rows*/) AS generation (id);
        RETURN NULL;
    END;
    IF TG_OP = 'INSERT' THEN
        $inserted
    ELSIF TG_OP = 'UPDATE' THEN
        $updated
    ELSE
        $deleted
    END IF;
    RETURN NULL;
END

-- name: inserted
-- Marks all inserted rows.
INSERT INTO semantic.mark (generation_id, key, priority)
        SELECT generation.id, marked.key, marked.priority
        FROM (SELECT $new_key AS key, $priority AS priority FROM new_rows) AS marked
        CROSS JOIN (VALUES /*generation_rows*/) AS generation (id);

-- name: deleted
-- Marks all deleted rows.
INSERT INTO semantic.mark (generation_id, key, priority)
        SELECT generation.id, marked.key, marked.priority
        FROM (SELECT $old_key AS key, $priority AS priority FROM old_rows) AS marked
        CROSS JOIN (VALUES /*generation_rows*/) AS generation (id);

-- name: updated
-- Marks the rows whose text changed; all rows if any of them came to have a new key, since chunks have moved with the
-- keys. Keys that only trade places within one statement can not be: a key that a foreign key refers to is checked row
-- by row. A key may be equal and yet be written otherwise, as 1.0 and 1.00.
-- The join is FULL because no such join can be a nested loop: its plan is kept for the session and has to do for a
-- statement of any size, whatever size it was made for.
WITH changed AS MATERIALIZED (
            SELECT $new_key AS key, $other_row AS moved
            FROM new_rows FULL JOIN old_rows ON /*same_key*/
            WHERE $is_changed
        ),
        any_row AS MATERIALIZED (
            SELECT EXISTS (SELECT FROM changed WHERE moved) AS moved
        )
        INSERT INTO semantic.mark (generation_id, key, priority)
        SELECT generation.id, marked.key, marked.priority
        FROM (
            SELECT changed_row.key, $priority AS priority
            FROM (
                SELECT key FROM changed WHERE NOT (SELECT moved FROM any_row)
                UNION ALL
                SELECT $new_key FROM new_rows WHERE (SELECT moved FROM any_row)
            ) AS changed_row
        ) AS marked
        CROSS JOIN (VALUES /*generation_rows*/) AS generation (id);

-- name: is_changed
-- Whether a pair of rows is to be marked.
$other_row OR (/*new_text*/) IS DISTINCT FROM (/*old_text*/) $or_other_key

-- name: priority
-- Edits go first, and a bulk change is none: what a statement marks beyond a thousand rows is worked off as backfill.
CAST(CASE WHEN row_number() OVER () > 1000 THEN 1 ELSE 0 END AS smallint)

-- name: lock_source
-- The first step of a creation. What follows is quick, and writers wait for no more than that.
SELECT semantic.lock_v1('SHARE ROW EXCLUSIVE', $source)

-- name: lock
-- The first step of a drop: keeps writers, searchers and workers away. The source first, if it is there, as those lock
-- who write: a DELETE goes on to receipts and chunks.
SELECT semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC to_regclass($source) || (
    SELECT semantic.relations_v1(index_id, NULL) FROM semantic.generation WHERE chunks = $chunks
) || ARRAY[$receipts, $chunks])

-- name: drop_function
-- Takes the triggers with them.
DROP FUNCTION IF EXISTS $function(), $replica() CASCADE

-- name: hang
-- Hangs the function on the source and on every partition of it.
SELECT semantic.capture_v1($source, CAST($function_name AS regproc), $stem, $enable)

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
