-- Registers a semantic index whose tables were just created. Returns the id of its generation.
CREATE FUNCTION semantic.register_index_v1(
    index_name text, index_source regclass, index_chunks regclass, index_receipts regclass,
    index_encoder_id bigint, index_spec jsonb
) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer;
    known_generation integer;
BEGIN
    PERFORM semantic.require_same_schema_and_no_children_v1(index_source, index_chunks);
    PERFORM semantic.unregister_index_v1(generation.chunks)  -- whose tables were dropped by hand
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    WHERE generation.role = 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source)
      AND (generation.chunks = index_chunks OR NOT EXISTS (SELECT FROM pg_class WHERE oid = generation.chunks));
    PERFORM CAST(index_spec #>> '{lexical,config}' AS regconfig);  -- raises an error if it does not exist
    INSERT INTO semantic.encoder (id, reference, dimensions, query_prompt, document_prompt)
    VALUES (
        index_encoder_id,
        index_spec #>> '{encoder,reference}',
        CAST(index_spec #>> '{encoder,dimensions}' AS integer),
        index_spec #>> '{encoder,query_prompt}',
        index_spec #>> '{encoder,document_prompt}'
    )
    ON CONFLICT DO NOTHING;
    INSERT INTO semantic.semantic_index (name, source)
    VALUES (index_name, index_source)
    RETURNING id INTO known_index;
    INSERT INTO semantic.generation (index_id, role, encoder_id, chunks, receipts, spec)
    VALUES (known_index, 'live', index_encoder_id, index_chunks, index_receipts, index_spec)
    RETURNING id INTO known_generation;
    PERFORM semantic.create_views_v1(known_generation);
    PERFORM semantic.create_search_function_v1(known_index);
    RETURN known_generation;
END
$body$;
