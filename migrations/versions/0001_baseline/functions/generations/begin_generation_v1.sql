-- Registers a second copy of an index, whose tables exist already, and returns its id.
CREATE FUNCTION semantic.begin_generation_v1(
    index_name text, index_source regclass, next_chunks regclass, next_receipts regclass,
    next_encoder_id bigint, target jsonb
) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer := (
        SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
    );
    made integer;
BEGIN
    PERFORM semantic.require_text_columns_v1(index_source, target, true);
    PERFORM CAST(target #>> '{lexical,config}' AS regconfig);
    INSERT INTO semantic.encoder (id, reference, dimensions, query_prompt, document_prompt)
    VALUES (
        next_encoder_id,
        target #>> '{encoder,reference}',
        (target #>> '{encoder,dimensions}')::integer,
        target #>> '{encoder,query_prompt}',
        target #>> '{encoder,document_prompt}'
    )
    ON CONFLICT DO NOTHING;
    INSERT INTO semantic.generation (index_id, role, encoder_id, chunks, receipts, spec)
    VALUES (known_index, 'next', next_encoder_id, next_chunks, next_receipts, target)
    RETURNING id INTO made;
    PERFORM semantic.create_views_v1(made);
    RETURN made;
END
$body$;
