-- Who can use the objects of a semantic index: exactly the roles that can use its source. And what
-- every role can read in our schema.

-- name: indexes
-- Every semantic index whose source exists.
SELECT semantic_index.id, nspname || '.' || semantic_index.name AS name
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = semantic_index.source
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
ORDER BY semantic_index.id

-- name: due
-- The statements, in order, that give an index the same privileges as its source.
SELECT step, object, statement FROM semantic.privilege_statements_v1(:index)

-- name: claim
-- Takes the lock of `semantic.apply_privileges_v1`; false if another session has it.
SELECT pg_try_advisory_xact_lock(723628196, :index)

-- name: follow
-- Runs these statements.
SELECT semantic.apply_privileges_v1(:index)

-- name: close
-- Runs those that revoke privileges; they need no lock on a table.
SELECT semantic.apply_privileges_v1(:index, true)

-- name: said
-- A sentence that says who can read an index.
SELECT semantic.describe_privileges_v1(:index)

-- name: said_of_chunks
-- The same for the index with this chunk table.
SELECT semantic.describe_privileges_v1(index_id) FROM semantic.generation WHERE chunks = to_regclass(:chunks)

-- name: schema_due
-- The statements that give every role the privileges on our schema that it should have, and no others.
SELECT step, object, statement FROM semantic.schema_privilege_statements_v1()

-- name: close_schema
-- Runs these statements.
SELECT semantic.apply_schema_privileges_v1()
