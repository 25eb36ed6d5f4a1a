-- An estimate of the rows of a table with all its partitions, without a scan: the planner's, or that of the server's
-- statistics if there are many more since, which count rows twice that were inserted just before an ANALYZE. If both know
-- nothing, as after pg_upgrade, the size divided by the width of a row, as the planner does (estimate_rel_size): 32 bytes
-- for a value without a fixed size, and 28 for the row itself.
CREATE FUNCTION semantic.rows_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT sum(
        CASE
            WHEN planned >= 0 AND live <= 2 * planned THEN planned
            WHEN live > 0 THEN live
            ELSE bytes / (
                SELECT 28 + sum(CASE WHEN attlen > 0 THEN attlen ELSE 32 END)
                FROM pg_attribute
                WHERE attrelid = stored AND attnum > 0 AND NOT attisdropped
            )
        END
    )::bigint
    FROM semantic.rows_estimate_parts_v1(relation)
$body$;
