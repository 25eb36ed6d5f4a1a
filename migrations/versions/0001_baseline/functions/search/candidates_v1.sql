-- How many candidates the scan of a compressed vector index keeps, which is how many the first stage of a search hands on
-- to the second, which orders them by their vectors: `ef_search`, as in other searches, a third more, and one more for
-- each wanted row, because the first stage ranks some of them too low. With prefixes, NULL, and so all chunks, until every
-- chunk has its own, and for roles that may not read the basis. The copy is named by its id or by its chunk table. The
-- planner calls this too, to estimate what a LIMIT leaves.
CREATE FUNCTION semantic.candidates_v1(
    generation integer, chunks regclass, has_prefixes boolean, wanted integer, ef_search integer DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known integer := generation;
    width integer := ef_search;
BEGIN
    IF known IS NULL THEN
        SELECT id INTO known FROM semantic.generation AS named WHERE named.chunks = candidates_v1.chunks;
    END IF;
    IF has_prefixes THEN
        PERFORM FROM semantic.readable_basis WHERE generation_id = known AND filled_at IS NOT NULL;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF width IS NULL THEN
        SELECT recall.ef_search INTO width FROM semantic.recall WHERE generation_id = known;
        width := greatest(wanted * 2, coalesce(width, 100));
    END IF;
    RETURN greatest(wanted, least(1000, wanted + width + width / 3));
END
$body$;
