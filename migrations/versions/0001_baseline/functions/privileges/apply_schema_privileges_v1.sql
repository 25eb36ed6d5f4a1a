-- Runs the statements that bring the privileges on the schema up to date, and returns them. One session at a time.
CREATE FUNCTION semantic.apply_schema_privileges_v1() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    due record;
BEGIN
    PERFORM pg_advisory_xact_lock(723628196, 0);
    FOR due IN SELECT * FROM semantic.schema_privilege_statements_v1() LOOP
        EXECUTE due.statement;
        RETURN NEXT due.statement;
    END LOOP;
END
$body$;
