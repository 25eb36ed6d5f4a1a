-- Which of these queries are held out for the table of an index. SECURITY DEFINER, so that a role that reads the table
-- can ask about queries that it knows, to train on none that is held out, but can't list the hashes of others.
CREATE FUNCTION semantic.held_out_queries_v1(known_index integer, hashes bytea[]) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    judged regclass := (SELECT source FROM semantic.semantic_index WHERE id = known_index);
    asking name := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    IF has_any_column_privilege(asking, judged, 'SELECT') IS NOT TRUE THEN  -- NULL if the table was dropped
        RAISE EXCEPTION 'permission denied for table %', judged USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY
    SELECT query_hash FROM semantic.judged_query
    WHERE held_out AND table_id = semantic.judged_table_v1(judged) AND query_hash = ANY (hashes);
END
$body$;
