-- Sets the recall objective of an index in the specs of all its copies, or removes it. Nothing is built again. Without
-- an objective, searches go back to the default unless `pg-semantic tune --recall` chose the number.
CREATE FUNCTION semantic.set_recall_objective_v1(index_chunks regclass, objective double precision) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer := (SELECT index_id FROM semantic.generation WHERE chunks = index_chunks);
BEGIN
    IF known_index IS NULL THEN
        RAISE EXCEPTION 'there is no semantic index with the table %', index_chunks USING ERRCODE = 'undefined_object';
    END IF;
    UPDATE semantic.generation
    SET spec = spec || jsonb_build_object('recall_objective', objective)
    WHERE index_id = known_index;
    UPDATE semantic.recall
    SET measure_at = now(), problem = NULL, ef_search = CASE WHEN objective IS NOT NULL OR evidence IS NOT NULL THEN ef_search END
    FROM semantic.generation
    WHERE generation.id = generation_id AND index_id = known_index;
END
$body$;
