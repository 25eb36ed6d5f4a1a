-- The operators <, <=, =, >= and > of each key column, in key order, qualified with their schema; NULL if they are in
-- pg_catalog.
CREATE FUNCTION semantic.key_operators_v1(source regclass, spec jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT jsonb_agg(own.operators ORDER BY part.number)
    FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
    LEFT JOIN LATERAL (
        SELECT (
            SELECT jsonb_agg(format('OPERATOR(%I.%s)', nspname, oprname) ORDER BY amopstrategy)
            FROM pg_amop
            JOIN pg_operator ON pg_operator.oid = amopopr
            JOIN pg_namespace ON pg_namespace.oid = oprnamespace
            WHERE amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
              AND amopstrategy BETWEEN 1 AND 5
            HAVING bool_or(nspname <> 'pg_catalog')
        ) AS operators
        FROM pg_constraint
        JOIN pg_index ON indexrelid = conindid
        CROSS JOIN LATERAL unnest(conkey, CAST(indclass AS oid[])) AS one (number, class)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = one.number AND attname = part.value ->> 'name'
        JOIN pg_opclass ON pg_opclass.oid = one.class
            AND opcnamespace <> CAST('pg_catalog' AS regnamespace)  -- called often, and most are in pg_catalog
        WHERE conrelid = source AND contype = 'p'
    ) AS own ON true
);
