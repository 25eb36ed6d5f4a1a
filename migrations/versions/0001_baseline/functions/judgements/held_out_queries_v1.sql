-- Which of these queries are held out for the table of an index. SECURITY DEFINER, so that a role that reads the index
-- can train on no query that is held out. It can't list the hashes, but it can test guesses: for any text, it learns
-- whether that query is held out.
CREATE FUNCTION semantic.held_out_queries_v1(known_index integer, hashes bytea[]) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    judged regclass := (SELECT source FROM semantic.semantic_index WHERE id = known_index);
    asking name := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    IF NOT EXISTS (
        SELECT FROM semantic.generation
        JOIN pg_class ON pg_class.oid = judged
        WHERE index_id = known_index AND role = 'live' AND has_table_privilege(asking, receipts, 'SELECT')
    ) THEN
        RAISE EXCEPTION 'permission denied for the index of table %', judged USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY
    SELECT query_hash FROM semantic.judged_query
    WHERE held_out AND table_id = semantic.judged_table_v1(judged) AND query_hash = ANY (hashes);
END
$body$;
