-- Capture: the triggers that append a mark when the text of a row changes. Templates: `index/triggers.py` fills in
-- quoted identifiers.

-- name: watch
-- Creates the capture function. By then, the registry must know which columns the text of a row comes from.
SELECT semantic.create_capture_function_v1($name, $source, $function_name, $statement)

-- name: watch_replica
-- Creates the function of the row trigger, with the same columns.
SELECT semantic.create_capture_function_v1($name, $source, $function_name, $statement)

-- name: replica_body
-- Marks rows that logical replication, or a session with session_replication_role = replica, has changed. Foreign keys
-- don't follow these changes, so a row whose key changed is marked under both keys, and a row whose carried column
-- changed is marked too.
-- A missing column must not stop the subscription: the function then leaves a mark without a key, and all rows are
-- compared again once the index fits its table.
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
-- One function for the four statement triggers. SECURITY DEFINER, so that writers need no privileges on our tables. JIT
-- is off, because a plan made for a large statement would be compiled again for every small one after it.
CREATE OR REPLACE FUNCTION /*function*/() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off $settings
AS $body

-- name: settings
-- Fixes how dates, times, intervals, floats and bytes in keys are written as text. Omitted for keys that need none of
-- these settings, because each one slows down every statement.
SET datestyle = 'ISO' SET timezone = 'UTC' SET bytea_output = 'hex' SET intervalstyle = 'postgres' SET extra_float_digits = 1

-- name: body
-- Marks stream from the transition tables into semantic.mark, so no statement is too large and none needs extra memory.
-- A probe detects a missing column. It reads no rows or, for an UPDATE, looks for the first row to mark: most UPDATEs
-- change no text and end there. The marks are written outside the block of the probe, because a write in a block with
-- EXCEPTION is a subtransaction. If a column is missing, the writer's statement still succeeds and leaves a mark
-- without a key: all rows are compared again once the index fits its table. TRUNCATE does the same. On one partition,
-- it empties the chunk table for all of them, because CASCADE doesn't look at rows.
-- The ids of the generations are written into the function, not looked up: a transaction whose snapshot is older than a
-- generation would not see it.
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
-- Marks the rows whose text changed, or all rows if any row got a new key, because chunks have moved with the keys.
-- Rows cannot swap keys within one statement, because a key that a foreign key references is checked row by row. Two
-- keys can be equal and have different text forms, such as 1.0 and 1.00.
-- The join is FULL because a FULL JOIN is never a nested loop. The session keeps the plan, which must suit a statement
-- of any size, whatever size it was made for.
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
-- Whether a pair of an old and a new row must be marked.
$other_row OR (/*new_text*/) IS DISTINCT FROM (/*old_text*/) $or_other_key

-- name: priority
-- Edits come first, and a bulk change is not an edit: rows that a statement marks beyond the first thousand are
-- processed as backfill.
CAST(CASE WHEN row_number() OVER () > 1000 THEN 1 ELSE 0 END AS smallint)

-- name: lock_source
-- The first step of creating an index. The remaining steps are quick, and writers wait only for these.
SELECT semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', $source)

-- name: lock
-- The first step of dropping an index: keeps writers, searches and workers away. If the source exists, it is locked
-- first, because writers lock in this order: a DELETE continues to receipts and chunks.
SELECT semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC to_regclass($source) || (
    SELECT semantic.relations_in_lock_order_v1(index_id, NULL) FROM semantic.generation WHERE chunks = $chunks
) || ARRAY[$receipts, $chunks])

-- name: drop_function
-- Drops the functions and their triggers.
DROP FUNCTION IF EXISTS $function(), $replica() CASCADE

-- name: hang
-- Creates the triggers on the source and on each of its partitions.
SELECT semantic.create_triggers_v1($source, CAST($function_name AS regproc), $stem, $enable)

-- name: register
-- Records a semantic index and its first generation, and creates its search function.
SELECT semantic.register_index_v1($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: unregister
-- Deletes a semantic index, its generations and their jobs from the registry.
SELECT semantic.unregister_index_v1($chunks)

-- name: prepare
-- Checks that a semantic index is in the state that a change expects.
SELECT semantic.require_state_v1($name, $source, $was)

-- name: begin
-- Records the copy `next` of a semantic index.
SELECT semantic.begin_generation_v1($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: withdraw
-- Takes this copy back, whatever its role is now.
SELECT semantic.withdraw_generation_v1($name, $source, $target, $was)
