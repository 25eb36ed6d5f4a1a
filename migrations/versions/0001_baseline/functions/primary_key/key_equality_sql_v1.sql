-- The condition that two rows have the same key, with the operators of the primary key, whatever schema they are in.
CREATE FUNCTION semantic.key_equality_sql_v1(source regclass, spec jsonb, one text, other text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT string_agg(
        format('%1$s%2$I OPERATOR(%3$I.%4$s) %5$s%2$I', one, attname, nspname, oprname, other), ' AND '
    )
    FROM pg_constraint
    JOIN pg_index ON indexrelid = conindid
    CROSS JOIN LATERAL unnest(conkey, CAST(indclass AS oid[])) AS part (number, class)
    JOIN pg_attribute ON attrelid = conrelid AND attnum = part.number
    JOIN pg_opclass ON pg_opclass.oid = part.class
    JOIN pg_amop ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
        AND amopstrategy = 3
    JOIN pg_operator ON pg_operator.oid = amopopr
    JOIN pg_namespace ON pg_namespace.oid = oprnamespace
    WHERE conrelid = source AND contype = 'p'
        AND spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', attname))
);
