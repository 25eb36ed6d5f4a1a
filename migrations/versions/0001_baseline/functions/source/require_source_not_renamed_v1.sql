-- Called by a worker after it has read the table by name; its lock then keeps the name from changing. The error is
-- that of a locked table, so that the worker discards what it read and reads again under the new name.
CREATE FUNCTION semantic.require_source_not_renamed_v1(known_generation integer, named text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF EXISTS (
        SELECT FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.id = known_generation AND source IS DISTINCT FROM to_regclass(named)
    ) THEN
        RAISE EXCEPTION 'table % was renamed a moment ago', named USING ERRCODE = 'lock_not_available';
    END IF;
END
$body$;
