-- The source of an index, and the views and tables of one of its copies or of all, in the order in which they are
-- locked. Writers lock the source first, and a DELETE continues to receipts and chunks in the order of their foreign
-- keys, the oldest copy first. Searches and workers lock views before tables.
CREATE FUNCTION semantic.relations_in_lock_order_v1(known_index integer, only_generation integer) RETURNS regclass[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ARRAY(
    SELECT part.relation
    FROM semantic.semantic_index
    JOIN semantic.generation ON generation.index_id = semantic_index.id
    CROSS JOIN LATERAL (
        VALUES (1, 0, source), (2, generation.id, to_regclass('semantic.receipts_' || generation.id)),
               (3, generation.id, receipts), (4, generation.id, to_regclass('semantic.chunks_' || generation.id)),
               (5, generation.id, chunks)
    ) AS part (place, of_generation, relation)
    JOIN pg_class ON pg_class.oid = part.relation
    WHERE semantic_index.id = known_index AND generation.id = coalesce(only_generation, generation.id)
    GROUP BY part.place, part.of_generation, part.relation
    ORDER BY part.of_generation, part.place
);
