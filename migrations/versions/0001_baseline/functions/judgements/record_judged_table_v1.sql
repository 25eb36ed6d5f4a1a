-- Returns the number of a table for judged_query, and records the table or its present name.
CREATE FUNCTION semantic.record_judged_table_v1(judged regclass) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
AS $body$
DECLARE
    known integer := semantic.judged_table_v1(judged);
BEGIN
    IF known IS NULL THEN
        INSERT INTO semantic.judged_table (source, name)
        VALUES (judged, CAST(judged AS text))
        ON CONFLICT (source, name) DO UPDATE SET name = excluded.name  -- another transaction has just recorded it
        RETURNING id INTO known;
    ELSE
        UPDATE semantic.judged_table
        SET source = judged, name = CAST(judged AS text)
        WHERE id = known AND (source <> judged OR name <> CAST(judged AS text));
    END IF;
    RETURN known;
END
$body$;
