-- A template of the common table expression `hybrid`: the reciprocal rank fusion of `dense` and `lexical`.
CREATE FUNCTION semantic.hybrid_sql_v1() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN $sql$
    hybrid AS MATERIALIZED (
        SELECT {either_key}, reach._step,
               CASE WHEN dense._rank <= reach._step THEN 1 / (CAST(60 AS double precision) + dense._rank)
                    ELSE 0 END
               + CASE WHEN lexical._rank <= reach._step THEN 1 / (CAST(60 AS double precision) + lexical._rank)
                      ELSE 0 END AS _value
        FROM dense FULL JOIN lexical ON {dense_is_lexical}
        CROSS JOIN LATERAL (
            SELECT min(100 * (1 << doubled)) AS _step
            FROM generate_series(0, 7) AS doubled
            WHERE 100 * (1 << doubled) >= least(dense._rank, lexical._rank)
        ) AS reach
    )$sql$;
