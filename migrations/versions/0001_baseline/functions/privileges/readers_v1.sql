-- The roles that can read everything that a copy contains: the key, the text columns and the `policy_column` column of
-- its source. 0 is PUBLIC. A role that the source's grants don't name is left out if it inherits from a role in the
-- result.
CREATE FUNCTION semantic.readers_v1(generation_id integer) RETURNS SETOF oid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH copy AS MATERIALIZED (
        SELECT source.oid AS source, source.relowner, source.relacl, needed.names, needed.numbers
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        JOIN pg_class AS source ON source.oid = semantic_index.source
        CROSS JOIN LATERAL (
            SELECT array_agg(named.name) AS names, array_agg(attnum) AS numbers
            FROM (
                SELECT jsonb_array_elements_text(spec -> 'columns')
                UNION
                SELECT part ->> 'name' FROM jsonb_array_elements(spec -> 'key') AS part
                UNION
                SELECT spec ->> 'policy_column' WHERE spec ->> 'policy_column' IS NOT NULL
            ) AS named (name)
            LEFT JOIN pg_attribute
                ON attrelid = source.oid AND attname = named.name AND attnum > 0 AND NOT attisdropped
        ) AS needed
        WHERE generation.id = readers_v1.generation_id
    ),
    named AS MATERIALIZED (
        SELECT granted.grantee AS role
        FROM copy
        CROSS JOIN LATERAL (
            SELECT relacl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = source AND NOT attisdropped
        ) AS part (acl)
        CROSS JOIN LATERAL aclexplode(part.acl) AS granted
    ),
    reading AS MATERIALIZED (
        SELECT role.oid AS role, role.oid IN (SELECT role FROM named) AS is_named
        FROM copy
        CROSS JOIN (SELECT oid FROM pg_roles WHERE NOT rolsuper UNION ALL SELECT 0) AS role
        WHERE NOT pg_has_role(nullif(role.oid, 0), relowner, 'USAGE') IS TRUE AND (
            has_table_privilege(role.oid, source, 'SELECT')
            OR array_position(numbers, NULL) IS NULL AND NOT EXISTS (
                SELECT FROM unnest(numbers) AS number
                WHERE NOT has_column_privilege(role.oid, source, number, 'SELECT')
            )
        )
    )
    SELECT role
    FROM reading
    WHERE is_named OR role = 0 OR role >= 16384  -- roles below are the server's own
      AND NOT EXISTS (SELECT FROM reading AS everybody WHERE everybody.role = 0)
      AND NOT EXISTS (
          SELECT FROM reading AS other
          WHERE other.role <> reading.role
            AND (other.is_named OR other.role >= 16384 AND other.role IN (SELECT roleid FROM pg_auth_members))
            AND pg_has_role(reading.role, other.role, 'USAGE')
      )
$body$;
