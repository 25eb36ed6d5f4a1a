-- Everything that keeps rows from being captured or compared, in words; NULL if nothing does.
CREATE FUNCTION semantic.capture_problem_v1(known_index integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT string_agg(said.problem, '; ') FROM (
        SELECT semantic.source_problem_v1(known_index)
        UNION ALL
        SELECT DISTINCT format('triggers of %s are %s: pg-semantic repair', lacking.relation, lacking.state)
        FROM semantic.semantic_index
        JOIN pg_class ON pg_class.oid = semantic_index.source
        CROSS JOIN semantic.missing_triggers_v1(semantic_index.source, semantic_index.name || '_capture') AS lacking
        WHERE semantic_index.id = known_index
        UNION ALL
        SELECT DISTINCT format(
            '%s has no foreign key to %s: a worker puts it back', lacking.relation, lacking.source
        )
        FROM semantic.unsound_foreign_keys_v1(known_index) AS lacking
        JOIN semantic.generation ON generation.id = lacking.generation_id
        WHERE lacking.name IS NULL AND semantic.is_still_unique_key_v1(lacking.source, generation.spec)
        UNION ALL
        SELECT format('rows of %s, which inherits from %s, are not indexed', string_agg(
                   CAST(CAST(inhrelid AS regclass) AS text), ', ' ORDER BY inhrelid), semantic_index.source)
        FROM semantic.semantic_index
        JOIN pg_class ON pg_class.oid = semantic_index.source AND pg_class.relkind <> 'p'
        JOIN pg_inherits ON inhparent = semantic_index.source
        WHERE semantic_index.id = known_index
        GROUP BY semantic_index.source
    ) AS said (problem)
$body$;
