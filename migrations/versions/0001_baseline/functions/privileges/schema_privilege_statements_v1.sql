-- The statements that give every role the privileges in public_privileges_v1 and take all others from every role but the
-- owner, whatever default privileges granted. The views of generations are left out: their privileges are those of their
-- index. Owners of sources, and of functions that append marks, keep what they were granted. No table has row-level
-- security.
CREATE FUNCTION semantic.schema_privilege_statements_v1() RETURNS TABLE (step text, object text, statement text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
AS $body$
    WITH part AS MATERIALIZED (SELECT * FROM semantic.schema_objects_v1()),
    wanted AS MATERIALIZED (SELECT *, coalesce(of_column, '') AS place FROM semantic.public_privileges_v1()),
    present AS MATERIALIZED (
        SELECT object, coalesce(of_column, '') AS place, grantee, privilege_type AS privilege, is_grantable
        FROM part CROSS JOIN LATERAL aclexplode(acl)
        WHERE grantee <> owner AND grantee NOT IN (
            SELECT relowner FROM semantic.semantic_index JOIN pg_class ON pg_class.oid = source
            UNION ALL
            SELECT parts.owner FROM semantic.semantic_index CROSS JOIN LATERAL semantic.index_objects_v1(id) AS parts
            WHERE parts.kind = 'FUNCTION'
        )
    ),
    closed AS MATERIALIZED (
        SELECT object, grantee
        FROM present LEFT JOIN wanted USING (object, place, privilege)
        GROUP BY object, grantee
        HAVING bool_or(grantee <> 0 OR is_grantable OR wanted.object IS NULL)
    )
    SELECT 'close', object, format('REVOKE ALL ON %s FROM %s CASCADE', object, semantic.role_name_v1(grantee))
    FROM closed
    UNION ALL
    SELECT 'open', wanted.object, format(
        'GRANT %s%s ON %s TO PUBLIC', min(wanted.privilege),
        ' (' || string_agg(quote_ident(wanted.of_column), ', ') || ')', wanted.object
    )
    FROM wanted
    JOIN (SELECT DISTINCT object FROM part) AS there USING (object)
    LEFT JOIN present USING (object, place, privilege)
    LEFT JOIN closed ON closed.object = wanted.object AND closed.grantee = 0
    WHERE present.object IS NULL OR closed.object IS NOT NULL
    GROUP BY wanted.object
    UNION ALL
    -- an event trigger may enable it on every new table; without a policy, only the owner then sees rows
    SELECT 'open', 'TABLE ' || CAST(CAST(oid AS regclass) AS text), format(
        'ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', CAST(oid AS regclass)
    )
    FROM pg_class
    WHERE relnamespace = CAST('semantic' AS regnamespace) AND relkind = 'r'
      AND (relrowsecurity OR relforcerowsecurity)
    ORDER BY 1, 2, 3
$body$;
