-- Our own schema as a whole: who can read its revision, what it contains, and what depends on it.

-- name: readable
-- Every role can see which revision the schema is at.
GRANT SELECT ON semantic.history TO PUBLIC

-- name: set_aside
-- Renames the schema in a transaction that is rolled back; no other session sees this.
ALTER SCHEMA semantic RENAME TO semantic_set_aside

-- name: remove
-- Drops what remains after the first revision is downgraded. Fails if someone has created objects of their own there.
DROP TABLE semantic.history; DROP SCHEMA semantic

-- name: lost_functions
-- Functions that the schema lacks because dropping a type of pgvector dropped them too.
SELECT string_agg(needed.name, ', ')
FROM (VALUES ('sparsevec_from_text_v1'), ('bm25_document_weights_v1'), ('embed_v1'), ('embed')) AS needed (name)
WHERE to_regproc('semantic.' || needed.name) IS NULL

-- name: registered
-- Semantic indexes whose tables exist. Uses only what the first revision has, so it works at any revision.
SELECT DISTINCT nspname || '.' || semantic_index.name AS name
FROM semantic.semantic_index
JOIN semantic.generation ON generation.index_id = semantic_index.id
JOIN pg_class ON pg_class.oid = generation.chunks
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
ORDER BY name

-- name: bereft
-- Semantic indexes whose capture refers to something that the schema lacks, so that every write to their table would
-- fail.
SELECT DISTINCT semantic_index.name
FROM pg_trigger
JOIN pg_proc ON pg_proc.oid = pg_trigger.tgfoid
CROSS JOIN regexp_matches(pg_proc.prosrc, '\msemantic\.(\w+)', 'g') AS called (names)
JOIN semantic.semantic_index ON semantic_index.source = pg_trigger.tgrelid
WHERE starts_with(pg_trigger.tgname, semantic_index.name || '_capture_')
  AND NOT EXISTS (
      SELECT FROM pg_class
      WHERE pg_class.relnamespace = to_regnamespace('semantic') AND pg_class.relname = called.names[1]
  )
  AND NOT EXISTS (
      SELECT FROM pg_proc AS function
      WHERE function.pronamespace = to_regnamespace('semantic') AND function.proname = called.names[1]
  )
ORDER BY semantic_index.name

-- name: snapshot
-- Every object of the schema by its kind and name, with its definition as the server prints it. Omits the views of
-- generations, which come and go.
WITH relation AS (
    SELECT oid, relname, relkind, reloptions, relrowsecurity, relforcerowsecurity, relacl
    FROM pg_class
    WHERE relnamespace = CAST('semantic' AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND relname !~ '^(chunks|receipts)_\d+$'
)
SELECT 'relation ' || relname AS object,
       concat_ws(' ', relkind, relrowsecurity, relforcerowsecurity, CAST(reloptions AS text),
                 CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END) AS definition
FROM relation
UNION ALL
SELECT format('column %s.%s', relname, attname),
       concat_ws(' ', row_number() OVER (PARTITION BY relation.oid ORDER BY attnum), format_type(atttypid, atttypmod),
                 attnotnull, attidentity, attgenerated, CAST(nullif(attcollation, 0) AS regcollation),
                 pg_get_expr(adbin, adrelid))
FROM relation
JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL
SELECT format('constraint %s of %s', conname, relname), pg_get_constraintdef(pg_constraint.oid)
FROM relation
JOIN pg_constraint ON conrelid = relation.oid
UNION ALL
SELECT 'index ' || CAST(CAST(indexrelid AS regclass) AS text), pg_get_indexdef(indexrelid) || ' ' || indisvalid
FROM relation
JOIN pg_index ON indrelid = relation.oid
UNION ALL
SELECT 'trigger ' || tgname, pg_get_triggerdef(pg_trigger.oid)
FROM relation
JOIN pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal
UNION ALL
SELECT format('policy %s of %s', polname, relname),
       concat_ws(' ', polcmd, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM relation
JOIN pg_policy ON polrelid = relation.oid
UNION ALL
SELECT format('function %s(%s)', proname, pg_get_function_identity_arguments(oid)), pg_get_functiondef(oid)
FROM pg_proc
WHERE pronamespace = CAST('semantic' AS regnamespace) AND prokind IN ('f', 'p')
UNION ALL
SELECT 'type ' || typname, format_type(typbasetype, typtypmod)
FROM pg_type
WHERE typnamespace = CAST('semantic' AS regnamespace) AND typtype IN ('d', 'e')
UNION ALL
SELECT 'comment on ' || relname, string_agg(concat_ws(' ', objsubid, description), ' ' ORDER BY objsubid)
FROM relation
JOIN pg_description ON objoid = relation.oid AND classoid = CAST('pg_class' AS regclass)
GROUP BY relname
UNION ALL
SELECT 'privileges of PUBLIC on ' || relname, string_agg(privilege_type, ' ' ORDER BY privilege_type)
FROM relation
CROSS JOIN aclexplode(relacl)
WHERE grantee = 0
GROUP BY relname
UNION ALL
SELECT 'privileges of PUBLIC on the schema', string_agg(privilege_type, ' ' ORDER BY privilege_type)
FROM pg_namespace
CROSS JOIN aclexplode(nspacl)
WHERE nspname = 'semantic' AND grantee = 0
GROUP BY nspname
ORDER BY object
