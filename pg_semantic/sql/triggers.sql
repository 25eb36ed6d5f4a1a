-- The statements that attach a semantic index to its table. Templates: `index/triggers.py` fills in quoted identifiers.

-- name: create_functions
-- Creates the capture functions. By then, the registry must know which columns the text of a row comes from.
SELECT semantic.create_capture_functions_v1($name, $source)

-- name: lock_source
-- The first step of creating an index. The remaining steps are quick, and writers wait only for these.
SELECT semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', $source)

-- name: lock
-- The first step of dropping an index: keeps writers, searches and workers away. If the source exists, it is locked
-- first, because writers lock in this order: a DELETE continues to receipts and chunks.
SELECT semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC to_regclass($source) || (
    SELECT semantic.relations_in_lock_order_v1(index_id, NULL) FROM semantic.generation WHERE chunks = $chunks
) || ARRAY[$receipts, $chunks])

-- name: drop_function
-- Drops the functions and their triggers.
DROP FUNCTION IF EXISTS $function(), $replica() CASCADE

-- name: create_triggers
-- Creates the triggers on the source and on each of its partitions.
SELECT semantic.create_triggers_v1($source, CAST($function_name AS regproc), $stem, $enable)

-- name: register
-- Records a semantic index and its first generation, and creates its search function.
SELECT semantic.register_index_v1($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: set_recall_objective
-- Gives all copies of a semantic index this recall objective.
SELECT semantic.set_recall_objective_v1($chunks, $objective)

-- name: unregister
-- Deletes a semantic index, its generations and their jobs from the registry.
SELECT semantic.unregister_index_v1($chunks)

-- name: prepare
-- Checks that a semantic index is in the state that a change expects.
SELECT semantic.require_state_v1($name, $source, $was)

-- name: begin
-- Records the copy `next` of a semantic index.
SELECT semantic.begin_generation_v1($name, $source, $chunks, $receipts, $encoder_id, $spec)

-- name: withdraw
-- Takes this copy back, whatever its role is now.
SELECT semantic.withdraw_generation_v1($name, $source, $target, $was)
