-- Whether a table of a copy hides the rows that its source hides: it has the source's row-level security, each policy
-- that is needed, and no other that could show rows.
CREATE FUNCTION semantic.has_wanted_policies_v1(relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT coalesce(bool_and(
        (own.relrowsecurity, own.relforcerowsecurity) = (source.relrowsecurity, source.relforcerowsecurity)
        AND NOT EXISTS (
            SELECT
            FROM (
                SELECT polname, polroles, oid FROM pg_policy
                WHERE polrelid = own.oid AND (
                    polpermissive
                    OR starts_with(obj_description(oid, 'pg_policy'), 'Made and followed by pg_semantic')
                )
            ) AS policy
            FULL JOIN semantic.wanted_policies_v1(relation, 'source', 'own') AS wanted ON wanted.name = policy.polname
            WHERE obj_description(policy.oid, 'pg_policy') IS DISTINCT FROM semantic.policy_comment_v1(
                    relation, CAST(wanted.name AS name), wanted.kind, wanted.condition
                )
                OR NOT (policy.polroles @> wanted.roles AND policy.polroles <@ wanted.roles)
                OR wanted.name IS NULL OR policy.oid IS NULL
        )
    ), true)
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    JOIN pg_class AS source ON source.oid = semantic_index.source
    JOIN pg_class AS own ON own.oid = relation
    WHERE relation IN (generation.chunks, generation.receipts)
$body$;
