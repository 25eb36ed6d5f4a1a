-- The database objects of a semantic index, apart from its source: tables, partitions, views and functions. The privileges
-- on the search function are those on the live copy. Partitions need no grants, nor do functions that triggers call.
CREATE FUNCTION semantic.index_objects_v1(known_index integer)
RETURNS TABLE (
    generation_id integer, kind text, part oid, name text, place oid, owner oid, acl aclitem[], privilege text
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT generation.id, part.kind, pg_class.oid, CAST(CAST(pg_class.oid AS regclass) AS text), relnamespace,
           relowner, coalesce(relacl, acldefault('r', relowner)), 'SELECT'
    FROM semantic.generation
    CROSS JOIN LATERAL (
        VALUES ('TABLE', generation.chunks), ('TABLE', generation.receipts),
               ('VIEW', to_regclass('semantic.chunks_' || generation.id)),
               ('VIEW', to_regclass('semantic.receipts_' || generation.id))
    ) AS part (kind, relation)
    JOIN pg_class ON pg_class.oid = part.relation
    WHERE generation.index_id = known_index
    UNION ALL
    SELECT generation.id, 'PARTITION', pg_class.oid, CAST(CAST(pg_class.oid AS regclass) AS text), relnamespace,
           relowner, coalesce(relacl, acldefault('r', relowner)), NULL
    FROM semantic.generation
    JOIN pg_inherits ON inhparent = generation.chunks
    JOIN pg_class ON pg_class.oid = inhrelid
    WHERE generation.index_id = known_index
    UNION ALL
    SELECT live.id, 'FUNCTION', pg_proc.oid, CAST(CAST(pg_proc.oid AS regprocedure) AS text),
           pronamespace, proowner, coalesce(proacl, acldefault('f', proowner)),
           CASE WHEN prorettype <> CAST('trigger' AS regtype) THEN 'EXECUTE' END
    FROM semantic.semantic_index
    JOIN semantic.generation AS live ON live.index_id = semantic_index.id AND live.role = 'live'
    JOIN pg_class AS chunks ON chunks.oid = live.chunks
    JOIN pg_proc ON pronamespace = chunks.relnamespace AND starts_with(proname, semantic_index.name || '_')
    WHERE semantic_index.id = known_index AND (
        proname = semantic_index.name || '_search' AND position('semantic.search_sql_v1(asked' IN prosrc) > 0
        OR starts_with(proname, semantic_index.name || '_capture') AND prorettype = CAST('trigger' AS regtype)
    )
$body$;
