-- Called by statements before they join vectors with the table that they name: a table that took the name of another
-- one has other rows. A view may have the name of a table that was renamed.
CREATE FUNCTION semantic.require_source_not_replaced_v1(index_chunks regclass, named regclass) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known record;
BEGIN
    SELECT semantic_index.id, semantic_index.name, source, spec INTO known
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    WHERE generation.chunks = index_chunks;
    IF known.source <> named AND EXISTS (
        SELECT FROM pg_class
        WHERE oid = named AND (
            relkind IN ('r', 'p') OR NOT EXISTS (SELECT FROM pg_class AS source WHERE source.oid = known.source)
        )
    ) THEN
        RAISE EXCEPTION 'table % is not the one that semantic index % was created for', named, known.name
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format(
            'Move the index to it: pg-semantic index adopt %s.', known.name
        );
    ELSIF NOT semantic.is_still_unique_key_v1(known.source, known.spec) THEN
        RAISE EXCEPTION 'semantic index % cannot be searched: %', known.name, semantic.source_problem_v1(known.id)
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN true;
END
$body$;
