-- Whether a text can be cast to a type. PostgreSQL 15 has no pg_input_is_valid, and in later versions not every type
-- supports it. The types of most keys don't need a dynamic statement, which takes 20 times as long.
CREATE FUNCTION semantic.is_valid_value_v1(value text, type regtype) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    CASE type
        WHEN CAST('text' AS regtype), CAST('varchar' AS regtype) THEN RETURN true;
        WHEN CAST('integer' AS regtype) THEN PERFORM CAST(value AS integer);
        WHEN CAST('bigint' AS regtype) THEN PERFORM CAST(value AS bigint);
        WHEN CAST('uuid' AS regtype) THEN PERFORM CAST(value AS uuid);
        ELSE EXECUTE format('SELECT CAST($1 AS %s)', type) USING value;
    END CASE;
    RETURN true;
EXCEPTION
    WHEN data_exception OR check_violation OR not_null_violation OR syntax_error OR name_too_long THEN
        RETURN false;
END
$body$;
