-- The parts of a spec that make two copies different. A spec from before BM25 or partitions doesn't mention them.
-- The recall objective can change without another copy.
CREATE FUNCTION semantic.spec_without_names_v1(spec jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN jsonb_build_object('lexical', NULL, 'policy_column', NULL, 'partitions', 1, 'partition_by', NULL, 'compressed', NULL)
    || (spec - '{name,table,schema,key,recall_objective}'::text[]);
