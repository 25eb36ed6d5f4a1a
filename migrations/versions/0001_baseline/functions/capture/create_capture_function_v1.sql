-- Creates one of the two capture functions, whose name ends with `suffix`. SECURITY DEFINER, so that writers need no
-- privileges on our tables. JIT is off, because a plan made for a large statement would be compiled again for every
-- small one after it. The settings fix how dates, times, intervals, floats and bytes in keys are written as text; keys
-- that need none of them do without, because each one slows down every statement.
CREATE FUNCTION semantic.create_capture_function_v1(known_index integer, suffix text, body text, settings boolean)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    function_name text := (
        SELECT format('%I.%I', nspname, name || '_capture' || suffix)
        FROM semantic.semantic_index
        JOIN pg_class ON pg_class.oid = source
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE semantic_index.id = known_index
    );
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp SET jit = off %s AS %L',
        function_name,
        CASE WHEN settings THEN
            'SET datestyle = ''ISO'' SET timezone = ''UTC'' SET bytea_output = ''hex'' '
            'SET intervalstyle = ''postgres'' SET extra_float_digits = 1' END,
        body
    );
    EXECUTE format(
        'COMMENT ON FUNCTION %s() IS %L', function_name, semantic.virtual_column_expressions_v1(known_index)
    );
END
$body$;
