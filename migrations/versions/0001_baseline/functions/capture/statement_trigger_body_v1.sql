-- The template of the function of the four statement triggers.
-- Marks stream from the transition tables into semantic.mark, so no statement is too large and none needs extra memory.
-- A probe detects a missing column. It reads no rows or, for an UPDATE, looks for the first row to mark: most UPDATEs
-- change no text and end there. The marks are written outside the block of the probe, because a write in a block with
-- EXCEPTION is a subtransaction. If a column is missing, the writer's statement still succeeds and leaves a mark
-- without a key: all rows are compared again once the index fits its table. TRUNCATE does the same. On one partition,
-- it empties the chunk table for all of them, because CASCADE doesn't look at rows.
-- The ids of the generations are written into the function, not looked up: a transaction whose snapshot is older than a
-- generation would not see it. An UPDATE marks all rows if any row got a new key, because chunks have moved with the
-- keys. Rows cannot swap keys within one statement, because a key that a foreign key references is checked row by row.
-- The join is FULL because a FULL JOIN is never a nested loop. The session keeps the plan, which must suit a statement
-- of any size, whatever size it was made for.
CREATE FUNCTION semantic.statement_trigger_body_v1() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN $template$
#variable_conflict use_column
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            PERFORM {new_key} FROM new_rows WHERE false;
        ELSIF TG_OP = 'UPDATE' THEN
            PERFORM FROM new_rows FULL JOIN old_rows ON {same_key} WHERE {is_changed} LIMIT 1;
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
        ELSIF TG_OP = 'DELETE' THEN
            PERFORM {old_key} FROM old_rows WHERE false;
        ELSE
            RAISE undefined_column;
        END IF;
    EXCEPTION WHEN undefined_column THEN
        INSERT INTO semantic.mark (generation_id)
        SELECT generation.id FROM (VALUES {generation_rows}) AS generation (id);
        RETURN NULL;
    END;
    IF TG_OP = 'INSERT' THEN
        {inserted}
    ELSIF TG_OP = 'UPDATE' THEN
        {updated}
    ELSE
        {deleted}
    END IF;
    RETURN NULL;
END
$template$;
