-- Drops the search function of an index, whatever its arguments, but no other function with that name. A search
-- function in a schema without a table of the index's name searches nothing, so it is dropped too.
CREATE FUNCTION semantic.drop_search_function_v1(known_index integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT pg_proc.oid
        FROM semantic.semantic_index
        JOIN pg_proc ON proname = semantic_index.name || '_search'
        JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE semantic_index.id = known_index AND position('semantic.search_sql_v1(asked' IN prosrc) > 0 AND (
            pronamespace = (
                SELECT relnamespace
                FROM semantic.generation JOIN pg_class ON pg_class.oid = generation.chunks
                WHERE index_id = known_index AND role = 'live'
            )
            OR to_regclass(format('%I.%I', nspname, semantic_index.name)) IS NULL
        )
    LOOP
        EXECUTE format('DROP FUNCTION %s', made);
    END LOOP;
END
$body$;
