-- Called by statements before they compare a vector with those of a table.
CREATE FUNCTION semantic.require_encoder_v1(index_chunks regclass, asked text, asked_dimensions integer)
RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known record;
BEGIN
    SELECT encoder.reference, encoder.dimensions INTO known
    FROM semantic.generation
    JOIN semantic.encoder ON encoder.id = generation.encoder_id
    WHERE generation.chunks = index_chunks;
    IF known.reference = asked AND known.dimensions = asked_dimensions THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION '% has vectors of encoder % (% dimensions), but the query vector comes from % (% dimensions)',
        index_chunks, known.reference, known.dimensions, asked, asked_dimensions
    USING ERRCODE = 'invalid_parameter_value',
        HINT = 'The index was switched to another encoder, or is declared with one that it does not have yet.';
END
$body$;
