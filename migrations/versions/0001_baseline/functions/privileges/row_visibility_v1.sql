-- How a copy hides rows: not at all, by asking its source, or by a column of its own.
CREATE FUNCTION semantic.row_visibility_v1(generation_id integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CASE WHEN NOT relrowsecurity THEN 'open'
        WHEN EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'as_source') THEN 'source'
        ELSE 'local' END
    FROM semantic.generation JOIN pg_class ON pg_class.oid = generation.receipts
    WHERE generation.id = row_visibility_v1.generation_id
$body$;
