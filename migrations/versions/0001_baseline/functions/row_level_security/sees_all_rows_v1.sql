-- Whether the current role can read every row of a copy's source. If so, statistics of all rows tell it nothing new.
CREATE FUNCTION semantic.sees_all_rows_v1(generation_id integer) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    RETURN EXISTS (
        SELECT FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.id = sees_all_rows_v1.generation_id
          AND has_table_privilege(generation.receipts, 'SELECT') AND NOT row_security_active(semantic_index.source)
    );
END
$body$;
