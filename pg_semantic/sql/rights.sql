-- Who may use what belongs to a semantic index: exactly those who may use its source (migration 0004), and what every role
-- may read in our schema (migration 0005).

-- name: indexes
-- Every semantic index whose source exists.
SELECT semantic_index.id, nspname || '.' || semantic_index.name AS name
FROM semantic.semantic_index
JOIN pg_class ON pg_class.oid = semantic_index.source
JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
ORDER BY semantic_index.id

-- name: due
-- The statements that an index needs so that its rights are those of its source, in their order.
SELECT step, object, statement FROM semantic.due_rights_v1(:index)

-- name: claim
-- Takes the lock of `semantic.follow_rights_v1`; gives whether nobody else has it.
SELECT pg_try_advisory_xact_lock(723628196, :index)

-- name: follow
-- Runs them.
SELECT semantic.follow_rights_v1(:index)

-- name: close
-- Runs those that take rights away, which need no lock on a table.
SELECT semantic.follow_rights_v1(:index, true)

-- name: said
-- Who can read an index, in a sentence.
SELECT semantic.rights_said_v1(:index)

-- name: said_of_chunks
-- The same, of the index with this chunk table.
SELECT semantic.rights_said_v1(index_id) FROM semantic.generation WHERE chunks = to_regclass(:chunks)

-- name: schema_due
-- The statements that our schema needs so that it gives every role what it should, and nothing more.
SELECT step, object, statement FROM semantic.due_schema_rights_v1()

-- name: close_schema
-- Runs them.
SELECT semantic.close_schema_v1()
