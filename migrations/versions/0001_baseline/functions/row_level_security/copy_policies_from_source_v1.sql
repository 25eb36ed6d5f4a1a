-- Gives a table this row-level security and these policies.
CREATE FUNCTION semantic.copy_policies_from_source_v1(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    wanted record;
    shown record;
BEGIN
    SELECT source.relrowsecurity, source.relforcerowsecurity, CAST(semantic_index.source AS text) AS origin,
           quote_ident(own.relname) AS own
    INTO wanted
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    JOIN pg_class AS source ON source.oid = semantic_index.source
    JOIN pg_class AS own ON own.oid = relation
    WHERE relation IN (generation.chunks, generation.receipts);
    EXECUTE format(
        'ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', relation,
        CASE WHEN wanted.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
        CASE WHEN wanted.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END
    );
    FOR shown IN
        SELECT polname FROM pg_policy
        WHERE polrelid = relation
          AND (
              polpermissive OR starts_with(obj_description(oid, 'pg_policy'), 'Made and followed by pg_semantic')
              OR polname IN (SELECT name FROM semantic.wanted_policies_v1(relation, 'source', 'own'))
          )
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', shown.polname, relation);
    END LOOP;
    FOR shown IN
        SELECT made.name, made.kind, made.condition, plain.condition AS marked, (
            SELECT string_agg(semantic.role_name_v1(role), ', ' ORDER BY role)
            FROM unnest(made.roles) AS role
        ) AS roles
        FROM semantic.wanted_policies_v1(relation, wanted.origin, wanted.own) AS made
        JOIN semantic.wanted_policies_v1(relation, 'source', 'own') AS plain USING (name)
    LOOP
        EXECUTE format(
            'CREATE POLICY %I ON %s AS %s FOR SELECT TO %s USING (%s)',
            shown.name, relation, shown.kind, shown.roles, shown.condition
        );
        EXECUTE format(
            'COMMENT ON POLICY %I ON %s IS %L', shown.name, relation,
            semantic.policy_comment_v1(relation, CAST(shown.name AS name), shown.kind, shown.marked)
        );
    END LOOP;
END
$body$;
