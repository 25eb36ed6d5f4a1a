-- Returns the number of a table for judged_query, and records the table or its present name. If the table is known by its
-- name only, and the one that had the name exists under another, that one keeps its queries and this one gets a copy.
CREATE FUNCTION semantic.record_judged_table_v1(judged regclass) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
AS $body$
DECLARE
    known integer := semantic.judged_table_v1(judged);
    renamed integer;
BEGIN
    UPDATE semantic.judged_table
    SET name = CAST(source AS text)
    WHERE id = known AND source <> judged AND EXISTS (SELECT FROM pg_class WHERE oid = source)
    RETURNING id INTO renamed;
    IF known IS NULL OR renamed IS NOT NULL THEN
        INSERT INTO semantic.judged_table (source, name)
        VALUES (judged, CAST(judged AS text))
        ON CONFLICT (source, name) DO UPDATE SET name = excluded.name  -- another transaction has just recorded it
        RETURNING id INTO known;
        INSERT INTO semantic.judged_query (table_id, query_hash, held_out, recorded_at)
        SELECT known, query_hash, held_out, recorded_at FROM semantic.judged_query WHERE table_id = renamed
        ON CONFLICT DO NOTHING;
    ELSE
        UPDATE semantic.judged_table
        SET source = judged, name = CAST(judged AS text)
        WHERE id = known AND (source <> judged OR name <> CAST(judged AS text));
    END IF;
    RETURN known;
END
$body$;
