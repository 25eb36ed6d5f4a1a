-- The system identifier that initdb gave the cluster; NULL if the role cannot read it.
CREATE FUNCTION semantic.system_identifier_v1() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') THEN
        RETURN (SELECT system_identifier FROM pg_control_system());
    END IF;
    RETURN NULL;
END
$body$;
