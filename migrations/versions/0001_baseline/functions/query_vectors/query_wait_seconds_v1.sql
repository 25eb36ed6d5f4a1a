-- How long a search waits: at most five minutes. The wait ends before a statement_timeout would, whose error doesn't say what to do.
CREATE FUNCTION semantic.query_wait_seconds_v1() RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN least(
    300,
    CAST(coalesce(nullif(current_setting('semantic.wait_seconds', true), ''), '5') AS double precision),
    0.8 * CAST(nullif(
        extract(epoch FROM CAST(current_setting('statement_timeout') AS interval)), 0
    ) AS double precision)
);
