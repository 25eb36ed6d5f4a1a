-- Rejects a table that an index cannot be moved to, and says why.
CREATE FUNCTION semantic.require_move_target_v1(known_index integer, adopted regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    problem text;
BEGIN
    PERFORM semantic.require_text_columns_v1(adopted, spec, false) FROM semantic.generation WHERE index_id = known_index;
    SELECT CASE
        WHEN relation.relkind NOT IN ('r', 'p') THEN 'it is not a table'
        WHEN place.relnamespace <> relation.relnamespace THEN 'it is in another schema than the index'
        WHEN relation.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation.oid)
            THEN 'other tables inherit from it'
        WHEN EXISTS (
            SELECT FROM pg_attribute AS own
            LEFT JOIN pg_attribute AS other
                ON other.attrelid = relation.oid AND other.attname = own.attname AND NOT other.attisdropped
            WHERE own.attrelid = generation.chunks AND own.attname IN (
                SELECT part.value ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key') AS part (value)
            ) AND other.atttypid IS DISTINCT FROM own.atttypid
        ) THEN 'its key has other columns or types'
        WHEN NOT EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = relation.oid AND indisprimary AND indisvalid AND indimmediate
              AND indnkeyatts = jsonb_array_length(generation.spec -> 'key')
              AND NOT EXISTS (
                  SELECT FROM unnest(indkey::int2[]) WITH ORDINALITY AS part (attnum, number)
                  LEFT JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = part.attnum
                  WHERE part.number <= indnkeyatts AND (attname IS NULL OR attname NOT IN (
                      SELECT value ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key')
                  ))
              )
        ) THEN 'its primary key is not the key of the index'
    END INTO problem
    FROM semantic.generation
    JOIN pg_class AS place ON place.oid = generation.chunks
    JOIN pg_class AS relation ON relation.oid = adopted
    WHERE generation.index_id = known_index AND generation.role = 'live';
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'the index cannot be moved to table %: %', adopted, problem
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Change the table to match, or drop the index and create it again.';
    END IF;
END
$body$;
