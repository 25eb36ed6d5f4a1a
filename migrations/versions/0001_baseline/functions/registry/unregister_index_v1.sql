-- Forgets a semantic index: its search function, all its generations, its jobs and its encoders.
CREATE FUNCTION semantic.unregister_index_v1(index_chunks regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    gone integer := (SELECT index_id FROM semantic.generation WHERE chunks = index_chunks);
BEGIN
    PERFORM semantic.drop_search_function_v1(gone);
    PERFORM semantic.delete_generation_v1(id, chunks <> index_chunks)
    FROM semantic.generation
    WHERE index_id = gone
    ORDER BY id DESC;
    DELETE FROM semantic.semantic_index WHERE id = gone;
END
$body$;
