-- NULL if the role cannot read the table, or while the table is locked for longer than lock_timeout.
CREATE FUNCTION semantic.truncated_rows_v1(receipts regclass) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    counted bigint;
BEGIN
    IF has_table_privilege(receipts, 'SELECT') THEN
        EXECUTE format('SELECT count(*) FROM %s WHERE truncated', receipts) INTO counted;
    END IF;
    RETURN counted;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END
$body$;
