-- How many seconds our own DDL waits for tables that others use: SET semantic.lock_seconds = 120. The wait ends well
-- before a statement_timeout would.
CREATE FUNCTION semantic.lock_wait_seconds_v1() RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN least(
    CAST(coalesce(nullif(current_setting('semantic.lock_seconds', true), ''), '30') AS double precision),
    0.8 * CAST(nullif(
        extract(epoch FROM CAST(current_setting('statement_timeout') AS interval)), 0
    ) AS double precision)
);
