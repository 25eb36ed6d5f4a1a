-- Why the source of an index is not the table that its declaration names, or NULL if it is. The table was dropped,
-- replaced by another one that has its name now, or given another key. A table that was only renamed is followed.
CREATE FUNCTION semantic.source_problem_v1(known_index integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CASE
        WHEN source.oid IS NULL AND named.oid IS NULL THEN format(
            'its table %s was dropped: pg-semantic index drop %s', named.name, semantic_index.name)
        WHEN source.oid IS NULL THEN format(
            'its table %s was dropped, and another has that name now: pg-semantic index adopt %s',
            named.name, semantic_index.name)
        WHEN named.oid <> source.oid THEN format(
            'table %s is not the one that was indexed, which is now called %s: '
            'pg-semantic index adopt %s', named.name, CAST(source.oid AS regclass), semantic_index.name)
        WHEN NOT semantic.is_still_unique_key_v1(source.oid, generation.spec) THEN format(
            'several rows of %s can have the same %s, which was its key: make it unique again, or '
            'pg-semantic index drop %s and create the index with the current key',
            CAST(source.oid AS regclass), (
                SELECT string_agg(quote_ident(part ->> 'name'), ', ')
                FROM jsonb_array_elements(generation.spec -> 'key') AS part
            ), semantic_index.name)
    END
    FROM semantic.semantic_index
    JOIN semantic.generation ON generation.index_id = semantic_index.id AND generation.role = 'live'
    LEFT JOIN pg_class AS source ON source.oid = semantic_index.source
    LEFT JOIN pg_class AS chunks ON chunks.oid = generation.chunks
    LEFT JOIN pg_namespace ON pg_namespace.oid = chunks.relnamespace
    CROSS JOIN LATERAL (
        SELECT format('%I.%I', nspname, generation.spec ->> 'table') AS name,
               CAST(semantic.table_by_name_v1(format('%I.%I', nspname, generation.spec ->> 'table')) AS oid) AS oid
    ) AS named
    WHERE semantic_index.id = known_index
$body$;
