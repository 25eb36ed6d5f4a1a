-- The statements that let the roles that can use the source, and no others, use the objects of an index: first those
-- that close, then policies, then those that open. No row if nothing needs to change. The objects belong to the owner
-- of the source, except the functions that triggers call, which need the privilege to append marks. They stay with the
-- role that created them if that role, or the current one, may not give them to the owner.
CREATE FUNCTION semantic.privilege_statements_v1(known_index integer) RETURNS TABLE (step text, object text, statement text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH source AS MATERIALIZED (
        SELECT relowner FROM semantic.semantic_index JOIN pg_class ON pg_class.oid = source
        WHERE semantic_index.id = known_index
    ),
    part AS MATERIALIZED (
        SELECT parts.*, kind = 'TABLE' AND NOT semantic.has_wanted_policies_v1(parts.part) AS bare,
               CASE WHEN kind IN ('VIEW', 'PARTITION') THEN 'TABLE' ELSE kind END || ' ' || name AS target
        FROM semantic.index_objects_v1(known_index) AS parts
    ),
    wanted AS MATERIALIZED (SELECT * FROM semantic.wanted_privileges_v1(known_index)),
    present AS MATERIALIZED (
        SELECT part, target, name, grantee AS role, privilege_type AS privilege, is_grantable AS too_much, bare
        FROM part CROSS JOIN LATERAL aclexplode(acl)
        WHERE grantee <> owner
        UNION
        SELECT part, target, name, grantee, privilege_type, true, bare
        FROM part
        JOIN pg_attribute ON attrelid = part AND kind <> 'FUNCTION' AND NOT attisdropped
        CROSS JOIN LATERAL aclexplode(attacl)
        WHERE grantee <> owner
    ),
    closed AS MATERIALIZED (
        SELECT part, target, name, role
        FROM present LEFT JOIN wanted USING (part, target, role, privilege)
        GROUP BY part, target, name, role
        HAVING bool_or(too_much OR bare OR wanted.part IS NULL)
    ),
    due (number, step, object, statement) AS (
        SELECT 1, 'own', name, format('ALTER %s OWNER TO %s', target, CAST(relowner AS regrole))
        FROM part CROSS JOIN source
        WHERE owner <> relowner AND (privilege IS NOT NULL OR kind = 'PARTITION') AND (
            has_schema_privilege(relowner, place, 'CREATE')
            OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        ) AND pg_has_role(current_user, owner, 'USAGE') AND pg_has_role(
            current_user, relowner,
            CASE WHEN CAST(current_setting('server_version_num') AS integer) < 160000 THEN 'MEMBER' ELSE 'SET' END
        )
        UNION ALL
        SELECT 2, 'close', name, format('REVOKE ALL ON %s FROM %s CASCADE', target, semantic.role_name_v1(role))
        FROM closed
        UNION ALL
        SELECT 3, 'secure', name, format('SELECT semantic.copy_policies_from_source_v1(%L)', name) FROM part WHERE bare
        UNION ALL
        SELECT 4, 'open', named.name, format(
            'GRANT %s ON %s TO %s', string_agg(wanted.privilege, ', '), wanted.target,
            semantic.role_name_v1(wanted.role)
        )
        FROM wanted
        JOIN (SELECT part, name FROM part) AS named USING (part)
        LEFT JOIN present USING (part, role, privilege)
        LEFT JOIN closed USING (part, role)
        WHERE present.part IS NULL OR closed.part IS NOT NULL
        GROUP BY named.name, wanted.target, wanted.role
    )
    SELECT due.step, due.object, due.statement FROM due ORDER BY due.number, due.object, due.statement
$body$;
