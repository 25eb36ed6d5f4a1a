-- Whether virtual generated columns are now computed from other columns than the ones that capture compares.
CREATE FUNCTION semantic.is_capture_function_outdated_v1(index_source regclass, function_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT EXISTS (
        SELECT FROM semantic.semantic_index
        JOIN pg_class AS source ON source.oid = semantic_index.source
        JOIN pg_proc ON pronamespace = source.relnamespace AND proname = function_name
        WHERE semantic_index.source = index_source AND semantic_index.name || '_capture' = function_name
          AND semantic.virtual_column_expressions_v1(semantic_index.id)
              <> coalesce(obj_description(pg_proc.oid, 'pg_proc'), '')
    )
$body$;
