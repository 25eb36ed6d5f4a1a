-- The planner's estimate of the rows of a table with all its partitions; NULL if one of them was never analyzed.
CREATE FUNCTION semantic.analyzed_rows_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CASE WHEN bool_and(planned >= 0) THEN sum(planned)::bigint END FROM semantic.rows_estimate_parts_v1(relation)
$body$;
