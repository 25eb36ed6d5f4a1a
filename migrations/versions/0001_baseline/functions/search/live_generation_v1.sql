-- The generation of a chunk table, found by the table's current name.
CREATE FUNCTION semantic.live_generation_v1(index_chunks regclass) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known integer := (SELECT id FROM semantic.generation WHERE chunks = index_chunks);
    problem text := (
        SELECT semantic.source_problem_v1(index_id) FROM semantic.generation WHERE chunks = index_chunks
    );
BEGIN
    IF known IS NULL THEN
        RAISE EXCEPTION '% is not a semantic index', index_chunks
        USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM semantic.index_status lists the semantic indexes.';
    ELSIF problem IS NOT NULL THEN
        RAISE EXCEPTION 'semantic index % cannot be searched: %', index_chunks, problem
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN known;
END
$body$;
