-- The first dimensions of a vector, rotated as the prefixes of a copy are; NULL if it has no basis yet, or the
-- role may not read it. The copy is named by its id or by its chunk table.
CREATE FUNCTION semantic.rotated_v1(generation integer, chunks regclass, given vector_schema.vector) RETURNS vector_schema.vector
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CAST(array_agg(-(axis OPERATOR(vector_schema.<#>) given) ORDER BY number) AS vector_schema.vector)
    FROM semantic.readable_basis
    CROSS JOIN unnest(axes) WITH ORDINALITY AS axis (axis, number)
    WHERE generation_id = coalesce(
        rotated_v1.generation, (SELECT id FROM semantic.generation AS known WHERE known.chunks = rotated_v1.chunks)
    )
$body$;
