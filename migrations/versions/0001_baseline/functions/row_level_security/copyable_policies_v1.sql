-- The policies of a source that apply to SELECT, if a copy has all columns that they use: the key and the column that
-- the index declares as `policy_column`. They are then the copy's policies too. NULL if they use other columns.
CREATE FUNCTION semantic.copyable_policies_v1(index_source regclass, spec jsonb) RETURNS oid[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CASE WHEN count(*) FILTER (
        WHERE pg_get_expr(polqual, polrelid) LIKE '%' || quote_ident(relname) || '.%'  -- it may name the table
           OR EXISTS (
               SELECT FROM pg_depend
               LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid AND attnum > 0
               WHERE classid = CAST('pg_policy' AS regclass) AND objid = pg_policy.oid
                 AND refclassid = CAST('pg_class' AS regclass) AND refobjid = index_source AND deptype = 'n'
                 AND attname IS DISTINCT FROM spec ->> 'policy_column'
                 AND NOT coalesce(spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', attname)), false)
           )
    ) = 0 THEN coalesce(array_agg(pg_policy.oid ORDER BY polname), '{}') END
    FROM pg_policy
    JOIN pg_class ON pg_class.oid = polrelid
    WHERE polrelid = index_source AND polcmd IN ('r', '*') AND polqual IS NOT NULL
      AND spec ->> 'policy_column' IS NOT NULL
    HAVING spec ->> 'policy_column' IS NOT NULL
$body$;
