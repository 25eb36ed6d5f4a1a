-- The comment that marks a policy as ours: a hash of what was declared and of the policy as it is now, so it stays
-- the same until someone alters the policy. The hash covers neither names nor oids of tables and roles, so it
-- survives a rename and a restore.
CREATE FUNCTION semantic.policy_comment_v1(relation regclass, policy name, kind text, condition text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT 'Made and followed by pg_semantic: ' || md5(concat_ws(
        '|', kind, condition, polpermissive, polcmd,
        replace(
            replace(pg_get_expr(polqual, polrelid), quote_ident(relname) || '.', 'own.'),
            format('FROM %s _source', source), 'FROM source _source'
        )
    ))
    FROM pg_policy
    JOIN pg_class ON pg_class.oid = polrelid
    JOIN semantic.generation ON polrelid IN (generation.chunks, generation.receipts)
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    WHERE polrelid = relation AND polname = policy
$body$;
